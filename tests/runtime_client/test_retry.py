"""The retry decision, and the loop around it with a clock that does not wait."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from cascade.errors import (
    BundleMismatch,
    Cancelled,
    CascadeError,
    DeadlineExceeded,
    InvalidRequest,
    QuotaExceeded,
    ServerBusy,
    StageError,
    TransportError,
    UnknownContext,
)
from runtime_client.deadline import Deadline
from runtime_client.remote.retry import (
    RETRIED,
    Retrier,
    RetryBudget,
    RetryPolicy,
    pause_before_retry,
)

POLICY = RetryPolicy()
MIDDLE = 0.5
"""The chance for which jitter neither adds nor takes."""


@dataclass
class FakeClock:
    """Time that passes only in sleeps."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """The time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class FailingCall:
    """Fails with each error in turn, then succeeds."""

    errors: list[CascadeError]
    calls: int = 0

    def __call__(self) -> str:
        """One attempt."""
        self.calls += 1
        if self.calls <= len(self.errors):
            raise self.errors[self.calls - 1]
        return "done"


def repeat(
    call: Callable[[], str],
    clock: FakeClock,
    allowed_s: float = 60.0,
    *,
    budget: RetryBudget | None = None,
    policy: RetryPolicy = POLICY,
    broken_at: float | None = None,
) -> str:
    """The loop of every caller, on the fake clock and without jitter."""
    spent = RetryBudget(clock) if budget is None else budget
    deadline = Deadline.after(allowed_s, clock)
    retrier = Retrier(policy, spent, deadline, chance=lambda: MIDDLE, broken_at=broken_at)
    while True:
        try:
            result = call()
        except RETRIED as error:
            clock.sleep(retrier.pause_after(error))
        else:
            retrier.note_success()
            return result


def pause(attempt: int, error: CascadeError, chance: float = MIDDLE) -> float | None:
    """The decision right after the first failure."""
    return pause_before_retry(POLICY, attempt, error, chance=chance, spent_s=0.0)


def unanswered() -> TransportError:
    """A connection that is not there."""
    error = TransportError("no connection")
    error.was_answered = False
    return error


def test_pauses_double() -> None:
    """0.1, 0.2, 0.4 s between four attempts."""
    pauses = [pause(attempt, TransportError("gone")) for attempt in (1, 2, 3)]
    assert pauses == [0.1, 0.2, 0.4]


def test_pauses_are_bounded() -> None:
    """However many attempts, no pause of its own is longer than 2 s."""
    patient = RetryPolicy(patience_s=1e9)
    for attempt in (30, 100_000):
        error = TransportError("gone")
        assert pause_before_retry(patient, attempt, error, chance=MIDDLE, spent_s=60.0) == 2.0


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 0.08), (0.5, 0.1), (1.0, 0.12)])
def test_jitter_is_a_fifth(chance: float, expected: float) -> None:
    """Chance moves the pause by at most 20 % either way."""
    assert pause(1, TransportError("gone"), chance) == pytest.approx(expected)


def test_patience_is_at_its_end_after_a_second() -> None:
    """With a server that is not there; one without room is asked as long as there is time."""
    for spent_s, expected in ((0.2, 0.8), (0.3, None)):
        error = TransportError("gone")
        assert pause_before_retry(POLICY, 4, error, chance=MIDDLE, spent_s=spent_s) == expected
    for kind in (ServerBusy, QuotaExceeded):
        assert pause_before_retry(POLICY, 9, kind("full"), chance=MIDDLE, spent_s=250.0) == 2.0


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("bad"),
        BundleMismatch("other"),
        UnknownContext("forgotten"),
        StageError("bug"),
        Cancelled("enough"),
        DeadlineExceeded("late"),
    ],
)
def test_other_errors_are_final(error: CascadeError) -> None:
    """Only a missing or busy server is worth another attempt."""
    assert pause(1, error) is None


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_the_servers_delay_is_honoured(chance: float) -> None:
    """Never earlier than asked for, at most a fifth later."""
    found = pause(1, ServerBusy("full", retry_after_s=5.0), chance)
    assert found is not None
    assert 5.0 <= found <= 6.0


def test_no_pause_beyond_the_deadline() -> None:
    """A retry that would come too late is not waited for."""
    clock, call = FakeClock(), FailingCall([ServerBusy("full", retry_after_s=5.0)] * 9)
    with pytest.raises(ServerBusy):
        repeat(call, clock, allowed_s=4.0)
    assert (call.calls, clock.slept) == (1, [])


