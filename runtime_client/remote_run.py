"""One call of Generate: what goes up, what comes down, and what it cost.

State of a single run, so that a remote stage can have several in flight. Knows the connection and
the components it stands for; not what ran before.
"""

import random
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cascade.errors import (
    BundleMismatch,
    Cancelled,
    CascadeError,
    PrecisionMismatch,
    StageError,
    TransportError,
    UnknownContext,
)
from cascade.events import Event, Preview, StageFinished, Transferred
from cascade.image_codec import ImageFormat
from cascade.manifest import Component, DiffusionSpec
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff
from cascade.types import ContextF16, ImageU8
from runtime_client import wire
from runtime_client.config import is_on_this_machine
from runtime_client.connection import Connection, Peer
from runtime_client.deadline import Deadline
from runtime_client.messages import (
    Done,
    GenerateCall,
    PackedImage,
    PackedPreview,
    ServerEvent,
    StageResult,
    Start,
)
from runtime_client.packed_pictures import pack_smallest, unpack_image
from runtime_client.retry import Pacing, with_retries
from runtime_client.traffic import Traffic
from runtime_client.transport import ByteStream

T = TypeVar("T")

PREVIEW_SIZES = range(1, 257)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run needs to know."""

    connection: Connection
    bundle_id: str
    components: tuple[Component, ...]
    """Those that the server runs, in order."""
    deadline: Deadline
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    """What some of them must compute in."""


class RemoteRun:
    """One run on a server, from the handoff to the last result."""

    def __init__(self, plan: Plan, request: GenerateRequest, handoff: Handoff) -> None:
        self._plan = plan
        self._request = request
        self._handoff = handoff
        self._traffic = Traffic()
        self._ended: Future[None] = Future()
        self._stream: ByteStream | None = None

    def events(self) -> Iterator[Event]:
        """Everything that happens on the server; closing the iterator cancels the call."""
        try:
            with self._traffic.timed("connect"):
                peer = self._wait_for(self._plan.connection.begin())
            check_hosted(peer, self._plan.components)
            check_precisions(peer, self._plan.precisions)
            with self._traffic.timed("serialise"):
                image = self._packed_image()
            data = with_retries(
                lambda: self._start(peer, image),
                policy=self._plan.connection.policy,
                budget=self._plan.connection.budget,
                deadline=self._plan.deadline,
                pacing=Pacing(sleep=self._sleep, chance=random.random),
            )
            yield from self._receive(data)
        finally:
            if self._stream is not None:
                self._stream.cancel()

    def end(self) -> None:
        """Cancel, from another thread."""
        if not self._ended.done():
            self._ended.set_result(None)
        if self._stream is not None:
            self._stream.cancel()

    def _start(self, peer: Peer, image: PackedImage | None) -> bytes:
        """Send the request; the first event's bytes mean that the server took it."""
        handle = self._handle()
        if handle is not None:
            try:
                return self._send(peer, Start(handle=handle, image=image))
            except UnknownContext:
                self._plan.connection.contexts.forget(handle)
        if self._plan.components[0].family == "text_encoder":
            return self._send(peer, Start(prompt=self._handoff.prompt))
        return self._send(peer, Start(context=self._context(), image=image))

    def _send(self, peer: Peer, start: Start) -> bytes:
        """One attempt at the call; returns its first event."""
        with self._traffic.timed("serialise"):
            message = wire.encode_generate(
                GenerateCall(
                    request_id=uuid.uuid4().hex,
                    bundle_id=self._plan.bundle_id,
                    start=start,
                    request=self._request,
                    last_stage=self._plan.components[-1].name,
                    format=best_format(peer),
                    precisions=self._plan.precisions,
                )
            )
        self._traffic.bytes_up += len(message)
        with self._traffic.timed("first"):
            self._stream = peer.transport.stream(
                wire.GENERATE, message, timeout_s=self._plan.deadline.remaining_s()
            )
            if self._ended.done():
                self._stream.cancel()
            data = next(self._stream, None)
        if data is None:
            raise TransportError("the server ended the call without an event")
        return data

    def _receive(self, first: bytes) -> Iterator[Event]:
        """The stream's events as ours, from the first one's bytes on."""
        data: bytes | None = first
        results = 0
        while data is not None:
            self._traffic.bytes_down += len(data)
            with self._traffic.timed("serialise"):
                message = wire.decode_event(data)
                event = self._event(message, results)
            if isinstance(message, Done):
                yield self._finished(message, results)
                return
            if isinstance(event, StageFinished):
                results += 1
            if event is not None:
                yield event
            data = self._next()
        raise TransportError("the server ended the call before it was done")

    def _next(self) -> bytes | None:
        """The next event's bytes; the time spent here is the server's and the wire's."""
        if self._stream is None:
            return None
        with self._traffic.timed("later"):
            return next(self._stream, None)

    def _event(self, message: ServerEvent | None, results: int) -> Event | None:
        """One event of the server as one of ours, its picture decoded."""
        if isinstance(message, StageResult):
            return self._stage_finished(message, results)
        if isinstance(message, PackedPreview):
            image = unpack_image(message.image, sizes=PREVIEW_SIZES, what="preview")
            return Preview(message.stage, message.step, image)
        return None if isinstance(message, Done) else message

    def _stage_finished(self, result: StageResult, results: int) -> StageFinished:
        """A component's result as the next one would get it."""
        components = self._plan.components
        if results >= len(components) or result.stage != components[results].name:
            raise TransportError(f"the server sent a result of {result.stage[:40]!r} out of turn")
        component = components[results]
        image: ImageU8 | None = None
        context = self._handoff.context
        if isinstance(component, DiffusionSpec):
            if result.image is None:
                raise TransportError(f"the server sent {component.name} without its picture")
            size = component.output_resolution
            image = unpack_image(
                result.image, sizes=range(size, size + 1), what=f"{component.name} picture"
            )
        else:
            context = result.context
            if context is None or context.dtype != "float16" or context.ndim != 2:
                raise TransportError("the server sent no context of [tokens, width] float16")
        self._handoff = Handoff(prompt=self._handoff.prompt, context=context, image=image)
        seconds = dict(result.seconds)
        if isinstance(component, DiffusionSpec):
            # Of a picture, not of a prompt; the end of the stream has the total.
            seconds.pop("encode", None)
        self._traffic.report(seconds)
        return StageFinished(component.name, self._handoff, seconds, result.computed)

    def _finished(self, done: Done, results: int) -> Transferred:
        """The traffic, once the server says that it is done."""
        if results != len(self._plan.components):
            raise TransportError("the server was done before every result had come")
        names = {component.name for component in self._plan.components}
        seconds = self._traffic.settle(done.seconds, names)
        return Transferred(self._traffic.bytes_up, self._traffic.bytes_down, seconds)

    def _handle(self) -> bytes | None:
        """The context's handle, if an upload was begun; waits for it and counts what it cost."""
        context = self._handoff.context
        contexts = self._plan.connection.contexts
        upload = contexts.find(context) if context is not None else None
        if upload is None:
            return None
        try:
            with self._traffic.timed("upload"):
                stored = self._wait_for(upload.future)
        except Cancelled:
            raise
        except CascadeError:
            # The call meets the same trouble and reports it, or works with the context inline.
            return None
        cost = contexts.bill(upload)
        if cost is not None:
            self._traffic.bytes_up += cost.bytes_up
            self._traffic.bytes_down += cost.bytes_down
        return stored.handle if stored.handle == upload.handle else None

    def _context(self) -> ContextF16:
        """The handoff's context, which every start after the text encoder needs."""
        if self._handoff.context is None:
            raise StageError("a remote stage after the text encoder needs a context")
        return self._handoff.context

    def _packed_image(self) -> PackedImage | None:
        """The handoff's picture, if the first component starts from one."""
        first = self._plan.components[0]
        if self._handoff.image is None or not isinstance(first, DiffusionSpec):
            return None
        return pack_smallest(self._handoff.image) if first.input_resolution is not None else None

    def _wait_for(self, future: "Future[T]") -> T:
        """A background result, unless the run is ended or out of time before."""
        deadline = self._plan.deadline
        waited: list[Future[Any]] = [future, self._ended]
        done, _ = wait(waited, deadline.remaining_s(), FIRST_COMPLETED)
        if self._ended.done():
            raise Cancelled("the run was ended from outside")
        if not done:
            raise deadline.exceeded()
        try:
            return future.result()
        except CancelledError as exc:
            raise Cancelled("the client was closed") from exc

    def _sleep(self, seconds: float) -> None:
        """A pause between attempts that `end` cuts short."""
        time_up: Future[None] = Future()
        wait([time_up, self._ended], seconds, FIRST_COMPLETED)
        if self._ended.done():
            raise Cancelled("the run was ended from outside")


def check_hosted(peer: Peer, components: tuple[Component, ...]) -> None:
    """Raise `BundleMismatch` unless the server hosts every component needed."""
    for component in components:
        if component.name not in peer.info.components:
            raise BundleMismatch(
                f"the server does not host {component.name}: lower its --cut, or raise this one's",
                field="cut",
            )


def check_precisions(peer: Peer, asked: Mapping[str, Precision]) -> None:
    """Raise `PrecisionMismatch` where the server computes otherwise; an older one does not say."""
    for name, precision in asked.items():
        theirs = peer.info.precisions.get(name)
        if theirs != precision:
            raise PrecisionMismatch(
                f"precision: the server computes {name} in {theirs or 'an unknown precision'}, "
                f"{precision} was asked for: start it with --precision {precision}, or leave "
                "this one's at auto",
                field=f"precisions.{name}",
            )


def best_format(peer: Peer) -> ImageFormat:
    """The lossless format that costs least on the way to that server."""
    offered = peer.info.image_formats
    if is_on_this_machine(peer.address) and "raw" in offered:
        return "raw"
    return "webp" if "webp" in offered else "png"
