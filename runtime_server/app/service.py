"""The gRPC handlers: bytes in, bytes out, and nothing decided here.

Each handler parses, calls the core or the requests and writes what comes; errors become rich
statuses in one place.
Knows the context of a call; the messages themselves only through `wire`.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cascade.errors import CascadeError, InvalidRequest
from runtime_server.admission.checks import RequestPlan, check_request_id
from runtime_server.admission.fingerprint import fingerprint
from runtime_server.app.auth_interceptor import CALLER, AuthInterceptor
from runtime_server.app.bundle_generations import BundleGeneration, BundleGenerations
from runtime_server.app.bundle_offer import BundleOffer
from runtime_server.app.refusal import refuse
from runtime_server.app.response_stream import ResponseStream
from runtime_server.core import Core
from runtime_server.protocol.status import OPAQUE_CODES
from runtime_server.requests.active_request import Submission, Subscription
from runtime_server.requests.idempotency_index import RequestKey
from runtime_server.telemetry.logs import log_event, reason_of
from runtime_server.telemetry.server_events import BytesMoved, Emit, RequestRefused
from runtime_server.telemetry.traceparent import CURRENT_TRACE
from wire.bundle_files import decode_file_call, decode_manifest_request, encode_manifest
from wire.cancels import decode_cancel, encode_cancelled
from wire.contexts import (
    ContextHandle,
    PutContextCall,
    decode_put_context,
    encode_stored_context,
)
from wire.fragments import decode_fragment
from wire.generate_call import GenerateCall, decode_generate, decode_head, find_request_id
from wire.limits import REQUEST_ID
from wire.server_info import ServerInfo, decode_info_request, encode_info
from wire.starts import ImageStart, KeptStart, PromptStart, ResumeStart

Handler = Callable[[bytes, Any], Awaitable[Any]]


class CascadeService:
    """The calls of the service."""

    def __init__(
        self, generations: BundleGenerations, authentication: AuthInterceptor, emit: Emit
    ) -> None:
        """The service of one server.

        Args:
            generations: what answers; the present one takes new requests.
            authentication: says who a call is from, or refuses it.
            emit: where events go.
        """
        self._generations = generations
        self._offer = BundleOffer(generations.present.core.config)
        self._authentication = authentication
        self._emit = emit
        self._told: tuple[ServerInfo, bytes] | None = None
        """What `GetServerInfo` answered last, and its bytes."""

    def methods(self) -> Mapping[str, tuple[str, Any]]:
        """The methods by name, each with its kind of call; requests and responses are bytes."""
        return {
            "GetServerInfo": ("unary_unary", self._guarded(self.server_info)),
            "PutContext": ("unary_unary", self._guarded(self.put_context)),
            "Generate": ("unary_stream", self._guarded(self.generate)),
            "GenerateFromFragments": (
                "stream_stream",
                self._guarded(self.generate_from_fragments),
            ),
            "Cancel": ("unary_unary", self._guarded(self.cancel)),
            "GetBundleManifest": ("unary_unary", self._guarded(self.bundle_manifest)),
            "ReadBundleFile": ("unary_stream", self._guarded(self.bundle_file)),
        }

    async def server_info(self, data: bytes, context: Any) -> bytes:
        """GetServerInfo."""
        del context
        call = decode_info_request(data)
        info = self._generations.present.core.info()
        if call.reply_padding_bytes:
            padded = replace(info, padding=secrets.token_bytes(call.reply_padding_bytes))
            return self._answered(data, encode_info(padded))
        # Encoding takes longer than all else here, and an idle server says the same every time.
        if self._told is None or self._told[0] != info:
            self._told = (info, encode_info(info))
        return self._answered(data, self._told[1])

    async def put_context(self, data: bytes, context: Any) -> bytes:
        """PutContext."""
        identity = self._authentication.caller(context)
        with self._generations.lease() as generation:
            with self._counting_refusals():
                call = decode_put_context(data)
                core = generation.core
                handle = await asyncio.to_thread(keep_context, core, call, identity)
            generation.requests.sweeper.sweep_later()
        stored = ContextHandle(handle=handle, lifetime_s=core.config.context_lifetime_s)
        return self._answered(data, encode_stored_context(stored))

    async def cancel(self, data: bytes, context: Any) -> bytes:
        """Cancel."""
        identity = self._authentication.caller(context)
        request_id = decode_cancel(data)
        check_request_id(request_id)
        key = RequestKey(identity, request_id)
        # In every bundle: the request may have begun before a reload.
        found = sum(generation.requests.cancel(key) for generation in self._generations.all) > 0
        log_event("cancel", request_id=request_id, found=found)
        return self._answered(data, encode_cancelled(found=found))

    async def bundle_manifest(self, data: bytes, context: Any) -> bytes:
        """GetBundleManifest."""
        del context
        decode_manifest_request(data)
        self._offer.check()
        folder = self._generations.present.core.config.bundle
        return self._answered(data, encode_manifest(await self._offer.manifest(folder)))

    async def bundle_file(self, data: bytes, context: Any) -> None:
        """ReadBundleFile."""
        with self._generations.lease() as generation:
            core = generation.core
            with self._counting_refusals():
                call = decode_file_call(data)
                self._offer.check()
                core.admission.check_bundle(call.bundle_id)
            sent = await self._offer.send(core.config.bundle, core.manifest, call, context)
            self._emit(BytesMoved(len(data), sent))

    async def generate(self, data: bytes, context: Any) -> None:
        """Generate: find or begin the work, and stream what happens."""
        identity = self._authentication.caller(context)
        with self._counting_refusals():
            head = decode_head(data)
        key = RequestKey(identity, head.request_id)
        with self._generations.lease(key) as generation:
            if head.start != "resume" and not generation.requests.index.knows(key):
                # Parsing and checking all of it costs more than saying no.
                generation.core.check_capacity(head, identity)
            with self._counting_refusals():
                call = decode_generate(data)
            subscription = await self._subscribe(generation, key, call, context)
            if generation.core.config.log_prompts and isinstance(call.start, PromptStart):
                log_event("prompt", request_id=call.request_id, prompt=call.start.prompt)
            stream = ResponseStream(context, key, len(data), in_fragments=call.joins_fragments)
            try:
                await stream.run(subscription, generation.core.config.reader_patience_s)
            finally:
                # Before the request is left: the code decides what becomes of the work.
                stream.note_deadline()
                generation.requests.leave(subscription, stream.code)
                self._emit(BytesMoved(stream.bytes_received, stream.bytes_sent))
                stream.log(subscription)

    async def generate_from_fragments(self, messages: Any, context: Any) -> None:
        """GenerateFromFragments: join the request, then as Generate."""
        with self._counting_refusals():
            limit = self._generations.present.core.info().limits.max_joined_bytes
            data = await join_fragments(messages, limit)
        await self.generate(data, context)

    async def _subscribe(
        self, generation: BundleGeneration, key: RequestKey, call: GenerateCall, context: Any
    ) -> Subscription:
        """Where the call's answer comes from."""
        core = generation.core
        with self._counting_refusals():
            if isinstance(call.start, ResumeStart):
                check_request_id(call.request_id)
                core.admission.check_bundle(call.bundle_id)
                return generation.requests.resume(key, call.results_held)
        with self._counting_refusals():
            if isinstance(call.start, KeptStart):
                core.admission.check_bundle(call.bundle_id)
                found = generation.requests.kept_start(key, call.start)
                if not isinstance(found, ImageStart):
                    return found
                call = replace(call, start=found)
            plan, meaning = await asyncio.to_thread(plan_of, core, call, key.identity)
        # From here to the subscription without a pause, so that no duplicate comes between.
        return generation.requests.submit(
            Submission(
                key=key,
                plan=plan,
                fingerprint=meaning,
                detach=call.detach,
                linger_s=call.linger_s,
                results_held=call.results_held,
                allowed_s=context.time_remaining(),
                trace=CURRENT_TRACE.get(),
            )
        )

    @contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        """Tell of a request that is wrong in itself."""
        try:
            yield
        except CascadeError as exc:
            if exc.code not in OPAQUE_CODES:
                self._emit(RequestRefused("invalid"))
            raise

    def _answered(self, data: bytes, reply: bytes) -> bytes:
        """A unary call's answer, counted."""
        self._emit(BytesMoved(len(data), len(reply)))
        return reply

    def _guarded(self, handler: Handler) -> Handler:
        """The outermost rim: callers have a name, every exception becomes a status.

        Cancellation passes through.
        """

        async def answer(data: Any, context: Any) -> Any:
            try:
                CALLER.set(self._authentication.caller(context))
                return await handler(data, context)
            except Exception as exc:  # noqa: BLE001 - the rim: nothing internal may leave
                # A request in fragments is not kept for its name.
                request_id = find_request_id(data) if isinstance(data, bytes) else ""
                known = request_id if REQUEST_ID.fullmatch(request_id) else ""
                log_event("refused", request_id=known, reason=reason_of(exc))
                error = exc
            # After the `except`, or what ends the call would count as raised while handling this.
            await refuse(context, error, known)
            return None

        return answer


async def join_fragments(messages: Any, limit: int) -> bytes:
    """The request in a stream of fragments.

    Args:
        messages: as gRPC gives them.
        limit: bytes that a request of the bundle can have.

    Raises:
        InvalidRequest: larger than that, or without an end.
    """
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


def keep_context(core: Core, call: PutContextCall, identity: str) -> bytes:
    """Keep embeddings; returns their handle.

    Raises:
        InvalidRequest: they are none, or made for another bundle.
    """
    core.admission.check_bundle(call.bundle_id)
    context = core.admission.context(call.context, "context")
    return core.contexts.put(context, identity)


def plan_of(core: Core, call: GenerateCall, identity: str) -> tuple[RequestPlan, bytes]:
    """What a call asks for, checked, and its fingerprint."""
    plan = core.admission.plan(call, identity)
    return plan, fingerprint(plan)
