"""The gRPC handlers: bytes in, bytes out, and nothing decided here.

Each handler parses, asks the core and writes what it hears; errors become rich statuses in
one place.
Knows grpc.aio; the messages themselves only through `wire`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_status import rpc_status

from cascade.errors import CascadeError, DeadlineExceeded
from cascade.events import Preview, Progress, StageFinished
from cascade.image_codec import ImageFormat, encode_image
from cascade.types import ImageU8
from runtime_server import wire
from runtime_server.admission import REQUEST_ID, Work
from runtime_server.calls import PackedImage
from runtime_server.core import Core
from runtime_server.identity import CALLER, Gate
from runtime_server.jobs import Delivery, Ended, Job
from runtime_server.logs import log_event
from runtime_server.outbox import Outbox
from runtime_server.status import status_of

STOP_AGAIN_S = 0.02
"""A job that is to stop is told so again and again: its engine may be between two steps."""

Handler = Callable[[bytes, Any], Awaitable[Any]]


class CascadeService:
    """The three calls of the service."""

    def __init__(self, core: Core, gate: Gate) -> None:
        self._core = core
        self._gate = gate

    def handlers(self) -> Any:
        """The handlers as gRPC registers them; requests and responses are raw bytes."""
        return grpc.method_handlers_generic_handler(
            wire.SERVICE_NAME,
            {
                "GetServerInfo": grpc.unary_unary_rpc_method_handler(self._rim(self.server_info)),
                "PutContext": grpc.unary_unary_rpc_method_handler(self._rim(self.put_context)),
                "Generate": grpc.unary_stream_rpc_method_handler(self._rim(self.generate)),
            },
        )

    def _rim(self, handler: Handler) -> Handler:
        """A handler that runs only for callers with a name, and whose errors become statuses."""

        async def known(data: bytes, context: Any) -> Any:
            CALLER.set(self._gate.caller(context))
            return await handler(data, context)

        return guarded(known)

    async def server_info(self, data: bytes, context: Any) -> bytes:
        """GetServerInfo."""
        del context
        wire.read_server_info_request(data)
        return wire.write_server_info(self._core.info())

    async def put_context(self, data: bytes, context: Any) -> bytes:
        """PutContext."""
        del context
        call = wire.read_put_context(data)
        handle, lifetime_s = await asyncio.to_thread(self._core.put_context, call)
        return wire.write_put_context(handle, lifetime_s)

    async def generate(self, data: bytes, context: Any) -> None:
        """Generate: admit, queue, and stream what happens."""
        call = wire.read_generate(data)
        work = await asyncio.to_thread(self._core.admit, call)
        stream = ResponseStream(context, work, len(data))
        loop = asyncio.get_running_loop()

        def deliver(delivery: Delivery) -> None:
            loop.call_soon_threadsafe(stream.outbox.put, delivery)

        allowed_s = context.time_remaining()
        job, accepted = self._core.submit(work, deliver, allowed_s)
        timer = None
        if allowed_s is not None:
            timer = loop.call_later(allowed_s, self._expire, job)
        try:
            await stream.write(wire.write_accepted(accepted))
            await stream.run()
        finally:
            if timer is not None:
                timer.cancel()
            self._release(job)
            stream.log()

    def _expire(self, job: Job) -> None:
        """End a job whose time is over, wherever it is."""
        error = DeadlineExceeded("the time allowed for this request is over")
        if self._core.executor.stop(job, error):
            asyncio.get_running_loop().call_later(STOP_AGAIN_S, self._expire, job)

    def _release(self, job: Job) -> None:
        """Forget a job; when it still runs, nobody is left to want it."""
        if self._core.executor.release(job):
            asyncio.get_running_loop().call_later(STOP_AGAIN_S, self._release, job)


class ResponseStream:
    """The messages of one Generate call and what they cost."""

    def __init__(self, context: Any, work: Work, bytes_received: int) -> None:
        self.outbox = Outbox()
        self._context = context
        self._work = work
        self._begun = time.monotonic()
        self._bytes_received = bytes_received
        self._bytes_sent = 0
        self._outcome = "cancelled"
        self._seconds: dict[str, float] = {"queue": 0.0, "encode": 0.0}

    async def write(self, message: bytes) -> None:
        """Send one message; waits while the reader is slow."""
        await self._context.write(message)
        self._bytes_sent += len(message)

    async def run(self) -> None:
        """Write deliveries until the job has ended.

        Raises:
            Exception: whatever the job ended with.
        """
        while not isinstance(delivery := await self.outbox.get(), Ended):
            await self._write_delivery(delivery)
        if delivery.error is not None:
            self._outcome = reason_of(delivery.error)
            raise delivery.error
        await self.write(wire.write_done(self._seconds, self._bytes_received, self._bytes_sent))
        self._outcome = "ok"

    async def _write_delivery(self, delivery: Delivery) -> None:
        """One event as one message."""
        if isinstance(delivery, Progress):
            await self.write(wire.write_progress(delivery))
        elif isinstance(delivery, Preview):
            image = await self._encode(delivery.image, "jpeg")
            await self.write(wire.write_preview(delivery.stage, delivery.step, image))
        elif isinstance(delivery, StageFinished):
            await self._write_result(delivery)

    async def _write_result(self, event: StageFinished) -> None:
        """A component's result, and its share of the total."""
        image, context = event.handoff.image, event.handoff.context
        seconds = dict(event.seconds)
        self._seconds["queue"] += seconds.get("queue", 0.0)
        self._seconds[event.stage] = sum(s for name, s in seconds.items() if name != "queue")
        packed = None
        if image is not None:
            before = self._seconds["encode"]
            packed = await self._encode(image, self._work.format)
            seconds["encode"] = self._seconds["encode"] - before
            context = None
        await self.write(
            wire.write_stage_result(event.stage, packed, context, seconds, event.computed)
        )

    async def _encode(self, image: ImageU8, format_: ImageFormat) -> PackedImage:
        """Encode beside the event loop."""
        begun = time.monotonic()
        data = await asyncio.to_thread(encode_image, image, format_)
        self._seconds["encode"] += time.monotonic() - begun
        height, width = image.shape[:2]
        return PackedImage(width=width, height=height, format=format_, data=data)

    def log(self) -> None:
        """One line about the call."""
        left_s = self._context.time_remaining()
        if self._outcome == "cancelled" and left_s is not None and left_s <= 0:
            self._outcome = "deadline_exceeded"
        log_event(
            "generate",
            request_id=self._work.request_id,
            identity=CALLER.get(),
            outcome=self._outcome,
            first=self._work.first,
            last=self._work.last,
            total_s=time.monotonic() - self._begun,
            seconds={name: round(s, 6) for name, s in self._seconds.items()},
            bytes_received=self._bytes_received,
            bytes_sent=self._bytes_sent,
        )


def guarded(handler: Handler) -> Handler:
    """The outermost rim: every exception becomes a status, and cancellation passes through."""

    async def answer(data: bytes, context: Any) -> Any:
        try:
            return await handler(data, context)
        except Exception as exc:  # noqa: BLE001 - the rim: nothing internal may leave
            request_id = wire.find_request_id(data)
            known = request_id if REQUEST_ID.fullmatch(request_id) else ""
            status = status_of(exc, known)
            log_event("refused", request_id=known, reason=reason_of(exc))
        await context.abort_with_status(rpc_status.to_status(status))
        return None

    return answer


def reason_of(error: Exception) -> str:
    """What a log line calls an error."""
    return error.reason if isinstance(error, CascadeError) else type(error).__name__
