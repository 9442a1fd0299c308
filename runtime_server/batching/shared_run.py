"""One run of an engine for several rows: done together, and again one by one where that fails.

So is the host's work that follows it, where rows handed over work of one key.

So that no row suffers from another's inputs. Called without any lock, by the thread that leads the
run. Knows an engine and arrays; neither who waits nor when a run begins.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from cascade.engine import Engine
from cascade.errors import Cancelled, EngineError
from cascade.host_work import HostWork
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
    whole: Arrays | None = None
    """The outputs of the run that these are cut out of; None where there are none."""
    begin: int = 0
    """The first of its rows among them."""
    found: Array | None = None
    """What the work that follows came to, where it was done together with others'."""


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

    @property
    def work(self) -> HostWork | None:
        """What the host does with its outputs, if others can share it."""
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
        rows = [rows_of(part.inputs) for part in parts]
        slices = cut(outputs, rows)
    # Ended from outside for all of them: nothing is to be done again.
    except Cancelled as exc:
        return [RowResult(error=exc)] * len(parts)
    except Exception:  # noqa: BLE001 - found again, and raised, by the row whose fault it is
        return [run_again(engine, part) for part in parts]
    return [
        RowResult(own, whole=outputs, begin=sum(rows[:at]))
        if all_finite(own)
        else run_again(engine, part)
        for at, (own, part) in enumerate(zip(slices, parts, strict=True))
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


def members_of(parts: Sequence[Part], results: Sequence[RowResult]) -> dict[Hashable, list[int]]:
    """The parts of a run, by number and key, that share the key of their work with another."""
    if len(parts) == 1:
        return {}
    found: dict[Hashable, list[int]] = defaultdict(list)
    for at, (part, result) in enumerate(zip(parts, results, strict=True)):
        if part.work is not None and result.whole is not None:
            found[part.work.key].append(at)
    return {key: members for key, members in found.items() if len(members) > 1}


def work_together(parts: Sequence[Part], results: Sequence[RowResult]) -> list[RowResult]:
    """The results with what the work of their parts came to; without, where it is left to them.

    Args:
        parts: of one run.
        results: of each part.
    """
    found = list(results)
    for members in members_of(parts, results).values():
        wanted = [at for at in members if not parts[at].is_cancelled]
        works = [work for at in wanted if (work := parts[at].work) is not None]
        whole = results[members[0]].whole
        if not works or whole is None:
            continue
        try:
            made = works[0].together(works, whole, [results[at].begin for at in wanted])
        except Exception:  # noqa: BLE001, S112 - found again, and raised, by the row whose fault it is
            continue
        for at, own in zip(wanted, made, strict=True):
            found[at] = replace(found[at], found=own)
    return found
