"""One run on a server: what goes up, and whether that server can do it.

State of a single run, so that a remote stage can have several in flight. Knows the components it
stands for and the ways to send what they start from; not what ran before.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cascade.addresses import UNIX_PREFIX
from cascade.boundary import Context, Image, Prompt, longest_side, value_of
from cascade.codecs.image import ImageFormat
from cascade.codecs.tensor import pack_tensor
from cascade.errors import (
    BundleMismatch,
    Cancelled,
    CascadeError,
    DeadlineExceeded,
    PrecisionMismatch,
    StageError,
    TransportError,
    UnknownContext,
)
from cascade.events import Event, Transferred
from cascade.families import cost_of
from cascade.family import ComponentSpec
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff
from cascade.types import ContextF16
from runtime_client.config import is_on_this_machine
from runtime_client.remote.connection import Connection, Peer
from runtime_client.remote.deadline import Deadline
from runtime_client.remote.event_decoder import Incoming
from runtime_client.remote.image_payload import pack_smallest
from runtime_client.remote.request_identity import DisconnectPolicy, RequestIdentity
from runtime_client.remote.resumable_stream import ResumableStream
from runtime_client.remote.transfer_stats import Traffic
from wire.generate_call import GenerateCall, encode_generate
from wire.payloads import ContextReference, EncodedImage
from wire.starts import ContextStart, ImageStart, LabelStart, NoiseStart, PromptStart, Start

MAY_STILL_RUN = (Cancelled, DeadlineExceeded, TransportError)
"""Ends after which the server may still have the request; any other error is its last word."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run needs to know."""

    connection: Connection
    bundle_id: str
    components: tuple[ComponentSpec, ...]
    """Those that the server runs, in order."""
    deadline: Deadline
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    """What some of them must compute in."""
    ticket: RequestIdentity = field(default_factory=RequestIdentity)


class RemoteRun:
    """One run on a server, from the handoff to the last result."""

    def __init__(self, plan: Plan, request: GenerateRequest, handoff: Handoff) -> None:
        self._plan = plan
        self._request = request
        self._handoff = handoff
        self._traffic = Traffic()
        self._talk = ResumableStream(
            plan.connection,
            plan.deadline,
            self._traffic,
            plan.ticket.request_id or uuid.uuid4().hex,
        )
        self._presence = DisconnectPolicy()
        self._talk.largest_picture = longest_side(c.makes for c in plan.components)

    def events(self) -> Iterator[Event]:
        """Everything that happens on the server; closing the iterator cancels the call."""
        pending_cancels = self._plan.connection.pending_cancels
        request_id = self._talk.request_id
        try:
            peer = self._talk.greet()
            check_hosted(peer, self._plan.components)
            check_precisions(peer, self._plan.precisions)
            self._presence = presence_at(peer, self._plan.ticket.on_disconnect)
            self._talk.resumes = self._presence != DisconnectPolicy()
            with self._talk.placed(peer):
                if self._talk.resumes and not self._presence.detach:
                    pending_cancels.begin(request_id)
                for event in self._talk_through(peer):
                    if isinstance(event, Transferred):
                        pending_cancels.end(request_id)
                    yield event
        except CascadeError as exc:
            if not isinstance(exc, MAY_STILL_RUN):
                pending_cancels.end(request_id)
            raise
        finally:
            # A forked child that drops its copy of a request must not end the true one.
            if self._plan.connection.owner.is_this:
                pending_cancels.abandon(request_id)
                self._talk.cancel_call()

    def end(self) -> None:
        """Cancel, from another thread."""
        self._talk.end()

    def _talk_through(self, peer: Peer) -> Iterator[Event]:
        """Ask, and everything that is heard up to the end."""
        with self._traffic.timed("serialise"):
            image = self._packed_image()
        incoming = Incoming(self._plan.components, self._handoff, self._traffic)
        for message in self._talk.messages(lambda: self._start(peer, image)):
            event = incoming.event(message)
            if event is not None:
                yield event

    def _start(self, peer: Peer, image: EncodedImage | None) -> bytes:
        """Send the request; the first event's bytes mean that the server took it."""
        handle = self._handle()
        if handle is not None:
            try:
                return self._send(peer, start_after(ContextReference(handle=handle), image))
            except UnknownContext:
                self._plan.connection.contexts.forget(handle)
        first = self._plan.components[0]
        if value_of(Context, first.starts_from) is None:
            return self._send(peer, start_without_context(first, self._handoff, image))
        inline = ContextReference(tensor=pack_tensor(self._context()))
        return self._send(peer, start_after(inline, image))

    def _send(self, peer: Peer, start: Start) -> bytes:
        """One attempt at the call; returns its first event."""
        with self._traffic.timed("serialise"):
            request = with_preview_steps(self._request, self._plan.components)
            message = encode_generate(
                GenerateCall(
                    request_id=self._talk.request_id,
                    bundle_id=self._plan.bundle_id,
                    start=start,
                    seed=request.seed,
                    image_index=request.image_index,
                    options=request.options,
                    previews=request.previews,
                    preview_every=request.preview_every,
                    joins_fragments=True,
                    first_stage=self._plan.components[0].name,
                    last_stage=self._plan.components[-1].name,
                    format=best_format(peer),
                    precisions=self._plan.precisions,
                    detach=self._presence.detach,
                    linger_s=self._presence.linger_s,
                    results_held=self._talk.held,
                )
            )
        return self._talk.send(peer, message)

    def _handle(self) -> bytes | None:
        """The context's handle, if an upload was begun; waits for it and counts what it cost."""
        context = self._handoff.context
        contexts = self._plan.connection.contexts
        upload = contexts.find(context) if context is not None else None
        if upload is None:
            return None
        try:
            with self._traffic.timed("upload"):
                stored = self._talk.wait_for(upload.future)
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

    def _packed_image(self) -> EncodedImage | None:
        """The handoff's picture, if the first component starts from one."""
        first = self._plan.components[0]
        if self._handoff.image is None or value_of(Image, first.starts_from) is None:
            return None
        return pack_smallest(self._handoff.image)


