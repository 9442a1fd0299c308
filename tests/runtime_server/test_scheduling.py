"""Scheduling decisions as functions of values."""

import pytest

from cascade.errors import Cancelled, DeadlineExceeded, ServerBusy
from runtime_server.scheduling import (
    MEASURED_STEPS,
    SHORTEST_RETRY_S,
    StepTimes,
    next_position,
    refuse_when_full,
    remaining_steps,
    stop_reason,
)


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ({0: 0, 1: 0, 2: 0}, None),
        ({0: 3, 1: 0, 2: 0}, 0),
        ({0: 3, 1: 1, 2: 0}, 1),
        ({0: 3, 1: 9, 2: 1}, 2),
        ({}, None),
    ],
)
def test_the_latest_component_with_work_runs_next(
    waiting: dict[int, int], expected: int | None
) -> None:
    """What was begun is finished before anything new begins."""
    queues = {position: [object()] * count for position, count in waiting.items()}
    assert next_position(queues) == expected


def test_the_median_of_step_times_ignores_outliers_and_follows_the_load() -> None:
    """One stall changes nothing; a lasting change takes over."""
    times = StepTimes()
    assert times.seconds_per_step(1) == 0
    for seconds in (0.1, 0.1, 9.0, 0.1, 0.1):
        times.add(1, seconds)
    assert times.seconds_per_step(1) == pytest.approx(0.1)
    for _ in range(MEASURED_STEPS):
        times.add(1, 0.4)
    assert times.seconds_per_step(1) == pytest.approx(0.4)


def test_an_estimate_adds_the_steps_of_every_component() -> None:
    """Steps times seconds, summed; a component never measured counts nothing."""
    times = StepTimes()
    times.add(1, 0.5)
    times.add(2, 2.0)
    assert times.estimate_s({1: 4, 2: 3, 3: 100}) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("position", "done", "expected"),
    [(0, 0, {0: 1, 1: 4, 2: 8}), (1, 3, {1: 1, 2: 8}), (2, 9, {2: 0}), (3, 0, {})],
)
def test_remaining_steps(position: int, done: int, expected: dict[int, int]) -> None:
    """Earlier components are over, the present one partly."""
    assert remaining_steps({0: 1, 1: 4, 2: 8}, position, done) == expected


def test_a_request_goes_on_until_it_is_stopped_or_late() -> None:
    """An explicit stop wins over the deadline; the deadline's own instant is late."""
    stop = Cancelled("enough")
    assert stop_reason(None, None, 5.0) is None
    assert stop_reason(None, 5.1, 5.0) is None
    assert isinstance(stop_reason(None, 5.0, 5.0), DeadlineExceeded)
    assert stop_reason(stop, 4.0, 5.0) is stop


def test_a_full_queue_says_when_to_come_back() -> None:
    """The delay is what runs before a place becomes free, with a floor."""
    refuse_when_full("base", 3, 4, [1.0])
    with pytest.raises(ServerBusy, match="4 requests already wait for base") as busy:
        refuse_when_full("base", 4, 4, [1.0, 2.5])
    assert busy.value.retry_after_s == pytest.approx(3.5)
    with pytest.raises(ServerBusy) as unmeasured:
        refuse_when_full("base", 4, 4, [])
    assert unmeasured.value.retry_after_s == SHORTEST_RETRY_S
