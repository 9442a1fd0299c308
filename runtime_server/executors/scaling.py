"""How many replicas an executor has: one more while jobs wait, one fewer after a time of leisure.

The decision is a function of numbers and times; `ReplicaCount` carries it out, on the supervisor's
loop. Knows the queue and the places; not what a replica is.
"""

import asyncio
import threading
from dataclasses import dataclass

from runtime_server.executors.dispatch_queue import DispatchQueue
from runtime_server.executors.supervisor import Place, Supervisor
from runtime_server.system.clock import Clock
from runtime_server.telemetry.logs import log_event

EVERY_S = 0.25
"""Between two decisions."""
MORE_AFTER_S = 1.0
"""A job that waits so long asks for one more: to open a replica takes longer still."""
FEWER_AFTER_S = 60.0
"""So long one fewer must have been enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What an executor has to do, and with what, at one moment."""

    open: int
    """Replicas that are ready, begun, or being replaced."""
    ready: int
    idle: int
    """Of those that are ready, how many have no job."""
    longest_wait_s: float
    """Of the jobs that no replica has; 0 where none waits."""


class Scaler:
    """The decision; remembers only since when there was one too many."""

    def __init__(self, least: int, most: int) -> None:
        """Bounds of the number of replicas."""
        self._least, self._most = least, most
        self._spare_since: float | None = None

    def change(self, demand: Demand, now: float) -> int:
        """How many more: 1, 0 or -1.

        Args:
            demand: at this moment.
            now: on any monotonic clock, in seconds.
        """
        if demand.longest_wait_s > 0 or not (demand.idle or demand.ready < demand.open):
            self._spare_since = None
        elif self._spare_since is None:
            self._spare_since = now
        if demand.longest_wait_s >= MORE_AFTER_S:
            # One at a time: the next one may be enough, and shares the machine while it opens.
            return int(demand.ready == demand.open < self._most)
        if self._spare_since is None or now - self._spare_since < FEWER_AFTER_S:
            return 0
        self._spare_since = now
        return -int(demand.open > self._least)


class ReplicaCount:
    """Opens and closes places; used on the supervisor's loop."""

    def __init__(
        self,
        supervisor: Supervisor,
        queue: DispatchQueue,
        lock: threading.Lock,
        scaler: Scaler,
        clock: Clock,
    ) -> None:
        """Nothing changed yet.

        Args:
            supervisor: of the places.
            queue: whose jobs wait, and whose replicas the places have.
            lock: that guards it.
            scaler: decides.
            clock: monotonic seconds, those of the queue.
        """
        self._supervisor = supervisor
        self._queue = queue
        self._lock = lock
        self._scaler = scaler
        self._clock = clock

    async def follow(self) -> None:
        """Decide again and again."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.adjust()

    def adjust(self) -> None:
        """Decide once, and begin what was decided."""
        now = self._clock()
        with self._lock:
            change = self._scaler.change(self._demand(now), now)
            place = self._to_open() if change > 0 else self._to_close() if change < 0 else None
            if place is not None:
                # From here on no job is bound to it.
                place.state.ready = False
        if place is None:
            return
        if change > 0:
            self._supervisor.begin(place)
        else:
            self._supervisor.end(place)
        log_event("replicas", replica=place.state.number, count=len(self._supervisor.opened))

    def _demand(self, now: float) -> Demand:
        """What there is to do; under the lock."""
        opened = [place.state for place in self._supervisor.opened]
        ready = [state for state in opened if state.ready]
        waits = (now - job.enqueued_at for job in self._queue.waiting)
        return Demand(
            open=len(opened),
            ready=len(ready),
            idle=sum(not state.jobs for state in ready),
            longest_wait_s=max(waits, default=0.0),
        )

    def _to_open(self) -> Place | None:
        """The first place that has no replica."""
        closed = (place for place in self._supervisor.places if not place.is_open)
        return next(closed, None)

    def _to_close(self) -> Place | None:
        """The last place without a job; one that is not ready yet before the others."""
        free = [place for place in self._supervisor.opened if not place.state.jobs]
        return min(free, key=lambda p: (p.state.ready, -p.state.number), default=None)
