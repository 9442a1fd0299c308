"""The stage: one method, wherever it runs.

A local stage runs an engine here; a remote one stands for all the stages beyond the cut. `generate`
cannot tell them apart.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from cascade.engine import Engine
from cascade.events import Event
from cascade.request import GenerateRequest, Handoff


@runtime_checkable
class Stage(Protocol):
    """One step of the cascade, or several that run elsewhere."""

    @property
    def names(self) -> tuple[str, ...]:
        """The components this stage runs, in order."""
        ...

    def prefetch(self, handoff: Handoff) -> None:
        """Learn early what is already known; a remote stage starts to upload. Returns at once."""
        ...

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Do the work, yielding events; each component ends with its `StageFinished`.

        Closing the iterator cancels the work at the next step.

        Raises:
            InvalidRequest: the request or the handoff does not fit this stage.
            Cancelled: `terminate` was called.
        """
        ...

    def terminate(self) -> None:
        """End the work in progress inside its step, from another thread; harmless when idle."""
        ...

    def close(self) -> None:
        """Release what the stage holds."""
        ...


@runtime_checkable
class PreparedStage(Protocol):
    """A stage that can do some of its work before it has its start."""

    def prepare(self, request: GenerateRequest) -> None:
        """Begin with what follows from the request alone, in the background; returns at once.

        Args:
            request: one that will run here, its options resolved.
        """
        ...


@runtime_checkable
class EngineStage(Stage, Protocol):
    """A stage that runs engines on this machine, one for each of its component's graphs."""

    @property
    def engines(self) -> Mapping[str, Engine]:
        """What runs its graphs, by role."""
        ...

    def with_engines(self, engines: Mapping[str, Engine]) -> "EngineStage":
        """The same stage with other engines in their place; costs nothing to speak of.

        Args:
            engines: by role, one for each of `engines`.
        """
        ...
