"""Takes requests in and lets them go: twins join, kept results are handed out, orphans are ended.

Everything here happens on one event loop. Knows the index, the room and the executor behind the
core; not gRPC.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field

from cascade.errors import (
    Cancelled,
    CascadeError,
    DeadlineExceeded,
    RequestIdTaken,
    StageError,
    TransportError,
)
from cascade.events import Accepted
from runtime_server.admission.checks import Work
from runtime_server.admission.concurrency_limits import Room, RoomLimits
from runtime_server.admission.quota import Quota
from runtime_server.protocol.status import OPAQUE_CODES
from runtime_server.requests.coalescing_queue import Recorded
from runtime_server.requests.idempotency_index import IdempotencyIndex, KeptResult, RequestKey
from runtime_server.requests.result_broadcast import Listener, Production
from runtime_server.runtime.core import Core
from runtime_server.runtime.jobs import Delivery, Ended, Job
from runtime_server.telemetry.logs import log_error, log_event, reason_of
from runtime_server.telemetry.observer import Observer, Place
from wire.generate_call import GenerateCall

STOP_AGAIN_S = 0.02
"""A job that is to stop is told so again and again: its engine may be between two steps."""
LONGEST_SWEEP_S = 30.0
SHORTEST_SWEEP_S = 0.05
"""What is too old is given back by the next use of its store, or by a sweep so often."""
AT_ONCE = Accepted(queue_position=0, estimated_wait_s=0.0)


@dataclass(eq=False, slots=True)
class ActiveRequest:
    """One request's time inside."""

    key: RequestKey
    production: Production
    job: Job
    size_bytes: int
    begins_at: float
    """When it is likely to have waited enough, on the monotonic clock."""
    leaves_at: float
    """When it is likely to be done."""
    detach: bool
    linger_s: float
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    is_ending: bool = False
    """Whether somebody asked for its end."""
    was_told: bool = False
    """Whether the observer knows of an early end."""
    task: asyncio.Task[None] | None = None

    @property
    def fingerprint(self) -> bytes:
        """What it means."""
        return self.production.fingerprint


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """What one call listens to."""

    listener: Listener
    accepted: Accepted
    joined: bool
    """Whether an earlier call began the work."""
    seconds: dict[str, float]
    """Per hop on the server; complete at the end."""
    stay: ActiveRequest | None
    """None for a kept result."""


