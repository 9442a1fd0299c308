"""Work of the host that follows a run of an engine, and that rows of one run can share.

A stage hands its work over together with the inputs of the run. An engine behind which requests
share runs may do the work of several in one vectorised call; any other leaves it to the stage.
Knows neither what the work is nor who shares.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from cascade.engine import Engine
from cascade.types import Array


class HostWork(Protocol):
    """What the host makes of one row's outputs of a run, before the row asks for its next run."""

    @property
    def key(self) -> Hashable:
        """Equal for work on outputs of one engine that may be done in one call."""
        ...

    def together(
        self, works: Sequence[Any], outputs: Mapping[str, Array], begins: Sequence[int]
    ) -> list[Array | None]:
        """What each of some works comes to: the same bits as alone.

        Args:
            works: of this kind and key, this one among them.
            outputs: of the whole run, of the graph's shapes and dtypes, batch axis first.
            begins: of each work, the first of its rows along that axis.

        Returns:
            For each what it comes to, or None where it is better done alone.
        """
        ...


class WorkedRun(NamedTuple):
    """What came of a run and of the work that follows it."""

    outputs: dict[str, Array]
    """As `Engine.run` returns them."""
    found: Array | None
    """What the work came to; None where it is left to the caller."""


RunWith = Callable[[Mapping[str, Array], HostWork], WorkedRun]
"""The method `run_with` of an engine that can do the work of several rows together: a run, and
perhaps what follows it. Inputs, outputs and errors are those of `Engine.run`."""


def run_with(engine: Engine, inputs: Mapping[str, Array], work: HostWork) -> WorkedRun:
    """A run of any engine; its work is done where several rows share it, else left to the caller.

    Args:
        engine: of a graph.
        inputs: of the graph by name, with its shapes and dtypes.
        work: that follows.

    Raises:
        Cancelled: the run was ended from outside.
        EngineError: as `Engine.run`.
    """
    # Asked by name: a protocol's `isinstance` takes longer than a small question's whole work.
    shared: RunWith | None = getattr(engine, "run_with", None)
    if shared is None:
        return WorkedRun(engine.run(inputs), None)
    return shared(inputs, work)
