"""Scheduling decisions as functions of values."""

from dataclasses import dataclass, field

import pytest

from cascade.errors import Cancelled, DeadlineExceeded, ServerBusy
from runtime_server.admission.concurrency_limits import SHORTEST_RETRY_S
from runtime_server.batching.role_key import RoleKey
from runtime_server.batching.step_times import MEASURED_STEPS, StepTimes
from runtime_server.runtime.fair_shares import FairTurn
from runtime_server.runtime.forecast import forecast_s, pace
from runtime_server.runtime.job import remaining_steps
from runtime_server.runtime.queue_policy import (
    full_error,
    late_error,
    next_to_start,
    priority_deadline_of,
    stop_reason,
)


@dataclass(frozen=True)
class Place:
    """A request as the choice sees it."""

    position: int
    priority_deadline: float
    last: int = 3
    begun: bool = False
    caller: str = "one"
    turn: FairTurn = field(default_factory=FairTurn)


CAPS = {0: 1, 1: 4, 2: 2}


def chosen(queued: list[Place], running: list[Place]) -> int | None:
    """With room for four, and one waiting between components."""
    return next_to_start(queued, running, CAPS, max_running=4, max_waiting_between=1)


def test_an_idle_device_takes_the_most_urgent_whatever_it_waits_for() -> None:
    """Nothing waits for nothing."""
    assert chosen([], []) is None
    assert chosen([Place(0, 5.0), Place(2, 3.0), Place(1, 4.0)], []) == 1


def test_beside_others_only_who_can_join_or_is_more_urgent_begins() -> None:
    """A later request of another component would only slow down what was begun."""
    running = [Place(1, 2.0), Place(1, 3.0)]
    assert chosen([Place(0, 5.0), Place(2, 4.0)], running) is None
    assert chosen([Place(0, 5.0), Place(1, 9.0)], running) == 1
    assert chosen([Place(0, 2.5)], running) is None
    assert chosen([Place(0, 1.0)], running) == 0


def test_no_more_begin_than_share_a_run_or_have_a_thread() -> None:
    """A component whose rows run one by one holds one row."""
    assert chosen([Place(0, 5.0)], [Place(0, 1.0)]) is None
    assert chosen([Place(2, 5.0)], [Place(2, 1.0)]) == 0
    assert chosen([Place(2, 5.0)], [Place(2, 1.0), Place(2, 1.5)]) is None
    assert chosen([Place(1, 0.0)], [Place(1, float(n)) for n in range(1, 5)]) is None


def test_a_component_is_not_begun_while_too_many_wait_behind_it() -> None:
    """Only requests that have come from there count, and only where the request goes there."""
    behind = [Place(2, 6.0, begun=True), Place(2, 7.0, begun=True)]
    assert chosen([Place(1, 1.0), *behind], []) == 1
    assert chosen([Place(1, 1.0), *behind[:1]], []) == 0
    assert chosen([Place(1, 1.0, last=1), *behind], []) == 0
    assert chosen([Place(1, 1.0), Place(2, 6.0), Place(2, 7.0)], []) == 0


def test_a_turn_is_never_later_than_the_deadline_or_the_patience() -> None:
    """So a request without a deadline passes every one that comes much later."""
    assert priority_deadline_of(None, 100.0, 30.0) == 130.0
    assert priority_deadline_of(105.0, 100.0, 30.0) == 105.0
    assert priority_deadline_of(700.0, 100.0, 30.0) == 130.0


def test_the_median_of_step_times_ignores_outliers_and_follows_the_load() -> None:
    """One stall changes nothing; a lasting change takes over."""
    times, key = StepTimes(), RoleKey(1)
    assert times.seconds(key) == 0
    for seconds in (0.1, 0.1, 9.0, 0.1, 0.1):
        times.add(key, 1, seconds)
    assert times.seconds(key) == pytest.approx(0.1)
    for _ in range(MEASURED_STEPS):
        times.add(key, 1, 0.4)
    assert times.seconds(key) == pytest.approx(0.4)
    times.add(key, 2, 0.6)
    assert times.by_rows(key) == pytest.approx({1: 0.4, 2: 0.6})


def test_a_forecast_adds_all_that_is_before() -> None:
    """Steps times seconds, summed; a component never measured counts nothing."""
    own = {1: 4, 2: 3, 3: 100}
    step_s = {1: 0.5, 2: 2.0}
    assert forecast_s(own, [], step_s, {}) == pytest.approx(8.0)
    assert forecast_s(own, [{2: 2}], step_s, {}) == pytest.approx(12.0)


def test_a_forecast_knows_that_rows_share_runs() -> None:
    """Two rows of which each costs three quarters; but never less than one's own steps alone."""
    shared = {1: {1: 0.1, 2: 0.15}}
    assert pace(0, shared[1]) == pace(1, shared[1]) == 1
    assert pace(2, shared[1]) == pace(7, shared[1]) == pytest.approx(0.75)
    assert forecast_s({1: 10}, [{1: 10}], {1: 0.1}, shared) == pytest.approx(1.5)
    assert forecast_s({1: 10}, [{1: 1}], {1: 0.1}, shared) == pytest.approx(1.0)
    # Behind nobody it is one's own steps, as the delay of a refusal counts them.
    assert forecast_s({1: 10, 2: 3}, [], {1: 0.1, 2: 1.0}, shared) == pytest.approx(4.0)


def test_who_cannot_be_in_time_is_refused_with_the_reason() -> None:
    """Too long even alone: late, and no retry helps. Too much before it: busy, and when to come."""
    assert late_error(None, 9.0, 99.0) is None
    assert late_error(5.0, 4.0, 5.0) is None
    late = late_error(5.0, 6.0, 9.0)
    assert isinstance(late, DeadlineExceeded)
    assert "this takes 6 s here and 5 s are allowed" in str(late)
    assert late.retry_after_s is None
    busy = late_error(5.0, 4.0, 9.0)
    assert isinstance(busy, ServerBusy)
    assert "through in 9 s and 5 s are allowed" in str(busy)
    assert busy.retry_after_s == pytest.approx(4.0)


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
    assert full_error("base", 3, 4, [1.0]) is None
    busy = full_error("base", 4, 4, [1.0, 2.5])
    assert isinstance(busy, ServerBusy)
    assert "4 requests already wait for base" in str(busy)
    assert busy.retry_after_s == pytest.approx(3.5)
    unmeasured = full_error("base", 4, 4, [])
    assert isinstance(unmeasured, ServerBusy)
    assert unmeasured.retry_after_s == SHORTEST_RETRY_S
