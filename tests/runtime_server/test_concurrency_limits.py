"""Both sides of each bound on what is inside, and the way back to zero."""

import pytest

from cascade.errors import ServerBusy
from runtime_server.admission.concurrency_limits import SHORTEST_RETRY_S, InFlightLimits
from runtime_server.telemetry.server_events import RequestRefused, ServerEvent


@pytest.fixture
def events() -> list[ServerEvent]:
    """What the limits tell."""
    return []


@pytest.fixture
def limits(events: list[ServerEvent]) -> InFlightLimits:
    """Room for 100 bytes, and for two requests of one caller."""
    return InFlightLimits(max_bytes=100, max_per_identity=2, emit=events.append)


def test_bytes_up_to_the_bound_fit_and_one_more_does_not(
    limits: InFlightLimits, events: list[ServerEvent]
) -> None:
    """The refusal changes nothing and says when to come back."""
    limits.acquire("ann", 99, 0)
    limits.acquire("bob", 1, 0)
    with pytest.raises(ServerBusy, match="100 bytes") as busy:
        limits.acquire("cyd", 1, 7.5)
    assert busy.value.retry_after_s == 7.5
    assert events == [RequestRefused("bytes")]
    assert [limits.count(name) for name in ("ann", "bob", "cyd")] == [1, 1, 0]
    limits.release("bob", 1)
    limits.acquire("cyd", 1, 0)


def test_one_callers_requests_are_bounded_and_anothers_are_not(
    limits: InFlightLimits, events: list[ServerEvent]
) -> None:
    """The third of one caller waits, the first of another does not."""
    limits.acquire("ann", 1, 0)
    limits.acquire("ann", 1, 0)
    with pytest.raises(ServerBusy, match="2 requests of this caller") as busy:
        limits.acquire("ann", 1, 0)
    assert busy.value.retry_after_s == SHORTEST_RETRY_S
    assert events == [RequestRefused("identity")]
    limits.acquire("bob", 1, 0)
    limits.release("ann", 1)
    limits.acquire("ann", 1, 0)


def test_who_has_left_leaves_no_trace(limits: InFlightLimits) -> None:
    """Many callers over time cost nothing."""
    for number in range(1000):
        limits.acquire(f"caller-{number}", 10, 0)
        limits.release(f"caller-{number}", 10)
    assert limits.size_bytes == 0
    assert limits.is_idle
