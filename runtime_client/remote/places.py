"""Who may ask a server now: as many requests as it lets in at once, the others in order.

A request that a server would refuse for want of room waits here instead, first come, first served.
Knows numbers; neither requests nor servers.
"""

import threading
from collections import deque
from concurrent.futures import Future

from wire.server_info import ServerInfo

Place = Future[None]
"""Done once the request may ask."""


def max_open_requests(info: ServerInfo) -> int:
    """How many requests a server lets in at once when nobody else asks; 0 where it does not say.

    As many as may wait for one component, so that none is refused even before the first has begun.
    """
    limits = info.limits
    held = 3 * sum(component.output_resolution**2 for component in info.components)
    by_bytes = max(1, limits.max_in_flight_bytes // held) if held else 0
    said = (
        limits.max_queued_per_stage,
        limits.max_in_flight,
        limits.max_in_flight_per_identity,
        by_bytes if limits.max_in_flight_bytes else 0,
    )
    return min((limit for limit in said if limit), default=0)


class Places:
    """The places of one server; used from any thread."""

    def __init__(self, count: int) -> None:
        """All of them free.

        Args:
            count: requests at once, at least 1; 0 is no limit.
        """
        self._free = count or None
        self._lock = threading.Lock()
        self._taken: set[Place] = set()
        self._waiting: deque[Place] = deque()

    def take(self) -> Place:
        """The next place; whoever takes one gives it back, also one that was never free."""
        place: Place = Future()
        with self._lock:
            self._waiting.append(place)
            self._admit()
        return place

    def give_back(self, place: Place) -> None:
        """Leave a place, or the line for it."""
        with self._lock:
            if place in self._taken:
                self._taken.remove(place)
            elif place in self._waiting:
                self._waiting.remove(place)
            self._admit()

    def _admit(self) -> None:
        """Whoever waits longest takes what is free."""
        while self._waiting and (self._free is None or len(self._taken) < self._free):
            place = self._waiting.popleft()
            self._taken.add(place)
            place.set_result(None)
