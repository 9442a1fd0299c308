"""generate: the order, what is handed on, and that nothing keeps running."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cascade.errors import EngineError, StageError
from cascade.events import Event, Progress, StageFinished
from cascade.generate import generate
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage

REQUEST = GenerateRequest(prompt="a cat")


class FakeStage:
    """Hands on a picture of its own number; writes down all that happens to it."""

    def __init__(self, number: int, log: list[Any], *, finishes: bool = True) -> None:
        self.number = number
        self.log = log
        self.finishes = finishes
        self.error: Exception | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Its one name."""
        return (f"stage{self.number}",)

    def prefetch(self, handoff: Handoff) -> None:
        """Write down what it learnt early."""
        self.log.append(("prefetch", self.number, handoff))

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Two steps and a result."""
        assert request is REQUEST
        self.log.append(("run", self.number, handoff))
        try:
            yield Progress(self.names[0], 1, 2)
            if self.error is not None:
                raise self.error
            yield Progress(self.names[0], 2, 2)
            if self.finishes:
                yield StageFinished(self.names[0], self.result())
        finally:
            self.log.append(("closed", self.number))

    def result(self) -> Handoff:
        """What it hands on; equal pictures of one stage are the same object."""
        if not hasattr(self, "_result"):
            self._result = Handoff(image=np.full((1, 1, 3), self.number, np.uint8))
        return self._result

    def terminate(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to release."""


def three() -> tuple[list[FakeStage], list[Any]]:
    """Three stages with one log."""
    log: list[Any] = []
    return [FakeStage(n, log) for n in range(3)], log


def test_the_fake_is_a_stage() -> None:
    """The fake keeps the contract that it stands for."""
    assert isinstance(FakeStage(0, []), Stage)


def test_events_come_in_order() -> None:
    """Every stage's events come whole, one stage after the other."""
    stages, _ = three()
    events = list(generate(stages, REQUEST))
    assert [e.stage for e in events] == [f"stage{n}" for n in range(3) for _ in range(3)]
    assert [type(e) for e in events] == [Progress, Progress, StageFinished] * 3


def test_each_stage_starts_where_the_one_before_ended() -> None:
    """The first gets the prompt, every other what its predecessor finished with."""
    stages, log = three()
    list(generate(stages, REQUEST))
    given = [entry[2] for entry in log if entry[0] == "run"]
    assert given[0] == Handoff(prompt="a cat")
    assert given[1] is stages[0].result()
    assert given[2] is stages[1].result()


def test_later_stages_learn_the_newest_handoff_first() -> None:
    """Before a stage runs, all later ones are told what it starts from; earlier ones are not."""
    stages, log = three()
    list(generate(stages, REQUEST))
    order = [(what, number) for what, number, *_ in log]
    assert order == [
        ("prefetch", 1), ("prefetch", 2), ("run", 0), ("closed", 0),
        ("prefetch", 2), ("run", 1), ("closed", 1),
        ("run", 2), ("closed", 2),
    ]  # fmt: skip
    told = [entry[2] for entry in log if entry[0] == "prefetch"]
    assert told[0] is told[1]
    assert told[0].prompt == "a cat"
    assert told[2] is stages[0].result()


def test_a_start_replaces_the_prompt() -> None:
    """Work that begins half way starts from what is there already."""
    stages, log = three()
    start = Handoff(context=np.ones((2, 4), np.float16))
    list(generate(stages[1:], REQUEST, start))
    assert next(entry[2] for entry in log if entry[0] == "run") is start


@pytest.mark.parametrize("taken", [1, 2, 4])
def test_closing_ends_the_stage_that_runs(taken: int) -> None:
    """Who stops listening stops the work: the running stage is closed, later ones never start."""
    stages, log = three()
    events = generate(stages, REQUEST)
    for _ in range(taken):
        next(events)
    events.close()  # type: ignore[attr-defined]
    running = (taken - 1) // 3
    assert log[-1] == ("closed", running)
    assert [entry[1] for entry in log if entry[0] == "run"] == list(range(running + 1))


def test_a_stage_without_a_result_is_a_broken_stage() -> None:
    """Ending without a result is a StageError that names the stage, and nothing more runs."""
    stages, log = three()
    stages[1].finishes = False
    with pytest.raises(StageError, match="stage1 ended without a result"):
        list(generate(stages, REQUEST))
    assert ("closed", 1) in log
    assert not any(entry[:2] == ("run", 2) for entry in log)


def test_errors_pass_as_they_are() -> None:
    """What a stage raises reaches the caller, after the stage was closed; all stay usable."""
    stages, log = three()
    stages[1].error = EngineError("broken")
    with pytest.raises(EngineError, match="broken") as caught:
        list(generate(stages, REQUEST))
    assert caught.value is stages[1].error
    assert log[-1] == ("closed", 1)
    stages[1].error = None
    assert list(generate(stages, REQUEST))[-1].stage == "stage2"


def test_plain_iterators_are_events_too() -> None:
    """A stage may return any iterator, also one that cannot be closed."""

    class Plain(FakeStage):
        def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
            assert request is REQUEST
            return iter([StageFinished("plain", handoff)])

    finished = list(generate([Plain(0, [])], REQUEST))
    assert finished == [StageFinished("plain", Handoff(prompt="a cat"))]


def test_no_stages_no_events() -> None:
    """An empty list does nothing."""
    assert list(generate([], REQUEST)) == []
