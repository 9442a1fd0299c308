"""One run on a server: what goes up, and whether that server can do it.

State of a single run, so that a remote stage can have several in flight. Control goes down from
here: the call is a value, `ResumableStream` sends it, `EventDecoder` reads what comes.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isqrt

from cascade.addresses import UNIX_PREFIX
from cascade.boundary import Image, longest_side, value_of
from cascade.codecs.image import LONGEST_WEBP, ImageFormat
from cascade.codecs.tensor import pack_tensor
from cascade.errors import (
    BundleMismatch,
    Cancelled,
    CascadeError,
    DeadlineExceeded,
    PlacementError,
    PrecisionMismatch,
    TransportError,
    VersionMismatch,
)
from cascade.events import Event, Transferred
from cascade.families import cost_of, takes_negative, uses_of
from cascade.family import ComponentSpec
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff
from cascade.types import Vector
from runtime_client.config import LOSSY_FORMATS, PictureFormat, is_on_this_machine
from runtime_client.deadline import Deadline
from runtime_client.remote.call_start import edit_of, new_field, size_of, start_of
from runtime_client.remote.connection import Connection
from runtime_client.remote.event_decoder import EventDecoder
from runtime_client.remote.image_payload import encode_smallest
from runtime_client.remote.request_identity import DisconnectPolicy, RequestIdentity
from runtime_client.remote.resumable_stream import InlineStart, ResumableStream
from runtime_client.remote.server_link import Peer
from runtime_client.remote.transfer_stats import PACK, TransferStats
from wire.generate_call import GenerateCall
from wire.payloads import ContextReference, EncodedImage
from wire.starts import Start

MAY_STILL_RUN = (Cancelled, DeadlineExceeded, TransportError)
"""Ends after which the server may still have the request; any other error is its last word."""


@dataclass(frozen=True, slots=True)
class RemoteWork:
    """What every run of a remote stage has in common."""

    connection: Connection
    components: tuple[ComponentSpec, ...]
    """Those that the server runs, in order."""
    deadline: Deadline
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    """What some of them must compute in."""
    identity: RequestIdentity = field(default_factory=RequestIdentity)

    def require_fit(self, peer: Peer) -> None:
        """Refuse a server that hosts another bundle's part, or computes it otherwise.

        Raises:
            BundleMismatch: it does not host every component; `PlacementError` where they are
                placed by name.
            PrecisionMismatch: it computes one in another precision.
        """
        check_hosted(peer, self.components, is_placed=self.identity.is_placed)
        check_precisions(peer, self.precisions)


class RemoteRun:
    """One run on a server, from the handoff to the last result."""

    def __init__(self, work: RemoteWork, request: GenerateRequest, handoff: Handoff) -> None:
        """Nothing sent yet.

        Args:
            work: what to run where.
            request: what to make.
            handoff: what the first of the components starts from.
        """
        self._work = work
        self._request = request
        self._handoff = handoff
        # Kept over all attempts: it is the idempotency key by which the server does the work once.
        self._request_id = work.identity.request_id or uuid.uuid4().hex
        self._stats = TransferStats()
        self._stream = ResumableStream(
            work.connection,
            work.deadline,
            self._stats,
            largest_picture=largest_picture(work.components, request),
        )

    def events(self) -> Iterator[Event]:
        """Everything that happens on the server; closing the iterator cancels the call."""
        cancels = self._work.connection.pending_cancels
        try:
            peer = self._stream.handshake()
            self._work.require_fit(peer)
            check_knows_edits(peer, new_field(self._work.components, self._request))
            check_knows_vectors(peer, self._vectors())
            policy = policy_at(peer, self._work.identity.on_disconnect)
            with self._stream.slot(peer):
                # Before the call is sent: a break in that very moment may leave the server with the
                # request.
                if policy.linger_s and not policy.detach:
                    cancels.add(self._request_id)
                for event in self._decoded_events(peer, policy):
                    if isinstance(event, Transferred):
                        waited_s = event.seconds.get("download", 0.0)
                        self._work.connection.speed.note(event.bytes_down, waited_s)
                        cancels.discard(self._request_id)
                    yield event
        except CascadeError as exc:
            if not isinstance(exc, MAY_STILL_RUN):
                cancels.discard(self._request_id)
            raise
        finally:
            # A forked child that drops its copy of a request must not end the true one.
            if self._work.connection.owner.is_this:
                cancels.cancel(self._request_id)
                self._stream.cancel()

    def terminate(self) -> None:
        """Cancel, from another thread."""
        self._stream.terminate()

    def _decoded_events(self, peer: Peer, policy: DisconnectPolicy) -> Iterator[Event]:
        """Send the call, and decode what comes up to the end."""
        with self._stats.timed_packing(PACK):
            image = self._encoded_image()
        self._stats.picture_bytes = 0 if image is None else len(image.data)
        handle = self._uploaded_handle()
        start = self._start(None, image)
        inline = None
        if handle is not None:
            inline = InlineStart(handle, start)
            start = self._start(ContextReference(handle=handle), image)
        decoder = EventDecoder(
            self._work.components, self._handoff, self._stats, sizes=self._request.sizes
        )
        for message in self._stream.messages(peer, self._call(peer, policy, start), inline):
            event = decoder.event(message)
            if event is not None:
                yield event

    def _call(self, peer: Peer, policy: DisconnectPolicy, start: Start) -> GenerateCall:
        """The request as the wire has it."""
        request, components = self._request, self._work.components
        return GenerateCall(
            request_id=self._request_id,
            bundle_id=peer.bundle_id,
            start=start,
            seed=request.seed,
            image_index=request.image_index,
            first_stage=components[0].name,
            last_stage=components[-1].name,
            options=request.options,
            precisions=self._work.precisions,
            format=best_format(peer, self._wanted_format, largest_side(request)),
            fewest_bytes=self._work.connection.speed.is_slow,
            previews=request.previews,
            preview_every=preview_steps(request, components),
            joins_fragments=True,
            detach=policy.detach,
            linger_s=policy.linger_s,
            negative=self._negative(),
            edit=edit_of(components, request),
            size=size_of(components, request),
            vectors={name: pack_tensor(vector) for name, vector in self._vectors().items()},
        )

    def _vectors(self) -> dict[str, Vector]:
        """The vectors that components there read."""
        read = {v.name for _, use in uses_of(self._work.components) for v in use.reads}
        return {name: v for name, v in self._handoff.vectors.items() if name in read}

    @property
    def _wanted_format(self) -> PictureFormat:
        """How results travel back; without loss where another hop begins with them."""
        identity = self._work.identity
        wanted = identity.picture_format or self._work.connection.picture_format
        return "auto" if identity.goes_on and wanted in LOSSY_FORMATS else wanted

    def _negative(self) -> ContextReference | None:
        """What the picture is guided away from, where a component here asks for it."""
        context = self._request.negative_context
        if context is None or not takes_negative(self._work.components, self._request):
            return None
        return ContextReference(tensor=pack_tensor(context))

    def _start(self, context: ContextReference | None, image: EncodedImage | None) -> Start:
        """The starting point.

        Args:
            context: the embeddings by their handle; themselves, where there are any, when None.
            image: the handoff's picture, if the first component starts from one.
        """
        return start_of(self._work.components[0], self._request, self._handoff, (context, image))

    def _uploaded_handle(self) -> bytes | None:
        """The context's handle, if an upload was begun; waits for it and counts what it cost."""
        context = self._handoff.context
        contexts = self._work.connection.contexts
        upload = contexts.find(context) if context is not None else None
        if upload is None:
            return None
        try:
            with self._stats.timed("upload"):
                stored = self._stream.wait_for(upload.future)
        except Cancelled:
            raise
        except CascadeError:
            # The call meets the same trouble and reports it, or works with the context inline.
            return None
        cost = contexts.charge_once(upload)
        if cost is not None:
            self._stats.bytes_up += cost.bytes_up
            self._stats.bytes_down += cost.bytes_down
        # A server that names it otherwise hashes otherwise: then the embeddings go along, and all
        # is right.
        return stored.handle if stored.handle == upload.handle else None

    def _encoded_image(self) -> EncodedImage | None:
        """The handoff's picture, if the first component starts from one."""
        first = self._work.components[0]
        if self._handoff.image is None or value_of(Image, first.starts_from) is None:
            return None
        return encode_smallest(self._handoff.image)


