"""One run of an engine for several rows: done together, and again one by one where that fails.

So that no row suffers from another's inputs. Called without any lock, by the thread that leads the
run. Knows an engine and arrays; neither who waits nor when a run begins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cascade.engine import Engine
from cascade.errors import Cancelled, EngineError
from cascade.types import Array
from runtime_server.batching.batch_arrays import all_finite, cut, joined, rows_of
from runtime_server.batching.graph_axes import GraphAxes

Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class RowResult:
    """What a run came to for one row."""

    outputs: dict[str, Array] = field(default_factory=dict)
    error: Exception | None = None
    """Why there are none."""


class Part(Protocol):
    """One row's share of a run."""

    @property
    def inputs(self) -> Arrays:
        """By name, batch axis first."""
        ...

    @property
    def is_cancelled(self) -> bool:
        """Whether its result is not wanted any more; may become true while the engine runs."""
        ...


def run_together(engine: Engine, parts: Sequence[Part], axes: GraphAxes) -> list[RowResult]:
    """Outputs or error of every part.

    Args:
        engine: of the graph.
        parts: of one batch key.
        axes: of the graph.
    """
    if len(parts) == 1:
        return [run_alone(engine, parts[0].inputs)]
    try:
        outputs = engine.run(joined([part.inputs for part in parts], axes))
        slices = cut(outputs, [rows_of(part.inputs) for part in parts])
    # Ended from outside for all of them: nothing is to be done again.
    except Cancelled as exc:
        return [RowResult(error=exc)] * len(parts)
    except Exception:  # noqa: BLE001 - found again, and raised, by the row whose fault it is
        return [run_again(engine, part) for part in parts]
    return [
        RowResult(own) if all_finite(own) else run_again(engine, part)
        for own, part in zip(slices, parts, strict=True)
    ]


def run_again(engine: Engine, part: Part) -> RowResult:
    """One row of a run that failed, by itself; not where it was cancelled meanwhile."""
    if part.is_cancelled:
        return RowResult(error=Cancelled("the run was ended from outside"))
    return run_alone(engine, part.inputs)


def run_alone(engine: Engine, inputs: Arrays) -> RowResult:
    """A run of one row's inputs as they are."""
    try:
        outputs = engine.run(inputs)
    except Exception as exc:  # noqa: BLE001 - raised again on the row's own thread
        return RowResult(error=exc)
    # An engine that overflowed would be noticed only in the picture.
    if not all_finite(outputs):
        return RowResult(error=EngineError("the engine's output holds NaN or infinity"))
    return RowResult(outputs)
