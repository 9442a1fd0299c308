"""The HTTP door: paths, callers, and the three answers there are.

Every picture is a call of the handler that answers gRPC's `Generate`, so admission, quota, queue,
metrics and log are those of gRPC. Knows the API's paths and answers; not how a picture is made.
"""

import asyncio
import base64
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from cascade.errors import Cancelled, CascadeError, StageError
from runtime_server.auth.authenticator import Metadata
from runtime_server.core import Core
from runtime_server.http_door.exchange import HttpExchange, HttpRefusal, Receive, Send
from runtime_server.http_door.generate_sink import Certificate, GenerateSink
from runtime_server.http_door.http_errors import HttpError, http_error_of
from runtime_server.http_door.image_ask import EDIT_READERS, ImageAsk, ask_of, read_ask
from runtime_server.http_door.image_call import (
    PictureTarget,
    calls_of,
    negative_call,
    target_of,
    with_negative,
)
from runtime_server.http_door.image_form import read_form
from runtime_server.http_door.own_picture import edit_of
from runtime_server.http_door.picture_format import PictureForm, final_form, partial_form, written
from runtime_server.telemetry.call_tracer import CallTracer
from runtime_server.telemetry.counted_call import counted
from runtime_server.telemetry.logs import log_event, reason_of
from runtime_server.telemetry.server_events import Emit
from runtime_server.telemetry.traceparent import find_traceparent
from wire.generate_call import GenerateCall, encode_generate
from wire.generate_events import GenerateEvent, StageResult
from wire.limits import REQUEST_ID
from wire.payloads import ContextReference, EncodedImage

T = TypeVar("T")
MAX_BODY_BYTES = 256 << 10
"""Of a request from words: a prompt of 1,000 characters and every option take a few thousand."""
MAX_EDIT_BYTES = 16 << 20
"""Of a form: a picture and a mask of the largest size as PNG take less."""
UNKNOWN_METHOD = "/unknown/unknown"
USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""Clients expect it; a quota here counts megapixels of steps and no tokens."""


class Authentication(Protocol):
    """Who a call is from; that of gRPC's calls."""

    def let_in(self, method: str, metadata: Metadata) -> None:
        """Note the caller as far as metadata name one, or refuse it."""
        ...

    def caller(self, context: Any) -> str:
        """The caller's name, the connection's certificate considered."""
        ...


class GenerateHandler(Protocol):
    """What answers gRPC's `Generate`."""

    async def generate(self, data: bytes, context: Any) -> None:
        """Answer one message; the context receives what comes of it."""
        ...


Handler = Callable[[HttpExchange], Awaitable[None]]


