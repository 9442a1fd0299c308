"""How many requests of this client may be in progress at one server (a fair semaphore).

A request that the server would refuse for want of room waits here instead, first come, first
served. Knows numbers; neither requests nor servers.
"""

import threading
from collections import deque
from concurrent.futures import Future

from wire.server_info import ServerInfo

Slot = Future[None]
"""Done once the request may ask."""


def max_open_requests(info: ServerInfo) -> int:
    """How many requests a server lets in at once when nobody else asks; 0 where it does not say.

    As many as may wait for one component, so that none is refused even before the first has begun.
    """
    limits = info.limits
    # About what the server counts for a request from a prompt: every result as raw pixels, until it
    # is done.
    held = 3 * sum(c.output_width * c.output_height for c in info.components)
    by_bytes = max(1, limits.max_in_flight_bytes // held) if held else 0
    said = (
        limits.max_queued_per_stage,
        limits.max_in_flight,
        limits.max_in_flight_per_identity,
        by_bytes if limits.max_in_flight_bytes else 0,
    )
    return min((limit for limit in said if limit), default=0)


class RequestSlots:
    """The slots of one server; used from any thread."""

    def __init__(self, count: int) -> None:
        """All of them free.

        Args:
            count: requests at once, at least 1; 0 is no limit.
        """
        # None, so that no number has to stand for "no limit" in the comparison below.
        self._free = count or None
        self._lock = threading.Lock()
        self._taken: set[Slot] = set()
        self._waiting: deque[Slot] = deque()

    def acquire(self) -> Slot:
        """The next slot; every slot is released, also one that was never free."""
        # A future rather than a semaphore: the wait is joined with those for the end and the
        # deadline.
        slot: Slot = Future()
        with self._lock:
            self._waiting.append(slot)
            self._grant()
        return slot

    def release(self, slot: Slot) -> None:
        """Give back a slot, or the place in the queue for it."""
        with self._lock:
            if slot in self._taken:
                self._taken.remove(slot)
            elif slot in self._waiting:
                self._waiting.remove(slot)
            self._grant()

    def _grant(self) -> None:
        """Give free slots to those that wait longest; the lock is held."""
        while self._waiting and (self._free is None or len(self._taken) < self._free):
            slot = self._waiting.popleft()
            self._taken.add(slot)
            # Under the lock: whoever waits only reads the future, and takes no lock in turn.
            slot.set_result(None)
