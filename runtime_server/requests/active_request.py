"""One request inside: its plan, what it costs, its job, what it has made, and the calls it goes to.

Every result is encoded once, however many calls receive it. Lives on the event loop; knows events
and messages, not what is decided about the request.
"""

import asyncio
import time
from dataclasses import dataclass, field

from cascade.codecs.image import ImageFormat, encode_image
from cascade.codecs.tensor import pack_tensor
from cascade.errors import Cancelled, DeadlineExceeded
from cascade.events import Accepted, StageFinished
from cascade.types import ImageU8
from runtime_server.admission.checks import RequestPlan
from runtime_server.requests.idempotency_index import KeptResult, RequestKey
from runtime_server.runtime.coalescing_queue import CoalescingQueue, ThreadsafeSink
from runtime_server.runtime.job import Delivery, Ended, Job, make_job
from runtime_server.telemetry.server_events import Place, RequestStopped, TracedRequest
from runtime_server.telemetry.traceparent import TraceParent
from wire.generate_events import StageResult, encode_event
from wire.payloads import EncodedImage

MAX_SUBSCRIPTIONS = 4
"""Of one request. One more takes the place of the oldest, most likely a dead connection."""


AT_ONCE = Accepted(queue_position=0, estimated_wait_s=0.0, joined=True)
"""What a call is told that receives a kept result."""


@dataclass(frozen=True, slots=True)
class EncodedResult:
    """A component's result as the message that carries it; shared by all subscriptions."""

    message: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A checked call for a picture, as it is handed over."""

    key: RequestKey
    """Who asks, under which id."""
    plan: RequestPlan
    fingerprint: bytes
    """What it means."""
    detach: bool = False
    """Work on to the end when nobody is connected any more."""
    linger_s: float = 0.0
    """Work on for so long when nobody is connected any more."""
    results_held: int = 0
    """Results that the caller has already, counted from the first."""
    allowed_s: float | None = None
    """Seconds until the call's deadline; None is no limit."""
    trace: TraceParent | None = None
    """The call's span."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestCost:
    """What a request takes, computed once, before it is admitted."""

    megapixels: float
    """Of its caller's quota."""
    held_bytes: int
    """While it is inside."""
    seconds: float
    """Of work by itself, as far as steps were measured."""


@dataclass(eq=False, kw_only=True, slots=True)
class Subscription:
    """What one call receives of one request."""

    queue: CoalescingQueue[EncodedResult] = field(default_factory=CoalescingQueue)
    held: int = 0
    """Results that it does not want again, counted from the first."""
    accepted: Accepted = AT_ONCE
    """What the call is told first."""
    seconds: dict[str, float]
    """Per hop on the server; complete at the end."""
    request: "ActiveRequest | None" = None
    """None for a kept result."""


