"""The requests of one bundle: deduplication, result cache, abandoned requests.

A map from request ids to `ActiveRequest`s, and timers. A request id is an idempotency key: asking
again under it never computes twice. Knows the index, the limits and the workers; not gRPC.

No locks: everything here happens on one event loop, and between finding that an id is new and
entering its request nothing is awaited, so no duplicate comes between. The threads of the workers
reach a request through its job's event sink alone.
"""

import asyncio
import secrets
import time
from collections.abc import Iterable

from cascade.errors import (
    Cancelled,
    CascadeError,
    DeadlineExceeded,
    RequestIdTaken,
    StageError,
    TransportError,
    UnknownRequest,
)
from cascade.events import Accepted
from runtime_server.admission.checks import RequestPlan
from runtime_server.admission.concurrency_limits import InFlightLimits, held_bytes
from runtime_server.admission.quota import Quota, megapixels_of
from runtime_server.core import Core
from runtime_server.protocol.status import OPAQUE_CODES
from runtime_server.requests.active_request import (
    ActiveRequest,
    EncodedResult,
    RequestCost,
    Submission,
    Subscription,
)
from runtime_server.requests.idempotency_index import IdempotencyIndex, KeptResult, RequestKey
from runtime_server.requests.kept_pictures import image_start
from runtime_server.runtime.job import Ended
from runtime_server.stores.sweeper import Sweeper
from runtime_server.telemetry.logs import log_error, log_event, reason_of
from runtime_server.telemetry.server_events import (
    Emit,
    RequestAdmitted,
    RequestRefused,
    RequestReleased,
    RequestStopped,
)
from wire.starts import ImageStart, KeptStart

STOP_AGAIN_S = 0.02
"""A job that is to stop is told so again and again: its engine may be between two steps."""


