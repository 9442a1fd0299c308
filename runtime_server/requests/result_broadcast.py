"""One request inside: what it has made so far, and who listens to it.

Every result is encoded once, however many listen. Lives on the event loop; knows events and
messages, not what is decided about the request.
"""

import asyncio
import time
from dataclasses import dataclass, field

from cascade.codecs.image import ImageFormat, encode_image
from cascade.codecs.tensor import pack_tensor
from cascade.errors import Cancelled
from cascade.events import StageFinished
from cascade.types import ImageU8
from runtime_server.admission.checks import Work
from runtime_server.requests.coalescing_queue import CoalescingQueue, Recorded
from runtime_server.requests.idempotency_index import KeptResult
from runtime_server.runtime.jobs import Ended
from wire.generate_events import StageResult, encode_event
from wire.payloads import EncodedImage

MAX_LISTENERS = 4
"""Of one request. One more takes the place of the oldest, most likely a dead connection."""


@dataclass(eq=False, slots=True)
class Listener:
    """One call that is told what happens."""

    held: int = 0
    """Results that it does not want again, counted from the first."""
    outbox: CoalescingQueue = field(default_factory=CoalescingQueue)


class Production:
    """What is made for one request."""

    def __init__(self, work: Work, fingerprint: bytes) -> None:
        """Nothing made yet, nobody listening.

        Args:
            work: the request.
            fingerprint: what it means.
        """
        self.work = work
        self.fingerprint = fingerprint
        self.inbox = CoalescingQueue()
        """Where the executor's deliveries are put."""
        self.seconds: dict[str, float] = {"queue": 0.0, "encode": 0.0}
        self.ended: Ended | None = None
        self.has_begun = False
        """Whether anything was heard of it, so that it is no longer in its first queue."""
        self._results: list[bytes] = []
        self._listeners: list[Listener] = []

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Who listens now."""
        return tuple(self._listeners)

    def listen(self, held: int) -> Listener:
        """Add a listener; it is told the results so far, and then all that comes.

        Args:
            held: results that it has already.
        """
        listener = Listener(held)
        for message in self._results[held:]:
            listener.outbox.put(Recorded(message))
        if self.ended is not None:
            listener.outbox.put(self.ended)
        if len(self._listeners) == MAX_LISTENERS:
            oldest = self._listeners.pop(0)
            oldest.outbox.put(Ended(Cancelled("a later call of the same request took over")))
        self._listeners.append(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Remove a listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def record(self) -> Ended:
        """Take deliveries in until the end; returns it, not yet told to anybody."""
        while not isinstance(delivery := await self.inbox.get(), Ended):
            self.has_begun = True
            if isinstance(delivery, StageFinished):
                delivery = Recorded(await self._pack(delivery))
                self._results.append(delivery.message)
            number = len(self._results)
            for listener in self._listeners:
                if not isinstance(delivery, Recorded) or number > listener.held:
                    listener.outbox.put(delivery)
        return delivery

    def end(self, ended: Ended) -> None:
        """Tell everybody that nothing more will come."""
        self.ended = ended
        for listener in self._listeners:
            listener.outbox.put(ended)

    def kept(self) -> KeptResult:
        """What was made, for later."""
        return KeptResult(
            fingerprint=self.fingerprint, results=tuple(self._results), seconds=dict(self.seconds)
        )

    async def _pack(self, event: StageFinished) -> bytes:
        """A component's result as a message; its share of the total is noted."""
        image, context = event.handoff.image, event.handoff.context
        seconds = dict(event.seconds)
        self.seconds["queue"] += seconds.get("queue", 0.0)
        self.seconds[event.stage] = sum(s for name, s in seconds.items() if name != "queue")
        packed = None
        if image is not None:
            begun = time.monotonic()
            packed = await pack_image(image, self.work.format)
            seconds["encode"] = time.monotonic() - begun
            self.seconds["encode"] += seconds["encode"]
            context = None
        result = StageResult(
            stage=event.stage,
            image=packed,
            context=None if context is None else pack_tensor(context),
            seconds=seconds,
            computed=event.computed,
        )
        return encode_event(result)


async def pack_image(image: ImageU8, format_: ImageFormat) -> EncodedImage:
    """Encode a picture beside the event loop."""
    data = await asyncio.to_thread(encode_image, image, format_)
    height, width = image.shape[:2]
    return EncodedImage(width=width, height=height, format=format_, data=data)