class ActiveRequest:
    """One request inside; used on the event loop alone, but for its job."""

    def __init__(self, submission: Submission, cost: RequestCost, deadline: float | None) -> None:
        """A request of which nothing has begun and which goes to no call yet.

        Args:
            submission: what was asked for.
            cost: what it takes.
            deadline: on the clock of the workers; None is no limit.
        """
        self.key = submission.key
        self.plan = submission.plan
        self.fingerprint = submission.fingerprint
        self.detach = submission.detach
        self.cost = cost
        self._inbox: CoalescingQueue[Delivery] = CoalescingQueue()
        self.job: Job = make_job(
            submission.plan,
            ThreadsafeSink(self._inbox, asyncio.get_running_loop()),
            deadline,
            TracedRequest(submission.key.request_id, submission.trace),
            submission.key.identity,
        )
        """What the workers have of it."""
        self.linger_s = submission.linger_s
        self.begins_at = self.ends_at = 0.0
        """When it is likely to have waited enough, and to be done, on the monotonic clock."""
        self.timers: list[asyncio.TimerHandle] = []
        self._end_was_told = False
        self.task: asyncio.Task[None] | None = None
        self.seconds: dict[str, float] = {"queue": 0.0, "encode": 0.0}
        self.ended: Ended | None = None
        self.has_begun = False
        """Whether any event came of it, so that it is no longer in its first queue."""
        self._results: list[bytes] = []
        self.subscriptions: list[Subscription] = []
        """The calls that receive it, the oldest first."""

    @property
    def has_subscribers(self) -> bool:
        """Whether any call receives it."""
        return bool(self.subscriptions)

    @property
    def is_over(self) -> bool:
        """Whether it has ended and every call has what it came for."""
        return self.ended is not None and not self.subscriptions

    def subscribe(self, held: int, accepted: Accepted) -> Subscription:
        """Add a call; it is given the results so far, and then all that comes.

        Args:
            held: results that it has already.
            accepted: what it is told first.
        """
        added = Subscription(held=held, accepted=accepted, seconds=self.seconds, request=self)
        # In the same turn of the loop as it is added: it misses nothing and gets nothing twice.
        for message in self._results[held:]:
            added.queue.put(EncodedResult(message))
        if self.ended is not None:
            added.queue.put(self.ended)
        if len(self.subscriptions) == MAX_SUBSCRIPTIONS:
            # A client whose connection broke asks again before the server has noticed.
            oldest = self.subscriptions.pop(0)
            oldest.queue.put(Ended(Cancelled("a later call of the same request took over")))
        self.subscriptions.append(added)
        return added

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a call."""
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)

    async def follow(self) -> Ended:
        """Pass events on until the end; returns it, not yet told to any call."""
        while not isinstance(delivery := await self._inbox.get(), Ended):
            self.has_begun = True
            item: Delivery | EncodedResult = delivery
            if isinstance(delivery, StageFinished):
                item = EncodedResult(await self._encode(delivery))
                self._results.append(item.message)
            number = len(self._results)
            for subscription in self.subscriptions:
                # `held` counts results from the first, so the next one has that number.
                if not isinstance(item, EncodedResult) or number > subscription.held:
                    subscription.queue.put(item)
        return delivery

    def end(self, ended: Ended) -> None:
        """Tell every call that nothing more will come."""
        self.ended = ended
        for subscription in self.subscriptions:
            subscription.queue.put(ended)

    def early_end(self, error: Exception | None, where: Place) -> RequestStopped | None:
        """What is to be told of an early end; None for others, and after the first time.

        Args:
            error: what it ends with.
            where: it is now.
        """
        if self._end_was_told or not isinstance(error, Cancelled | DeadlineExceeded):
            return None
        self._end_was_told = True
        return RequestStopped(where, error.code)

    def kept(self) -> KeptResult:
        """What was made, for later."""
        return KeptResult(
            fingerprint=self.fingerprint, results=tuple(self._results), seconds=dict(self.seconds)
        )

    async def _encode(self, event: StageFinished) -> bytes:
        """A component's result as a message; its share of the total is noted."""
        image, context, tensor = event.handoff.image, event.handoff.context, event.handoff.tensor
        seconds = dict(event.seconds)
        # One queue for each component; the caller is told the sum.
        self.seconds["queue"] += seconds.get("queue", 0.0)
        self.seconds[event.stage] = sum(s for name, s in seconds.items() if name != "queue")
        packed = None
        if image is not None:
            begun = time.monotonic()
            packed = await pack_image(image, self.plan.format, fewest_bytes=self.plan.fewest_bytes)
            seconds["encode"] = time.monotonic() - begun
            self.seconds["encode"] += seconds["encode"]
        vectors = event.handoff.vectors if context is not None else {}
        if image is not None or tensor is not None:
            # Beside those the context was the client's own or an earlier result.
            context, vectors = None, {}
        # Those of the start the caller has.
        made = {n: v for n, v in vectors.items() if n not in self.plan.start.vectors}
        result = StageResult(
            stage=event.stage,
            image=packed,
            context=None if context is None else pack_tensor(context),
            tensor=None if tensor is None else pack_tensor(tensor),
            vectors={name: pack_tensor(vector) for name, vector in made.items()},
            seconds=seconds,
            computed=event.computed,
            engine_s=event.engine_s,
        )
        return encode_event(result)


async def pack_image(
    image: ImageU8, format_: ImageFormat, *, fewest_bytes: bool = False
) -> EncodedImage:
    """Encode a picture beside the event loop.

    Args:
        image: `[height, width, 3]` uint8.
        format_: of the encoded picture.
        fewest_bytes: see `encode_image`.
    """
    data = await asyncio.to_thread(encode_image, image, format_, fewest_bytes=fewest_bytes)
    height, width = image.shape[:2]
    return EncodedImage(width=width, height=height, format=format_, data=data)