class HttpDoor:
    """An ASGI application."""

    def __init__(
        self,
        service: GenerateHandler,
        authentication: Authentication,
        present: Callable[[], Core],
        emit: Emit,
        tracer: CallTracer,
    ) -> None:
        """A door to one server.

        Args:
            service: answers calls of `Generate`.
            authentication: knows its callers.
            present: the core that takes new requests.
            emit: where events go.
            tracer: begins the spans of calls.
        """
        self._service = service
        self._authentication = authentication
        self._present = present
        self._emit = emit
        self._tracer = tracer
        self._routes: Mapping[str, tuple[str, str, Handler]] = {
            "/v1/images/generations": ("POST", "/openai.v1.Images/Create", self._create),
            "/v1/images/edits": ("POST", "/openai.v1.Images/Edit", self._edit),
            "/v1/models": ("GET", "/openai.v1.Models/List", self._models),
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; raises nothing but a cancellation."""
        if scope["type"] != "http":
            return
        exchange = HttpExchange(scope, receive, send)
        verb, method, handler = self._routes.get(exchange.path, ("", UNKNOWN_METHOD, not_found))
        parent = find_traceparent(exchange.metadata)
        with counted(method, parent, self._emit, self._tracer) as outcome:
            try:
                if verb not in ("", exchange.method):
                    raise wrong_verb(verb)
                self._let_in(method, exchange)
                await handler(exchange)
                outcome.code = "OK"
            except asyncio.CancelledError:
                outcome.code = "CANCELLED"
                raise
            except Exception as exc:  # noqa: BLE001 - the rim: nothing internal may leave
                outcome.code = await told(exchange, exc)

    def _let_in(self, method: str, exchange: HttpExchange) -> None:
        """Refuse a caller that gRPC's door refuses, before its body is read."""
        self._authentication.let_in(method, exchange.metadata)
        self._authentication.caller(sink_of(exchange, ignored))
        exchange.reader_patience_s = self._present().config.reader_patience_s

    async def _models(self, exchange: HttpExchange) -> None:
        """`GET /v1/models`: the present bundle."""
        core = self._present()
        model = {
            "id": core.manifest.name,
            "object": "model",
            "created": 0,
            "owned_by": "edge-cascade",
            "bundle_id": core.bundle_id,
        }
        await exchange.answer_json({"object": "list", "data": [model]})

    async def _edit(self, exchange: HttpExchange) -> None:
        """`POST /v1/images/edits`."""
        exchange.request_id = exchange.header("idempotency-key") or uuid.uuid4().hex
        exchange.events = "image_edit"
        body = await exchange.body(MAX_EDIT_BYTES)
        form = await asyncio.to_thread(read_form, body, exchange.header("content-type"))
        await self._answer(exchange, ask_of(form.fields, EDIT_READERS), form.files)

    async def _create(self, exchange: HttpExchange) -> None:
        """`POST /v1/images/generations`."""
        exchange.request_id = exchange.header("idempotency-key") or uuid.uuid4().hex
        await self._answer(exchange, read_ask(await exchange.body(MAX_BODY_BYTES)), {})

    async def _answer(
        self, exchange: HttpExchange, ask: ImageAsk, files: Mapping[str, bytes]
    ) -> None:
        """Make what is asked for, of a caller's own picture where there is one."""
        core = self._present()
        check_model(ask.model, core)
        target = target_of(core.manifest, ask.size)
        calls = calls_of(ask, core.manifest, core.bundle_id, exchange.request_id)
        if files:
            edit = await asyncio.to_thread(edit_of, files, target.sizes, ask.strength, ask.resample)
            calls = [replace(call, edit=edit) for call in calls]
        negative = negative_call(ask, core.manifest, calls[0])
        await exchange.while_connected(self._pictures(exchange, ask, target, (calls, negative)))

    async def _pictures(
        self,
        exchange: HttpExchange,
        ask: ImageAsk,
        target: PictureTarget,
        work: tuple[Sequence[GenerateCall], GenerateCall | None],
    ) -> None:
        """Make them and answer."""
        calls, negative = work
        if negative is not None:
            context = await self._context(exchange, negative)
            calls = [with_negative(call, context) for call in calls]
        if ask.stream:
            await self._streamed(exchange, ask, target, calls[0])
            return
        made = await in_parallel([self._picture(exchange, ask, call) for call in calls])
        form = final_form(ask)
        texts = await asyncio.to_thread(lambda: [as_text(image, form) for image in made])
        await exchange.answer_json(
            {
                "created": int(time.time()),
                **described(ask, target, form),
                "data": [{"b64_json": text} for text in texts],
                "usage": USAGE,
                "seed": ask.seed,
                "bundle_id": calls[0].bundle_id,
            }
        )

    async def _picture(
        self, exchange: HttpExchange, ask: ImageAsk, call: GenerateCall
    ) -> EncodedImage:
        """The last picture of one call."""
        found: list[EncodedImage] = []

        async def take(event: GenerateEvent) -> None:
            if isinstance(event, StageResult) and event.image is not None:
                found[:] = [event.image]

        await self._generate(exchange, call, take, ask.timeout_seconds)
        if not found:
            raise StageError("a call ended without a picture")
        return found[0]

    async def _context(self, exchange: HttpExchange, call: GenerateCall) -> ContextReference:
        """The embeddings that a call makes."""
        found: list[ContextReference] = []

        async def take(event: GenerateEvent) -> None:
            if isinstance(event, StageResult) and event.context is not None:
                found.append(ContextReference(tensor=event.context))

        await self._generate(exchange, call, take, None)
        if not found:
            raise StageError("a call ended without embeddings")
        return found[0]

    async def _streamed(
        self, exchange: HttpExchange, ask: ImageAsk, target: PictureTarget, call: GenerateCall
    ) -> None:
        """The pictures of one call as they come."""
        shown = target.before[: ask.partial_images]
        partial, final = partial_form(ask), final_form(ask)

        async def take(event: GenerateEvent) -> None:
            # The status waits for the first event: what is refused has a status of its own.
            await exchange.begin_stream()
            if not isinstance(event, StageResult) or event.image is None:
                return
            if event.stage == target.stage:
                more: dict[str, Any] = {"usage": USAGE, "seed": ask.seed}
                await self._send_picture(exchange, ask, (event.image, final), more)
            elif event.stage in shown:
                more = {"partial_image_index": shown.index(event.stage)}
                await self._send_picture(exchange, ask, (event.image, partial), more)

        await self._generate(exchange, call, take, ask.timeout_seconds)
        await exchange.end_stream()

    async def _send_picture(
        self,
        exchange: HttpExchange,
        ask: ImageAsk,
        picture: tuple[EncodedImage, PictureForm],
        more: Mapping[str, Any],
    ) -> None:
        """One picture as an event."""
        image, form = picture
        kind = "partial_image" if "partial_image_index" in more else "completed"
        text = await asyncio.to_thread(as_text, image, form)
        at = PictureTarget(stage="", size=f"{image.width}x{image.height}", before=(), sizes=())
        await exchange.send_event(
            {
                "type": f"{exchange.events}.{kind}",
                "b64_json": text,
                "created_at": int(time.time()),
                **described(ask, at, form),
                **more,
            }
        )

    async def _generate(
        self,
        exchange: HttpExchange,
        call: GenerateCall,
        take: Callable[[GenerateEvent], Awaitable[None]],
        allowed_s: float | None,
    ) -> None:
        """Have a call answered as one of gRPC's is."""
        await self._service.generate(encode_generate(call), sink_of(exchange, take, allowed_s))


def sink_of(
    exchange: HttpExchange,
    take: Callable[[GenerateEvent], Awaitable[None]],
    allowed_s: float | None = None,
) -> GenerateSink:
    """The context of a call of that exchange."""
    certificate: Certificate = exchange.certificate
    return GenerateSink(take, certificate, allowed_s)


async def ignored(event: GenerateEvent) -> None:
    """Of a call that only asks who calls."""
    del event


async def in_parallel(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them come to; where one fails, the others are cancelled and its error raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as failed:
        # The first one is the cause of the others' end.
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def told(exchange: HttpExchange, error: Exception) -> str:
    """Answer with an error; returns the name of its status code."""
    request_id = exchange.request_id if REQUEST_ID.fullmatch(exchange.request_id) else ""
    log_event("refused", request_id=request_id, reason=reason_of(error))
    if isinstance(error, Cancelled):
        # Its caller went, or had it cancelled elsewhere; to whom went, nothing can be told.
        exchange.request_id = request_id
    try:
        if isinstance(error, HttpRefusal):
            await exchange.refuse(error.error, error.headers)
            return "INVALID_ARGUMENT"
        exchange.request_id = request_id
        await exchange.refuse(http_error_of(error, request_id))
    except CascadeError as exc:
        return exc.code
    return error.code if isinstance(error, CascadeError) else "INTERNAL"


def as_text(image: EncodedImage, form: PictureForm) -> str:
    """A picture as base64."""
    return base64.b64encode(written(image, form)).decode("ascii")


def described(ask: ImageAsk, target: PictureTarget, form: PictureForm) -> dict[str, str]:
    """What the API says of a picture."""
    return {
        "size": target.size,
        "quality": ask.quality,
        "background": "opaque",
        "output_format": form.format,
    }


def check_model(model: str, core: Core) -> None:
    """Raise `HttpRefusal` unless that is the present bundle; none is."""
    if model in ("", core.manifest.name, core.bundle_id):
        return
    text = f"model: there is no {model[:64]!r} here, this server has {core.manifest.name!r}"
    raise HttpRefusal(
        HttpError(status=HTTPStatus.NOT_FOUND, message=text, code="model_not_found", param="model")
    )


async def not_found(exchange: HttpExchange) -> None:
    """A path that there is none of."""
    text = (
        f"no such path: {exchange.path[:64]!r}; there are /v1/images/generations, "
        "/v1/images/edits and /v1/models"
    )
    raise HttpRefusal(HttpError(status=HTTPStatus.NOT_FOUND, message=text, code="unknown_path"))


def wrong_verb(verb: str) -> HttpRefusal:
    """The error for a path that takes another method."""
    error = HttpError(
        status=HTTPStatus.METHOD_NOT_ALLOWED,
        message=f"this path takes {verb}",
        code="method_not_allowed",
    )
    return HttpRefusal(error, [(b"allow", verb.encode())])
