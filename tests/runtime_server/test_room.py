"""Both sides of each bound on what is inside, and the way back to zero."""

import pytest

from cascade.errors import ServerBusy
from runtime_server.admission.concurrency_limits import SHORTEST_RETRY_S, Room, RoomLimits
from runtime_server.telemetry.observer import NullObserver, Refusal


class Listening(NullObserver):
    """Remembers why requests were refused."""

    def __init__(self) -> None:
        self.reasons: list[Refusal] = []

    def refused(self, why: Refusal) -> None:
        """Remember."""
        self.reasons.append(why)


@pytest.fixture
def observer() -> Listening:
    """What the room tells."""
    return Listening()


@pytest.fixture
def room(observer: Listening) -> Room:
    """Room for 100 bytes, and for two requests of one caller."""
    return Room(RoomLimits(max_bytes=100, max_per_identity=2), observer)


def test_bytes_up_to_the_bound_fit_and_one_more_does_not(room: Room, observer: Listening) -> None:
    """The refusal changes nothing and says when to come back."""
    room.enter("ann", 99, 0)
    room.enter("bob", 1, 0)
    with pytest.raises(ServerBusy, match="100 bytes") as busy:
        room.enter("cyd", 1, 7.5)
    assert busy.value.retry_after_s == 7.5
    assert observer.reasons == ["bytes"]
    assert dict(room.by_identity) == {"ann": 1, "bob": 1}
    room.leave("bob", 1)
    room.enter("cyd", 1, 0)


def test_one_callers_requests_are_bounded_and_anothers_are_not(
    room: Room, observer: Listening
) -> None:
    """The third of one caller waits, the first of another does not."""
    room.enter("ann", 1, 0)
    room.enter("ann", 1, 0)
    with pytest.raises(ServerBusy, match="2 requests of this caller") as busy:
        room.enter("ann", 1, 0)
    assert busy.value.retry_after_s == SHORTEST_RETRY_S
    assert observer.reasons == ["identity"]
    room.enter("bob", 1, 0)
    room.leave("ann", 1)
    room.enter("ann", 1, 0)


def test_who_has_left_leaves_no_trace(room: Room) -> None:
    """Many callers over time cost nothing."""
    for number in range(1000):
        room.enter(f"caller-{number}", 10, 0)
        room.leave(f"caller-{number}", 10)
    assert (room.size_bytes, dict(room.by_identity)) == (0, {})