class RequestManager:
    """The requests of one server, with one bundle."""

    def __init__(self, core: Core, emit: Emit) -> None:
        """Nothing inside yet.

        Args:
            core: runs the requests.
            emit: where refusals and early ends are told.
        """
        config = core.config
        self._core = core
        self._emit = emit
        self._max_linger_s = config.max_linger_s
        self.index: IdempotencyIndex[ActiveRequest] = IdempotencyIndex(
            budget_bytes=config.result_store_bytes,
            lifetime_s=config.result_lifetime_s,
            clock=time.monotonic,
            bundle_id=core.bundle_id,
        )
        self.limits = InFlightLimits(
            max_bytes=config.max_in_flight_bytes,
            max_per_identity=config.max_in_flight_per_identity,
            emit=emit,
        )
        self.quota = Quota(config.quota_megapixels_per_minute, time.monotonic, emit)
        self._inside: set[ActiveRequest] = set()
        self.sweeper = Sweeper(
            lambda: (self.index.kept, self._core.contexts), config.result_lifetime_s
        )
        """Of kept results and contexts."""

    def submit(self, submission: Submission) -> Subscription:
        """Receive a request: a new one, a running one that it duplicates, or a kept result.

        Raises:
            RequestIdTaken: the id names other work.
            ServerBusy: no room now.
            DeadlineExceeded: its time is over, or it cannot be done in time.
            TransportError: the server is shutting down.
        """
        try:
            found = self.index.find(submission.key, submission.fingerprint)
        except RequestIdTaken:
            self._emit(RequestRefused("invalid"))
            raise
        if found is not None:
            return join(found, submission.results_held)
        request, accepted = self._begin(submission)
        return request.subscribe(submission.results_held, accepted)

    def resume(self, key: RequestKey, held: int) -> Subscription:
        """Receive what an id names already.

        Args:
            key: who asks, for which id.
            held: results that the caller has.

        Raises:
            UnknownRequest: nothing of that id is here.
            CascadeError: it failed while nobody was connected.
        """
        return join(self.index.resume(key), held)

    def kept_start(self, key: RequestKey, start: KeptStart) -> ImageStart | Subscription:
        """The kept picture that a call starts from, as if the caller had sent it.

        Args:
            key: who asks, under which id.
            start: names a finished request of the same caller.

        Returns:
            What the call streams, where the picture is gone but its own id names work already.

        Raises:
            UnknownRequest: nothing of that request is kept, or no such picture.
            InvalidRequest: the picture is of another size than the caller says.
        """
        try:
            found = self.index.kept_of(RequestKey(key.identity, start.request_id))
            return image_start(start, found)
        except UnknownRequest:
            # A call that is repeated after a break needs the picture no more.
            if self.index.knows(key):
                return self.resume(key, 0)
            raise

    def leave(self, subscription: Subscription, code: str) -> None:
        """A call is over; the last one decides what becomes of the work.

        Args:
            subscription: as it was given.
            code: `OK` when the caller has everything, else why the call ended.
        """
        request = subscription.request
        if request is None:
            return
        request.unsubscribe(subscription)
        if request.ended is not None:
            if code != "OK" and request.ended.error is None:
                self._emit(RequestStopped("delivery", code))
            if request.is_over:
                self._close(request)
        elif not request.has_subscribers and not request.detach:
            if request.linger_s:
                loop = asyncio.get_running_loop()
                request.timers.append(
                    loop.call_later(request.linger_s, self._abandon, request, code)
                )
            else:
                self._abandon(request, code)

    def cancel(self, key: RequestKey) -> bool:
        """End a request by its id and forget what is kept of it; whether there was anything."""
        request = self.index.of(key)
        if request is not None:
            self._end(request, Cancelled("the request was cancelled"))
            # A request that is ending is not found by its id any more.
            self.index.end(key, request, None)
        return self.index.forget(key) or request is not None

    async def close(self) -> None:
        """End everything that is inside."""
        self.sweeper.close()
        while self._inside:
            for request in list(self._inside):
                self._end(request, TransportError("server stopped"))
                if request.ended is not None:
                    self._close(request)
            await asyncio.sleep(STOP_AGAIN_S if self._inside else 0)

    def _begin(self, submission: Submission) -> tuple[ActiveRequest, Accepted]:
        """Let a new request in, on its caller's account."""
        # Counted once, before anything is taken: quota, bytes and the estimate agree.
        cost = cost_of(submission.plan, self._core)
        identity = submission.key.identity
        # Quota first: who is over it is told so, whether or not there is room.
        with self.quota.spending(identity, cost.megapixels):
            self.limits.acquire(identity, cost.held_bytes, next_end_s(self._inside, identity))
            try:
                return self._admit(submission, cost)
            except CascadeError:
                self.limits.release(identity, cost.held_bytes)
                raise

    def _admit(self, submission: Submission, cost: RequestCost) -> tuple[ActiveRequest, Accepted]:
        """Queue a new request and follow it."""
        loop = asyncio.get_running_loop()
        allowed_s = submission.allowed_s
        deadline = None if allowed_s is None else time.monotonic() + allowed_s
        request = ActiveRequest(submission, cost, deadline)
        request.linger_s = min(submission.linger_s, self._max_linger_s)
        accepted = self._core.executor.submit(request.job)
        request.begins_at = time.monotonic() + accepted.estimated_wait_s
        request.ends_at = request.begins_at + cost.seconds
        if allowed_s is not None:
            error = DeadlineExceeded("the time allowed for this request is over")
            request.timers.append(loop.call_later(allowed_s, self._end, request, error))
        self._inside.add(request)
        self._emit(RequestAdmitted(request.key.request_id))
        # Admitted, so nothing below may fail: its place would never be given back.
        self.index.begin(request.key, request)
        request.task = loop.create_task(self._follow(request))
        return request, accepted

    async def _follow(self, request: ActiveRequest) -> None:
        """Follow one request to its end."""
        try:
            ended = await request.follow()
        except Exception as exc:  # noqa: BLE001 - raised again by every call that receives it
            ended = Ended(exc)
            # The job goes on otherwise, for nobody.
            self._end(request, StageError("a result could not be written"))
        # What a worker ended by itself: its deadline passed between two steps.
        tell(
            self._emit, request.early_end(ended.error, "running" if request.has_begun else "queue")
        )
        if not request.has_subscribers and (request.detach or request.linger_s):
            log_unheard(request, ended.error)
        request.end(ended)
        self.index.end(request.key, request, result_to_keep(request, ended))
        self.sweeper.sweep_later()
        if request.is_over:
            self._close(request)

    def _abandon(self, request: ActiveRequest, code: str) -> None:
        """End a request that nobody came back to; `code` says why the last caller left.

        When the time is over gRPC ends the call a moment before or after the request's own timer.
        """
        if request.has_subscribers:
            return
        if code == DeadlineExceeded.code and not request.linger_s:
            self._end(request, DeadlineExceeded("the time allowed for this request is over"))
        else:
            self._end(request, Cancelled("the caller gave up"))

    def _end(self, request: ActiveRequest, error: CascadeError) -> None:
        """End a request wherever it is; who asks for its id from now on begins anew."""
        if request.job.ended:
            return
        runs = self._core.executor.stop(request.job, error)
        tell(self._emit, request.early_end(error, "running" if runs else "queue"))
        # At once, and not when the engine has ended: the id is free for a new attempt.
        if isinstance(error, Cancelled):
            self.index.end(request.key, request, None)
        if runs:
            # The engine may have been between two steps, where nothing could be ended.
            asyncio.get_running_loop().call_later(STOP_AGAIN_S, self._end, request, error)

    def _close(self, request: ActiveRequest) -> None:
        """Give back what a request holds, once."""
        if request not in self._inside:
            return
        # First, since it may be called from the end of the job and from the end of a call.
        self._inside.remove(request)
        for timer in request.timers:
            timer.cancel()
        # One that has fired keeps its arguments, the request among them: a circle with its results.
        request.timers.clear()
        self._core.executor.release(request.job)
        self._emit(RequestReleased(request.key.request_id))
        self.limits.release(request.key.identity, request.cost.held_bytes)