def with_preview_steps(
    request: GenerateRequest, components: Sequence[ComponentSpec]
) -> GenerateRequest:
    """The request with its number of previews also as every older server understands it.

    Args:
        request: one that fits the components.
        components: those that the server runs.

    Returns:
        `preview_every` of which no component makes more previews than `previews`.
    """
    if not request.previews:
        return request
    units = [cost_of(component, request).units for component in components]
    every = -(-max(units) // (request.previews + 1))
    return replace(request, preview_every=every)


def start_after(context: ContextReference, image: EncodedImage | None) -> Start:
    """The starting point after the text encoder: with a picture or without."""
    return ContextStart(context) if image is None else ImageStart(image, context)


def start_without_context(
    first: ComponentSpec, handoff: Handoff, image: EncodedImage | None
) -> Start:
    """The starting point of a component that needs no embeddings.

    Args:
        first: its entry in the manifest.
        handoff: what it starts from.
        image: the handoff's picture, packed, if it starts from one.
    """
    if image is not None:
        return ImageStart(image, label=handoff.label)
    if value_of(Prompt, first.starts_from) is not None:
        return PromptStart(handoff.prompt or "")
    return NoiseStart() if handoff.label is None else LabelStart(handoff.label)


def presence_at(peer: Peer, wished: DisconnectPolicy) -> DisconnectPolicy:
    """What a server is asked to do without us: over a Unix socket a lost connection is a lost peer.

    Args:
        peer: the server.
        wished: what the client is configured to.
    """
    if peer.address.startswith(UNIX_PREFIX) and not wished.detach:
        return DisconnectPolicy()
    return wished


def check_hosted(peer: Peer, components: tuple[ComponentSpec, ...]) -> None:
    """Raise `BundleMismatch` unless the server hosts every component needed."""
    for component in components:
        if component.name not in {c.name for c in peer.info.components}:
            raise BundleMismatch(
                f"the server does not host {component.name}: lower its --cut, or raise this one's",
                field="cut",
            )


def check_precisions(peer: Peer, asked: Mapping[str, Precision]) -> None:
    """Raise `PrecisionMismatch` where the server computes otherwise; an older one does not say."""
    computed = {component.name: component.precision for component in peer.info.components}
    for name, precision in asked.items():
        theirs = computed.get(name)
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
