"""The gRPC handlers: bytes in, bytes out, and nothing decided here.

Each handler parses, asks the core or the requests and writes what it hears; errors become rich
statuses in one place.
Knows grpc.aio; the messages themselves are `wire`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from cascade.errors import CascadeError, InvalidRequest
from runtime_server.admission.checks import REQUEST_ID, Work, check_request_id
from runtime_server.admission.fingerprint import fingerprint
from runtime_server.app.auth_interceptor import CALLER, AuthInterceptor
from runtime_server.app.bundle_generations import BundleGeneration, BundleGenerations
from runtime_server.app.refusal import refuse
from runtime_server.app.response_stream import ResponseStream
from runtime_server.protocol.status import OPAQUE_CODES
from runtime_server.requests.idempotency_index import RequestKey
from runtime_server.requests.request_manager import RequestManager, Seat
from runtime_server.telemetry.logs import log_event, reason_of
from runtime_server.telemetry.observer import Observer
from wire.cancels import decode_cancel, encode_cancelled
from wire.contexts import ContextHandle, decode_put_context, encode_stored_context
from wire.fragments import decode_fragment
from wire.generate_call import GenerateCall, decode_generate, decode_head, find_request_id
from wire.server_info import decode_info_request, encode_info
from wire.service import SERVICE_NAME
from wire.starts import PromptStart, ResumeStart

Handler = Callable[[bytes, Any], Awaitable[Any]]


class CascadeService:
    """The calls of the service."""

    def __init__(
        self, generations: BundleGenerations, gate: AuthInterceptor, observer: Observer
    ) -> None:
        """The service of one server.

        Args:
            generations: what answers; the present one takes new requests.
            gate: says who a call is from, or refuses it.
            observer: is told what happens.
        """
        self._generations = generations
        self._gate = gate
        self._observer = observer

    @property
    def requests(self) -> RequestManager:
        """Of the present generation."""
        return self._generations.present.requests

    def handlers(self) -> Any:
        """The handlers as gRPC registers them; requests and responses are raw bytes."""
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "GetServerInfo": grpc.unary_unary_rpc_method_handler(
                    self._guarded(self.server_info)
                ),
                "PutContext": grpc.unary_unary_rpc_method_handler(self._guarded(self.put_context)),
                "Generate": grpc.unary_stream_rpc_method_handler(self._guarded(self.generate)),
                "GenerateFromFragments": grpc.stream_stream_rpc_method_handler(
                    self._guarded(self.generate_from_fragments)
                ),
                "Cancel": grpc.unary_unary_rpc_method_handler(self._guarded(self.cancel)),
            },
        )

    async def close(self) -> None:
        """End every request, detached ones too; call it once nothing is listened to any more."""
        await self._generations.close_requests()

    async def server_info(self, data: bytes, context: Any) -> bytes:
        """GetServerInfo."""
        del context
        decode_info_request(data)
        return self._answered(data, encode_info(self._generations.present.core.info()))

    async def put_context(self, data: bytes, context: Any) -> bytes:
        """PutContext."""
        identity = self._gate.caller(context)
        with self._generations.lease() as generation:
            with self._counting_refusals():
                call = decode_put_context(data)
                put = generation.core.put_context
                handle, lifetime_s = await asyncio.to_thread(put, call, identity)
            generation.requests.sweep_later()
        stored = ContextHandle(handle=handle, lifetime_s=lifetime_s)
        return self._answered(data, encode_stored_context(stored))

    async def cancel(self, data: bytes, context: Any) -> bytes:
        """Cancel."""
        identity = self._gate.caller(context)
        request_id = decode_cancel(data)
        check_request_id(request_id)
        key = RequestKey(identity, request_id)
        found = sum(generation.requests.cancel(key) for generation in self._generations.all) > 0
        log_event("cancel", request_id=request_id, found=found)
        return self._answered(data, encode_cancelled(found=found))

    async def generate(self, data: bytes, context: Any) -> None:
        """Generate: find or begin the work, and stream what happens."""
        identity = self._gate.caller(context)
        with self._counting_refusals():
            head = decode_head(data)
        key = RequestKey(identity, head.request_id)
        with self._generations.lease(key) as generation:
            if head.start != "resume" and not generation.requests.index.knows(key):
                generation.core.check_room(head)
            with self._counting_refusals():
                call = decode_generate(data)
            seat = await self._seat(generation, key, call, context)
            if generation.core.config.log_prompts and isinstance(call.start, PromptStart):
                log_event("prompt", request_id=call.request_id, prompt=call.start.prompt)
            stream = ResponseStream(context, key, len(data), in_fragments=call.joins_fragments)
            try:
                await stream.run(seat, generation.core.config.reader_patience_s)
            finally:
                stream.note_deadline()
                generation.requests.leave(seat, stream.code)
                self._observer.bytes_moved(stream.bytes_received, stream.bytes_sent)
                stream.log(seat)

    async def generate_from_fragments(self, messages: Any, context: Any) -> None:
        """GenerateFromFragments: join the request, then as Generate."""
        with self._counting_refusals():
            data = await self._joined(messages)
        await self.generate(data, context)

    async def _joined(self, messages: Any) -> bytes:
        """The request in a stream of fragments.

        Raises:
            InvalidRequest: larger than any request of this bundle can be, or without an end.
        """
        limit = self._generations.present.core.info().limits.max_joined_bytes
        whole = bytearray()
        async for message in messages:
            fragment = decode_fragment(message)
            if len(whole) + len(fragment.data) > limit:
                raise InvalidRequest(
                    f"data: more than the {limit} bytes that a request of this bundle can have",
                    field="data",
                )
            whole += fragment.data
            if fragment.is_last:
                return bytes(whole)
        raise InvalidRequest("last: the fragments end without it", field="last")

    async def _seat(
        self, generation: BundleGeneration, key: RequestKey, call: GenerateCall, context: Any
    ) -> Seat:
        """Where the call listens."""

        def admit() -> tuple[Work, bytes]:
            work = generation.core.admit(call, key.identity)
            return work, fingerprint(work)

        with self._counting_refusals():
            if isinstance(call.start, ResumeStart):
                generation.core.check_resume(call)
                return generation.requests.resume(key, call.results_held)
        with self._counting_refusals():
            work, means = await asyncio.to_thread(admit)
        # From here to the listening without a pause, so that no twin comes between.
        return generation.requests.take(key, call, work, means, context.time_remaining())

    @contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        """Tell the observer of a request that is wrong in itself."""
        try:
            yield
        except CascadeError as exc:
            if exc.code not in OPAQUE_CODES:
                self._observer.refused("invalid")
            raise

    def _answered(self, data: bytes, reply: bytes) -> bytes:
        """A unary call's answer, counted."""
        self._observer.bytes_moved(len(data), len(reply))
        return reply

    def _guarded(self, handler: Handler) -> Handler:
        """The outermost rim: callers have a name, every exception becomes a status.

        Cancellation passes through.
        """

        async def answer(data: Any, context: Any) -> Any:
            try:
                CALLER.set(self._gate.caller(context))
                return await handler(data, context)
            except Exception as exc:  # noqa: BLE001 - the rim: nothing internal may leave
                # A request in fragments is not kept for its name.
                request_id = find_request_id(data) if isinstance(data, bytes) else ""
                known = request_id if REQUEST_ID.fullmatch(request_id) else ""
                log_event("refused", request_id=known, reason=reason_of(exc))
                error = exc
            await refuse(context, error, known)
            return None

        return answer
