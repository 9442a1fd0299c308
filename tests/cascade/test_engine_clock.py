"""The clock of a stage's engines."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from cascade.engine_clock import EngineClock
from cascade.errors import EngineError
from cascade.host_work import HostWork, WorkedRun, run_with
from cascade.types import Array


class Slow:
    """Takes as long as the test says, by setting the clock that it is measured with forward."""

    def __init__(self, now: list[float]) -> None:
        self.now, self.terminated, self.closed = now, 0, 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Two seconds; fails on no input."""
        self.now[0] += 2.0
        if not inputs:
            raise EngineError("nothing to do")
        return dict(inputs)

    def terminate(self) -> None:
        """Counted."""
        self.terminated += 1

    def close(self) -> None:
        """Counted."""
        self.closed += 1


def test_a_clock_counts_the_runs_of_all_its_engines_and_nothing_between_them() -> None:
    """Two engines, three runs, one of which fails: six seconds, whatever passes between."""
    now = [10.0]
    clock = EngineClock(now=lambda: now[0])
    slow = Slow(now)
    engines = clock.on({"body": slow, "heads": slow})
    given = {"x": np.zeros(1, np.float32)}
    assert engines["body"].run(given)["x"] is given["x"]
    now[0] += 100.0
    engines["heads"].run(given)
    with pytest.raises(EngineError):
        engines["heads"].run({})
    assert clock.seconds == 6.0
    engines["body"].terminate()
    engines["body"].close()
    assert (slow.terminated, slow.closed) == (1, 1)


class Working(Slow):
    """Does the work that follows in its run."""

    def run_with(self, inputs: Mapping[str, Array], work: HostWork) -> WorkedRun:
        """The work of the one row."""
        outputs = self.run(inputs)
        return WorkedRun(outputs, work.together([work], outputs, [0])[0])


class First:
    """Work that takes the first number of each row."""

    key = "first"

    def together(
        self, works: Sequence["First"], outputs: Mapping[str, Array], begins: Sequence[int]
    ) -> list[Array | None]:
        """See `HostWork`."""
        return [outputs["x"][begin, :1] for begin in begins[: len(works)]]


def test_work_reaches_an_engine_that_shares_it_through_the_clock_and_no_other() -> None:
    """The stage of a plain engine is left to do it; either run is measured."""
    now = [0.0]
    clock = EngineClock(now=lambda: now[0])
    engines = clock.on({"plain": Slow(now), "sharing": Working(now)})
    given = {"x": np.array([[5.0, 6.0]], np.float32)}
    outputs, found = run_with(engines["plain"], given, First())
    assert outputs["x"] is given["x"]
    assert found is None
    found = run_with(engines["sharing"], given, First()).found
    assert found is not None
    assert found.tolist() == [5.0]
    assert clock.seconds == 4.0
