"""The messages of one Generate call and what they cost; a reader that is too slow is cut off.

Knows the call's context and its subscription; nothing of the request's fate.
"""

import asyncio
import time
from typing import Any

from cascade.errors import CascadeError, DeadlineExceeded
from cascade.events import Preview, Progress
from runtime_server.app.call_metrics import time_is_over
from runtime_server.app.departures import cancelled_if_gone
from runtime_server.protocol.oversized import shrink_result
from runtime_server.requests.active_request import EncodedResult, Subscription, pack_image
from runtime_server.requests.idempotency_index import RequestKey
from runtime_server.runtime.job import Delivery, Ended
from runtime_server.telemetry.logs import log_event, reason_of
from wire.fragments import split
from wire.generate_events import Done, EncodedPreview, encode_event
from wire.limits import MAX_MESSAGE_BYTES

HEARTBEAT_S = 4.0
"""Longest silence once a component works: the last progress is sent again. A client that receives
bytes sends no ping, and the answer to a ping would wait behind a picture on a slow line until the
client takes the line for dead. Clients may ping after 5 s without a byte."""


class ResponseStream:
    """One call's answer."""

    def __init__(
        self, context: Any, key: RequestKey, bytes_received: int, *, in_fragments: bool = False
    ) -> None:
        """Nothing sent yet.

        Args:
            context: the servicer context of the call.
            key: who asks, for which request; for the log.
            bytes_received: size of the request.
            in_fragments: whether the caller joins what is larger than a message.
        """
        self._in_fragments = in_fragments
        self._context = context
        self._key = key
        self._begun = time.monotonic()
        self._encoding_s = 0.0
        self.bytes_received = bytes_received
        self.bytes_sent = 0
        self.code = "CANCELLED"
        """How the call ended, by name."""
        self._outcome = "cancelled"
        self._progress: bytes | None = None
        """The last one, as it was sent."""

    async def run(self, subscription: Subscription, reader_timeout_s: float) -> None:
        """Write what happens until the request has ended.

        Args:
            subscription: where it comes from.
            reader_timeout_s: a message that is not taken for so long is the last one.

        Raises:
            Exception: whatever the request ended with.
            DeadlineExceeded: the reader takes nothing.
        """
        try:
            await self._write(encode_event(subscription.accepted), reader_timeout_s)
            while not isinstance(
                delivery := await self._next(subscription, reader_timeout_s), Ended
            ):
                message = await self._message(delivery)
                if message is not None:
                    await self._write_whole(message, reader_timeout_s)
            if delivery.error is not None:
                raise delivery.error
            seconds = dict(subscription.seconds)
            seconds["encode"] += self._encoding_s
            done = Done(
                seconds=seconds, bytes_received=self.bytes_received, bytes_sent=self.bytes_sent
            )
            await self._write(encode_event(done), reader_timeout_s)
        except Exception as exc:
            self._outcome = reason_of(exc)
            self.code = exc.code if isinstance(exc, CascadeError) else "INTERNAL"
            raise
        self._outcome, self.code = "ok", "OK"

    async def _next(
        self, subscription: Subscription, reader_timeout_s: float
    ) -> Delivery | EncodedResult | Ended:
        """What happens next; meanwhile the last progress again and again."""
        while True:
            try:
                async with asyncio.timeout(None if self._progress is None else HEARTBEAT_S):
                    return await subscription.queue.get()
            except TimeoutError:
                await self._write(self._progress or b"", reader_timeout_s)

    async def _write_whole(self, message: bytes, reader_timeout_s: float) -> None:
        """Send what may be larger than a message, in whichever way the caller understands.

        Raises:
            MessageTooLarge: in none.
        """
        # Nearly always; only pictures of more than a thousand pixels a side are larger.
        if len(message) <= MAX_MESSAGE_BYTES:
            await self._write(message, reader_timeout_s)
        elif self._in_fragments:
            for part in split(message):
                await self._write(encode_event(part), reader_timeout_s)
        else:
            begun = time.monotonic()
            smaller = await asyncio.to_thread(shrink_result, message)
            self._encoding_s += time.monotonic() - begun
            await self._write(smaller, reader_timeout_s)

    async def _write(self, message: bytes, reader_timeout_s: float) -> None:
        """Send one message within the limit; waits while the reader is slow.

        gRPC would refuse a message over the limit as it does one to a caller that is gone.
        """
        try:
            # gRPC lets a write wait for as long as the reader's window is full.
            async with cancelled_if_gone(), asyncio.timeout(reader_timeout_s):
                await self._context.write(message)
        except TimeoutError as exc:
            raise DeadlineExceeded(
                f"the caller took no message for {reader_timeout_s:g} s; ask again with the same "
                "request_id for what is kept"
            ) from exc
        self.bytes_sent += len(message)

    async def _message(self, delivery: Delivery | EncodedResult) -> bytes | None:
        """One delivery as one message; None for what is not told."""
        if isinstance(delivery, EncodedResult):
            return delivery.message
        if isinstance(delivery, Progress):
            self._progress = encode_event(delivery)
            return self._progress
        if isinstance(delivery, Preview):
            begun = time.monotonic()
            image = await pack_image(delivery.image, "jpeg")
            self._encoding_s += time.monotonic() - begun
            return encode_event(
                EncodedPreview(stage=delivery.stage, done=delivery.done, image=image)
            )
        return None

    def note_deadline(self) -> None:
        """See whether a call that broke off did so because its time was over."""
        if self.code == "CANCELLED" and time_is_over(self._context):
            self._outcome, self.code = "deadline_exceeded", "DEADLINE_EXCEEDED"

    def log(self, subscription: Subscription) -> None:
        """One line about the call."""
        spread: dict[str, Any] = {}
        request = subscription.request
        if request is not None:
            spread = {"first": request.plan.first, "last": request.plan.last}
        # Not cancelled: its caller left, as it said it would.
        gone_on = request is not None and request.detach and self._outcome == "cancelled"
        log_event(
            "generate",
            request_id=self._key.request_id,
            identity=self._key.identity,
            outcome="left" if gone_on else self._outcome,
            **spread,
            joined=subscription.accepted.joined,
            total_s=time.monotonic() - self._begun,
            seconds={name: round(s, 6) for name, s in subscription.seconds.items()},
            bytes_received=self.bytes_received,
            bytes_sent=self.bytes_sent,
        )