def preview_steps(request: GenerateRequest, components: Sequence[ComponentSpec]) -> int:
    """The number of previews as servers before it understand it.

    Args:
        request: one that fits the components.
        components: those that the server runs.

    Returns:
        Steps between two previews, of which no component makes more than `previews`.
    """
    if not request.previews:
        return request.preview_every
    units = [cost_of(component, request).units for component in components]
    # Rounded up, of the longest component: an older server must not make more previews than were
    # asked for.
    return -(-max(units) // (request.previews + 1))


def policy_at(peer: Peer, configured: DisconnectPolicy) -> DisconnectPolicy:
    """The policy for one server: over a Unix socket a lost connection is a lost peer.

    Args:
        peer: the server.
        configured: what the client is configured to.
    """
    # The kernel tells of a dead peer at once: to linger would only keep its work going.
    if peer.address.startswith(UNIX_PREFIX) and not configured.detach:
        return DisconnectPolicy()
    return configured


def check_hosted(
    peer: Peer, components: tuple[ComponentSpec, ...], *, is_placed: bool = False
) -> None:
    """Raise `BundleMismatch` unless the server hosts every component needed.

    Args:
        peer: the server.
        components: that it is to run.
        is_placed: whether they are placed there by name, and not by a cut.

    Raises:
        PlacementError: one that is placed there by name is not hosted.
    """
    hosted = [component.name for component in peer.info.components]
    for component in components:
        if component.name not in hosted and is_placed:
            raise PlacementError(
                f"{component.name} is placed on {peer.address}, which hosts "
                f"{', '.join(hosted)[:200]}: place it elsewhere, or start that server with "
                f"--components {','.join([*hosted, component.name])[:300]}",
                field="placement",
            )
        if component.name not in hosted:
            raise BundleMismatch(
                f"the server does not host {component.name}: lower its --cut, or raise this one's",
                field="cut",
            )


def check_knows_edits(peer: Peer, field: str) -> None:
    """Raise `VersionMismatch` where a server would ignore what is asked for.

    Args:
        peer: the server.
        field: that older servers do not know; empty where nothing of it is asked for.
    """
    if field and not peer.info.limits.max_resample:
        raise VersionMismatch(
            f"{field}: the server at {peer.address} is of an older version and would ignore it: "
            "update the server, or make that stage here",
            field=field,
        )


def check_knows_vectors(peer: Peer, vectors: Mapping[str, Vector]) -> None:
    """Raise `VersionMismatch` where a server would ignore vectors, `[width]` float32 each."""
    if vectors and not peer.info.limits.max_vectors:
        field = f"vectors.{next(iter(vectors))}"
        raise VersionMismatch(
            f"{field}: the server at {peer.address} is of an older version and would ignore it: "
            "update the server, or make that stage here",
            field=field,
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


def largest_side(request: GenerateRequest) -> int:
    """Longest side of what is made of a caller's own picture; 0 for declared sizes."""
    return max((side for size in request.sizes.values() for side in size), default=0)


def largest_picture(components: Sequence[ComponentSpec], request: GenerateRequest) -> int:
    """Side in pixels of a square that holds as much as the largest result."""
    own = [width * height for width, height in request.sizes.values()]
    return max(longest_side(c.makes for c in components), isqrt(max(own, default=0)) + 1)


def best_format(peer: Peer, wanted: PictureFormat = "auto", longest: int = 0) -> ImageFormat:
    """The format that is wanted, or the lossless one that costs least on the way to that server.

    Args:
        peer: the server.
        wanted: as in `ClientConfig.picture_format`; one that the server lacks is not taken.
        longest: longest side of a result that is not of the declared size.
    """
    offered = peer.info.image_formats
    too_long = wanted in ("webp", "webp90", "avif") and longest > LONGEST_WEBP
    if wanted != "auto" and wanted in offered and not too_long:
        return wanted
    if is_on_this_machine(peer.address) and "raw" in offered:
        return "raw"
    return "webp" if "webp" in offered and longest <= LONGEST_WEBP else "png"
