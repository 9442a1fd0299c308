"""From one executor's replicas to another's, one at a time, where there is no room for both.

Before the next executor opens, one replica of the present one finishes what it has and is closed;
the others follow as soon as nothing waits for them. Knows the queue and the places; nothing of
the next executor.
"""

import asyncio
import threading
import time

from runtime_server.executors.dispatch_queue import DispatchQueue
from runtime_server.executors.replica_work import ReplicaPool
from runtime_server.executors.supervisor import Place, Supervisor
from runtime_server.telemetry.logs import log_event

POLL_S = 0.01


class HandOver:
    """What one executor gives to the next; its methods may be called from any thread."""

    def __init__(
        self,
        supervisor: Supervisor,
        queue: DispatchQueue,
        lock: threading.Lock,
        pool: ReplicaPool,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Nothing given yet.

        Args:
            supervisor: of the places.
            queue: of their jobs.
            lock: that guards it.
            pool: says whether there is room beside.
            loop: of the supervisor.
        """
        self._supervisor = supervisor
        self._queue = queue
        self._lock = lock
        self._pool = pool
        self._loop = loop
        self._given: Place | None = None

    def give_way(self) -> None:
        """Close one replica where there is no room for more; waits until it has no job.

        The last one stays: without it every request would wait for the next executor.
        """
        if self._pool.has_room:
            return
        with self._lock:
            ready = [place for place in self._supervisor.opened if place.state.ready]
            if len(ready) < 2:
                return
            self._given = place = min(ready, key=lambda p: len(p.state.jobs))
        while not self._is_free(place):
            time.sleep(POLL_S)
        self._end(place)
        while place.is_open:
            time.sleep(POLL_S)

    def take_back(self) -> None:
        """Open what was given away: nothing took its place."""
        given, self._given = self._given, None
        if given is not None:
            self._loop.call_soon_threadsafe(self._supervisor.begin, given)

    def shrink(self) -> None:
        """Close the replicas that no job is in or waits for; the next executor has the others."""
        with self._lock:
            if self._queue.waiting or self._given is None:
                return
            idle = [place for place in self._supervisor.opened if not place.state.jobs]
            for place in idle:
                place.state.ready = False
        for place in idle:
            self._end(place)

    def _is_free(self, place: Place) -> bool:
        """Whether a place has no job; it gets none from now on."""
        with self._lock:
            place.state.ready = False
            return not place.state.jobs

    def _end(self, place: Place) -> None:
        """Close a replica soon."""
        log_event("replica_handed_over", replica=place.state.number)
        self._loop.call_soon_threadsafe(self._supervisor.end, place)