def test_a_full_server_is_asked_until_the_deadline() -> None:
    """As often as it takes, however small the hint of the server."""
    clock, call = FakeClock(), FailingCall([ServerBusy("full", retry_after_s=0.1)] * 99)
    assert repeat(call, clock, allowed_s=300.0) == "done"
    assert max(clock.slept) == 2.0


def test_a_server_that_was_there_is_asked_for_as_long_as_it_lingers() -> None:
    """One that is back after 2 s is reached; one that stays away is given up after 5 s."""
    patient = RetryPolicy(patience_s=5.0)
    clock, down_until = FakeClock(), 102.0

    def restarting() -> str:
        if clock.now < down_until:
            raise unanswered()
        return "done"

    broken_at = clock.now
    assert repeat(restarting, clock, policy=patient, broken_at=broken_at) == "done"
    down_until = 1e9
    with pytest.raises(TransportError):
        repeat(restarting, clock, policy=patient, broken_at=broken_at)
    assert 104.0 <= clock.now <= 105.0


def test_the_loop_returns_the_first_success() -> None:
    """Two failures, two pauses, one result."""
    clock, call = FakeClock(), FailingCall([TransportError("gone"), ServerBusy("full")])
    assert repeat(call, clock) == "done"
    assert clock.slept == [0.1, 0.2]
    assert call.calls == 3


def test_the_loop_raises_the_last_error() -> None:
    """The caller sees the error of the fourth attempt."""
    errors: list[CascadeError] = [TransportError(f"attempt {n}") for n in range(1, 9)]
    call = FailingCall(errors)
    with pytest.raises(TransportError, match="attempt 4"):
        repeat(call, FakeClock())
    assert call.calls == 4


def test_the_loop_does_not_touch_final_errors() -> None:
    """A wrong request is sent once."""
    call = FailingCall([InvalidRequest("bad")])
    with pytest.raises(InvalidRequest):
        repeat(call, FakeClock())
    assert call.calls == 1


def test_a_deadline_runs_out() -> None:
    """What remains shrinks with the clock, and nothing left is an error."""
    clock = FakeClock()
    deadline = Deadline.after(2.0, clock)
    clock.sleep(1.5)
    assert deadline.remaining_s() == pytest.approx(0.5)
    clock.sleep(0.5)
    with pytest.raises(DeadlineExceeded, match="2 s"):
        deadline.remaining_s()


def test_a_budget_bounds_what_a_failing_server_gets() -> None:
    """Half of ten tokens, then one attempt per call."""
    clock, budget = FakeClock(), RetryBudget(lambda: 0.0)
    attempts = []
    for _ in range(4):
        call = FailingCall([TransportError("failed")] * 9)
        with pytest.raises(TransportError):
            repeat(call, clock, budget=budget)
        attempts.append(call.calls)
    assert attempts == [4, 1, 1, 1]
    for _ in range(100):
        repeat(FailingCall([]), clock, budget=budget)
    assert repeat(FailingCall([TransportError("gone")]), clock, budget=budget) == "done"


def test_a_budget_refills_with_time() -> None:
    """A quarter of a minute after the worst outage a failure is retried, without a good request."""
    clock = FakeClock()
    budget = RetryBudget(clock)
    while budget.allows_retry(TransportError("failed")):
        pass
    for _ in range(20):
        assert not budget.allows_retry(TransportError("failed"))
    clock.sleep(11.9)
    assert not budget.allows_retry(TransportError("failed"))
    clock.sleep(2.2)
    assert budget.allows_retry(TransportError("failed"))


def test_a_lost_connection_costs_no_budget() -> None:
    """It hits all requests at once, and trying it again burdens nobody."""
    budget = RetryBudget(lambda: 0.0)
    assert all(budget.allows_retry(unanswered()) for _ in range(100))
    assert budget.allows_retry(TransportError("failed"))


def test_a_server_that_says_when_costs_no_budget() -> None:
    """Whoever is asked to come back may, however often."""
    budget = RetryBudget(lambda: 0.0)
    for _ in range(30):
        busy = FailingCall([ServerBusy("full", retry_after_s=0.5)])
        assert repeat(busy, FakeClock(), budget=budget) == "done"