class RequestManager:
    """The requests of one server."""

    def __init__(self, core: Core, observer: Observer) -> None:
        """Nobody inside yet.

        Args:
            core: checks and runs.
            observer: is told of refusals and early ends.
        """
        config = core.config
        self._core = core
        self._observer = observer
        self._max_linger_s = config.max_linger_s
        self._lifetime_s = config.result_lifetime_s
        self.index: IdempotencyIndex[ActiveRequest] = IdempotencyIndex(
            budget_bytes=config.result_store_bytes,
            lifetime_s=config.result_lifetime_s,
            clock=time.monotonic,
            bundle_id=core.bundle_id,
        )
        self.limits = Room(
            RoomLimits(
                max_bytes=config.max_in_flight_bytes,
                max_per_identity=config.max_in_flight_per_identity,
            ),
            observer,
        )
        self.quota = Quota(config.quota_megapixels_per_minute, time.monotonic, observer)
        self._stays: set[ActiveRequest] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    def take(
        self, key: RequestKey, call: GenerateCall, work: Work, means: bytes, allowed_s: float | None
    ) -> Seat:
        """A place to listen to a request: new, joined, or kept.

        Args:
            key: who asks, under which id.
            call: what was asked for.
            work: the same, checked.
            means: its fingerprint.
            allowed_s: seconds until the call's deadline; None is no limit.

        Raises:
            RequestIdTaken: the id names other work.
            ServerBusy: no room now.
            DeadlineExceeded: its time is over, or it cannot be done in time.
            TransportError: the server is shutting down.
        """
        try:
            found = self.index.find(key, means)
        except RequestIdTaken:
            self._observer.refused("invalid")
            raise
        if found is not None:
            return self._seat(found, call.results_held)
        stay, accepted = self._begin(key, call, work, means, allowed_s)
        listener = stay.production.listen(call.results_held)
        return Seat(
            listener=listener,
            accepted=accepted,
            joined=False,
            seconds=stay.production.seconds,
            stay=stay,
        )

    def resume(self, key: RequestKey, held: int) -> Seat:
        """A place to listen to what an id names already.

        Args:
            key: who asks, for which id.
            held: results that the caller has.

        Raises:
            UnknownRequest: nothing of that id is here.
            CascadeError: it failed while nobody listened.
        """
        return self._seat(self.index.resume(key), held)

    def leave(self, seat: Seat, code: str) -> None:
        """A call is over; the last one to leave decides what becomes of the work.

        Args:
            seat: as it was given.
            code: `OK` when the caller has everything, else why the call ended.
        """
        stay = seat.stay
        if stay is None:
            return
        stay.production.leave(seat.listener)
        if stay.production.ended is not None:
            if code != "OK" and stay.production.ended.error is None:
                self._observer.stopped("delivery", code)
            self._close_when_left(stay)
        elif not stay.production.is_heard and not stay.detach:
            if stay.linger_s:
                loop = asyncio.get_running_loop()
                stay.timers.append(loop.call_later(stay.linger_s, self._abandon, stay, code))
            else:
                self._abandon(stay, code)

    def cancel(self, key: RequestKey) -> bool:
        """End a request by its id and forget what is kept of it; whether there was anything."""
        stay = self.index.of(key)
        if stay is not None:
            self._end(stay, Cancelled("the request was cancelled"))
            self.index.end(key, stay, None)
        return self.index.forget(key) or stay is not None

    async def close(self) -> None:
        """End everything that is inside."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        while self._stays:
            for stay in list(self._stays):
                self._end(stay, TransportError("server stopped"))
                if stay.production.ended is not None:
                    self._close(stay)
            await asyncio.sleep(STOP_AGAIN_S if self._stays else 0)

    def sweep_later(self) -> None:
        """Give back what is too old even if nobody uses the stores any more."""
        if self._sweeping is None:
            pause_s = min(max(self._lifetime_s / 4, SHORTEST_SWEEP_S), LONGEST_SWEEP_S)
            self._sweeping = asyncio.get_running_loop().call_later(pause_s, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        self.index.kept.forget_old()
        self._core.contexts.forget_old()
        if self.index.kept.count or self._core.contexts.count:
            self.sweep_later()

    def _seat(self, found: ActiveRequest | KeptResult, held: int) -> Seat:
        """A place at what is there already."""
        if isinstance(found, ActiveRequest):
            return Seat(
                listener=found.production.listen(held),
                accepted=Accepted(0, max(0.0, found.begins_at - time.monotonic())),
                joined=True,
                seconds=found.production.seconds,
                stay=found,
            )
        if found.error is not None:
            raise found.error.with_traceback(None)
        listener = Listener(held)
        for message in found.results[held:]:
            listener.outbox.put(Recorded(message))
        listener.outbox.put(Ended(None))
        return Seat(
            listener=listener,
            accepted=AT_ONCE,
            joined=True,
            seconds=dict(found.seconds),
            stay=None,
        )

    def _begin(
        self, key: RequestKey, call: GenerateCall, work: Work, means: bytes, allowed_s: float | None
    ) -> tuple[ActiveRequest, Accepted]:
        """Let a new request in, on its caller's account."""
        with self.quota.spending(key.identity, self._core.megapixels(work)):
            return self._admit(key, call, work, means, allowed_s)

    def _admit(
        self, key: RequestKey, call: GenerateCall, work: Work, means: bytes, allowed_s: float | None
    ) -> tuple[ActiveRequest, Accepted]:
        """Let a new request in."""
        loop = asyncio.get_running_loop()
        size_bytes = self._core.held_bytes(work)
        self.limits.enter(key.identity, size_bytes, self._next_to_leave_s(key.identity))
        production = Production(work, means)

        def deliver(delivery: Delivery) -> None:
            loop.call_soon_threadsafe(production.inbox.put, delivery)

        self._observer.arriving(key.request_id)
        try:
            job, accepted = self._core.submit(work, deliver, allowed_s, key.identity)
        except CascadeError:
            self._observer.turned_away(key.request_id)
            self.limits.leave(key.identity, size_bytes)
            raise
        begins_at = time.monotonic() + accepted.estimated_wait_s
        stay = ActiveRequest(
            key=key,
            production=production,
            job=job,
            size_bytes=size_bytes,
            begins_at=begins_at,
            leaves_at=begins_at + self._core.own_s(work),
            detach=call.detach,
            linger_s=min(call.linger_s, self._max_linger_s),
        )
        if allowed_s is not None:
            error = DeadlineExceeded("the time allowed for this request is over")
            stay.timers.append(loop.call_later(allowed_s, self._end, stay, error))
        self._stays.add(stay)
        self._observer.entered(key.request_id)
        self.index.begin(key, stay)
        stay.task = loop.create_task(self._record(stay))
        return stay, accepted

    def _next_to_leave_s(self, identity: str) -> float:
        """Seconds until the caller's first request, or else anybody's, is likely to be done."""
        own = [stay.leaves_at for stay in self._stays if stay.key.identity == identity]
        ends = own or [stay.leaves_at for stay in self._stays]
        return min(ends, default=0.0) - time.monotonic()

    async def _record(self, stay: ActiveRequest) -> None:
        """Follow one request to its end."""
        try:
            ended = await stay.production.record()
        except Exception as exc:  # noqa: BLE001 - raised again by whoever listens
            ended = Ended(exc)
            self._end(stay, StageError("a result could not be written"))
        self._tell(stay, ended.error, "running" if stay.production.has_begun else "queue")
        if not stay.production.is_heard and (stay.detach or stay.linger_s):
            log_unheard(stay, ended.error)
        stay.production.end(ended)
        self.index.end(stay.key, stay, self._result_to_keep(stay, ended))
        self.sweep_later()
        self._close_when_left(stay)

    def _result_to_keep(self, stay: ActiveRequest, ended: Ended) -> KeptResult | None:
        """What is kept of a request: its results, or why it failed while nobody listened."""
        if ended.error is None:
            return stay.production.kept()
        if stay.production.is_heard:
            return None
        error = ended.error
        if not isinstance(error, CascadeError):
            error = StageError("it failed while nobody listened")
        return KeptResult(fingerprint=stay.fingerprint, results=(), seconds={}, error=error)

    def _abandon(self, stay: ActiveRequest, code: str) -> None:
        """End a request that nobody came back to; `code` says why the last caller left.

        When the time is over gRPC ends the call a moment before or after the request's own timer.
        """
        if stay.production.is_heard:
            return
        if code == DeadlineExceeded.code and not stay.linger_s:
            self._end(stay, DeadlineExceeded("the time allowed for this request is over"))
        else:
            self._end(stay, Cancelled("the caller gave up"))

    def _end(self, stay: ActiveRequest, error: CascadeError) -> None:
        """End a request wherever it is; who asks for its id from now on begins anew."""
        if stay.job.ended:
            return
        runs = self._core.executor.stop(stay.job, error)
        self._tell(stay, error, "running" if runs else "queue")
        if isinstance(error, Cancelled):
            self.index.end(stay.key, stay, None)
        if runs:
            asyncio.get_running_loop().call_later(STOP_AGAIN_S, self._end, stay, error)

    def _tell(self, stay: ActiveRequest, error: Exception | None, where: Place) -> None:
        """Tell the observer of an early end, once."""
        if stay.was_told or not isinstance(error, Cancelled | DeadlineExceeded):
            return
        stay.was_told = True
        self._observer.stopped(where, error.code)

    def _close_when_left(self, stay: ActiveRequest) -> None:
        """Give back what a request holds once it has ended and nobody listens."""
        if stay.production.ended is not None and not stay.production.is_heard:
            self._close(stay)

    def _close(self, stay: ActiveRequest) -> None:
        """Give back what a request holds, once."""
        if stay not in self._stays:
            return
        self._stays.remove(stay)
        for timer in stay.timers:
            timer.cancel()
        self._core.executor.release(stay.job)
        self._observer.left(stay.key.request_id)
        self.limits.leave(stay.key.identity, stay.size_bytes)


def log_unheard(stay: ActiveRequest, error: Exception | None) -> None:
    """One line about work that ended while nobody listened; no call's line will say it."""
    if error is not None and (not isinstance(error, CascadeError) or error.code in OPAQUE_CODES):
        log_error(error, secrets.token_hex(8), stay.key.request_id)
    log_event(
        "unheard",
        request_id=stay.key.request_id,
        identity=stay.key.identity,
        outcome="ok" if error is None else reason_of(error),
        seconds={name: round(s, 6) for name, s in stay.production.seconds.items()},
    )
