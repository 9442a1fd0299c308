"""The retry decision, and the loop around it with a clock that does not wait."""

from dataclasses import dataclass, field

import pytest

from cascade.errors import (
    BundleMismatch,
    Cancelled,
    CascadeError,
    DeadlineExceeded,
    InvalidRequest,
    ServerBusy,
    StageError,
    TransportError,
    UnknownContext,
)
from runtime_client.deadline import Deadline
from runtime_client.retry import (
    Pacing,
    RetryBudget,
    RetryPolicy,
    pause_before_retry,
    with_retries,
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
    call: FailingCall,
    clock: FakeClock,
    allowed_s: float = 60.0,
    budget: RetryBudget | None = None,
) -> str:
    """`with_retries` on the fake clock, without jitter."""
    return with_retries(
        call,
        policy=POLICY,
        budget=RetryBudget() if budget is None else budget,
        deadline=Deadline.after(allowed_s, clock),
        pacing=Pacing(sleep=clock.sleep, chance=lambda: MIDDLE),
    )


def pause(attempt: int, error: CascadeError, chance: float = MIDDLE) -> float | None:
    """The decision with time to spare."""
    return pause_before_retry(POLICY, attempt, error, chance=chance, remaining_s=60.0)


def test_pauses_double() -> None:
    """0.1, 0.2, 0.4 s between four attempts."""
    pauses = [pause(attempt, TransportError("gone")) for attempt in (1, 2, 3)]
    assert pauses == [0.1, 0.2, 0.4]


def test_pauses_are_bounded() -> None:
    """However many attempts, no pause of its own is longer than 2 s."""
    patient = RetryPolicy(attempts=100)
    error = TransportError("gone")
    assert pause_before_retry(patient, 30, error, chance=MIDDLE, remaining_s=60.0) == 2.0


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 0.08), (0.5, 0.1), (1.0, 0.12)])
def test_jitter_is_a_fifth(chance: float, expected: float) -> None:
    """Chance moves the pause by at most 20 % either way."""
    assert pause(1, TransportError("gone"), chance) == pytest.approx(expected)


def test_the_last_attempt_is_the_fourth() -> None:
    """After four failures nothing is tried again."""
    assert pause(4, TransportError("gone")) is None


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
    error = ServerBusy("full", retry_after_s=5.0)
    assert pause_before_retry(POLICY, 1, error, chance=MIDDLE, remaining_s=4.0) is None


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


def test_a_budget_bounds_what_a_broken_server_gets() -> None:
    """Half of ten tokens, then one attempt per call; successes give tenths back."""
    budget = RetryBudget()
    attempts = []
    for _ in range(4):
        call = FailingCall([TransportError("gone")] * 9)
        with pytest.raises(TransportError):
            repeat(call, FakeClock(), budget=budget)
        attempts.append(call.calls)
    assert attempts == [4, 1, 1, 1]
    for _ in range(100):
        repeat(FailingCall([]), FakeClock(), budget=budget)
    assert repeat(FailingCall([TransportError("gone")]), FakeClock(), budget=budget) == "done"


def test_a_server_that_says_when_costs_no_budget() -> None:
    """Whoever is asked to come back may, however often."""
    budget = RetryBudget()
    for _ in range(30):
        busy = FailingCall([ServerBusy("full", retry_after_s=0.5)])
        assert repeat(busy, FakeClock(), budget=budget) == "done"