def tell(emit: Emit, stopped: RequestStopped | None) -> None:
    """Emit an early end, if it is one that was not told yet."""
    if stopped is not None:
        emit(stopped)


def join(found: ActiveRequest | KeptResult, held: int) -> Subscription:
    """Receive what is there already.

    Args:
        found: running, or kept.
        held: results that the caller has.

    Raises:
        CascadeError: it failed while nobody was connected.
    """
    if isinstance(found, ActiveRequest):
        wait_s = max(0.0, found.begins_at - time.monotonic())
        return found.subscribe(held, Accepted(0, wait_s, joined=True))
    if found.error is not None:
        # The traceback is that of another call; it would grow with everyone who resumes.
        raise found.error.with_traceback(None)
    kept = Subscription(seconds=dict(found.seconds))
    for message in found.results[held:]:
        kept.queue.put(EncodedResult(message))
    kept.queue.put(Ended(None))
    return kept


def next_end_s(inside: Iterable[ActiveRequest], identity: str) -> float:
    """Seconds until the caller's first request, or else anybody's, is likely to be done."""
    ends = {request: request.ends_at for request in inside}
    own = [at for request, at in ends.items() if request.key.identity == identity]
    return min(own or ends.values(), default=0.0) - time.monotonic()


def cost_of(plan: RequestPlan, core: Core) -> RequestCost:
    """What a checked request takes of a bundle that is hosted."""
    return RequestCost(
        megapixels=megapixels_of(plan.costs.values()),
        held_bytes=held_bytes(plan),
        seconds=sum(n * core.executor.step_s(at) for at, n in plan.steps.items()),
    )


def result_to_keep(request: ActiveRequest, ended: Ended) -> KeptResult | None:
    """What is kept of a request: its results, or why it failed while nobody was connected."""
    if ended.error is None:
        return request.kept()
    if request.has_subscribers:
        return None
    error = ended.error
    if not isinstance(error, CascadeError):
        error = StageError("it failed while nobody listened")
    return KeptResult(fingerprint=request.fingerprint, results=(), seconds={}, error=error)


def log_unheard(request: ActiveRequest, error: Exception | None) -> None:
    """One line about work that ended while nobody was connected; no call's line will say it."""
    if error is not None and (not isinstance(error, CascadeError) or error.code in OPAQUE_CODES):
        log_error(error, secrets.token_hex(8), request.key.request_id)
    log_event(
        "unheard",
        request_id=request.key.request_id,
        identity=request.key.identity,
        outcome="ok" if error is None else reason_of(error),
        seconds={name: round(s, 6) for name, s in request.seconds.items()},
    )
