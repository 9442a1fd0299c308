"""Keeps the places of an executor filled with replicas that answer.

Opens one per place, asks each for a report again and again, and replaces those that are lost:
ended, or silent for too long. Lives on one event loop; knows handles, not what carries calls.
"""

import asyncio
import contextlib
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from cascade.errors import CascadeError, TransportError
from runtime_server.executors.dispatch_queue import ReplicaState
from runtime_server.executors.replica_work import (
    ReplicaHandle,
    ReplicaHello,
    ReplicaLost,
    ReplicaPool,
    ReplicaReport,
)
from runtime_server.system.clock import Clock
from runtime_server.telemetry.logs import log_event
from runtime_server.telemetry.server_events import LossReason

REPORT_S = 0.5
"""Between two reports of a replica."""
OVERDUE_STEPS = 10
"""A step that takes so many medians is never coming."""
FIRST_STEP_S = 60.0
"""Nothing is known of how long the first step of a component takes."""
STABLE_S = 30.0
"""A replica that lived so long is replaced at once; others after growing pauses."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


@dataclass(eq=False, kw_only=True, slots=True)
class Place:
    """One replica and what its server does with it."""

    state: ReplicaState
    handle: ReplicaHandle | None = None
    hello: ReplicaHello | None = None
    """Of the replica that is or was last in this place."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Each carries one attempt."""
    heard_at: float = 0.0
    """When anything came of an attempt, or the first of them was begun."""
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by an attempt that finds that the replica is lost."""
    ahead_s: float = 0.0
    """By which the clock of the replica is ahead of this process's."""
    opened: "asyncio.Future[ReplicaHello] | None" = None
    """Of the first replica in this place."""
    keeper: asyncio.Task[None] | None = None
    """Fills the place; None where it is to be empty."""

    @property
    def is_open(self) -> bool:
        """Whether it has a replica, or is to have one."""
        return self.keeper is not None


class Owner(Protocol):
    """Whoever gives the replicas work; called on the supervisor's loop."""

    def ready(self, place: Place, hello: ReplicaHello, seconds: float) -> None:
        """A replica takes work from now on, and took so long to be ready.

        Raises:
            CascadeError: it does not fit.
        """
        ...

    def reported(self, place: Place, report: ReplicaReport) -> None:
        """A replica said how it is."""
        ...

    def lost(self, place: Place, reason: LossReason) -> None:
        """A replica is no longer there."""
        ...


class Supervisor:
    """Fills places; used on one event loop."""

    def __init__(
        self,
        owner: Owner,
        pool: ReplicaPool,
        clock: Clock,
        silence_s: float,
    ) -> None:
        """No place yet.

        Args:
            owner: is told of replicas.
            pool: where replicas come from.
            clock: monotonic seconds.
            silence_s: least time without an answer after which a replica is replaced.
        """
        self._owner = owner
        self._pool = pool
        self._clock = clock
        self._silence_s = silence_s
        self.places: list[Place] = []

    async def open(self, places: Iterable[Place], count: int, at_once: int) -> None:
        """Fill the first places; returns when enough of them have a replica that is ready.

        Args:
            places: that may be filled.
            count: of them that are.
            at_once: so many are enough.

        Raises:
            CascadeError: one could not be opened.
        """
        self.places = list(places)
        filled = self.places[:count]
        for place in filled:
            place.opened = asyncio.get_running_loop().create_future()
            self.begin(place)
        opened = [place.opened for place in filled if place.opened]
        for one in opened:
            # One that is refused later is in the log.
            one.add_done_callback(lambda o: o.cancelled() or o.exception())
        for ready in itertools.islice(asyncio.as_completed(opened), at_once):
            await ready

    @property
    def opened(self) -> list[Place]:
        """Places that have a replica, or are to have one."""
        return [place for place in self.places if place.is_open]

    def begin(self, place: Place) -> None:
        """Fill an empty place from now on."""
        place.keeper = asyncio.get_running_loop().create_task(self._keep(place))

    def end(self, place: Place) -> None:
        """Empty a place that has no job, and leave it empty."""
        if place.keeper is not None:
            place.keeper.cancel()
        if place.handle is not None:
            place.handle.kill()
        place.keeper = place.handle = place.hello = None

    async def close(self) -> None:
        """End every replica and replace none."""
        keepers = [place.keeper for place in self.places if place.keeper is not None]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        for place in self.places:
            if place.handle is not None:
                place.handle.kill()

    async def _keep(self, place: Place) -> None:
        """Fill one place for ever."""
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            begun = self._clock()
            if not await self._fill(place):
                pause_s = next_pause(pause_s)
                continue
            reason = await self._watch(place)
            self._empty(place, reason)
            pause_s = 0.0 if self._clock() - begun > STABLE_S else next_pause(pause_s)

    async def _fill(self, place: Place) -> bool:
        """Open a replica in a place; whether it is ready."""
        begun = self._clock()
        place.lost = asyncio.Event()
        try:
            place.handle = self._pool.spawn()
            hello = place.hello = await place.handle.open()
            self._owner.ready(place, hello, self._clock() - begun)
        except (CascadeError, ReplicaLost) as exc:
            error = exc if isinstance(exc, CascadeError) else TransportError(str(exc))
            if place.handle is not None:
                place.handle.kill()
            if place.opened is not None and not place.opened.done():
                place.opened.set_exception(error)
            log_event(
                "replica_refused",
                level="error",
                replica=place.state.number,
                reason=error.reason,
                message=str(error),
            )
            return False
        log_event(
            "replica_ready",
            replica=place.state.number,
            pid=hello.pid,
            host=hello.host,
            total_s=self._clock() - begun,
        )
        if place.opened is not None and not place.opened.done():
            place.opened.set_result(hello)
        return True

    async def _watch(self, place: Place) -> LossReason:
        """Ask for reports until the replica is lost; why it is."""
        handle = place.handle
        assert handle is not None  # noqa: S101 - a place is watched once it is filled
        while True:
            sent = self._clock()
            try:
                async with asyncio.timeout(silence_limit(self._silence_s, place)):
                    report = await handle.report()
            except TimeoutError:
                return "silent"
            except ReplicaLost:
                return "died"
            place.ahead_s = report.clock_s - (sent + self._clock()) / 2
            self._owner.reported(place, report)
            if self._clock() - place.heard_at > step_limit(self._silence_s, place):
                return "silent"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await place.lost.wait()
            if place.lost.is_set():
                return "died"

    def _empty(self, place: Place, reason: LossReason) -> None:
        """A replica is lost."""
        place.lost.set()
        if place.handle is not None:
            place.handle.kill()
        log_event(
            "replica_lost",
            level="error",
            replica=place.state.number,
            reason=reason,
            jobs=len(place.state.jobs),
        )
        self._owner.lost(place, reason)


def silence_limit(least_s: float, place: Place) -> float:
    """Seconds without an answer after which a replica is given up.

    At least ten medians of its slowest step.
    """
    slowest_s = max(place.state.report.step_s.values(), default=0.0)
    return max(least_s, OVERDUE_STEPS * slowest_s)


def step_limit(least_s: float, place: Place) -> float:
    """Seconds without an event of any job after which a replica is given up; inf without a job."""
    if not place.state.jobs:
        return math.inf
    known = place.state.report.step_s
    if not all(known.get(job.position) for job in place.state.jobs):
        # The first steps of a component may compile a graph.
        return max(least_s, FIRST_STEP_S)
    return silence_limit(least_s, place)


def next_pause(pause_s: float) -> float:
    """Seconds before the next attempt, after one that came to nothing."""
    return min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * pause_s))
