"""Everything that is checked before a request may wait in a queue.

A call from the wire goes in; work that the stages can run without another question comes out, or a
typed error that names the field. Knows the bundle's manifest and the limits; no queue, no socket.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cascade.boundary import Context, Image, Tensor, value_of
from cascade.bundle.manifest import Manifest
from cascade.bundle.starting_points import StartKind, first_position
from cascade.codecs.image import ImageFormat, decode_image
from cascade.codecs.lossy import check_writable
from cascade.codecs.tensor import PackedTensor, unpack_tensor
from cascade.cost import Cost
from cascade.edit import Edit
from cascade.errors import (
    BundleMismatch,
    ImageCodecError,
    InvalidRequest,
    ManifestError,
    PrecisionMismatch,
    TensorCodecError,
    UnknownContext,
)
from cascade.families import check_negative, cost_of, default_plans, resolved, with_own_picture
from cascade.family import StartCheck
from cascade.picture_plans import with_edit, with_size
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff
from cascade.types import ContextF16, ImageU8, Latent
from runtime_server.admission.vectors import given_vectors
from runtime_server.protocol.callers import ANONYMOUS
from runtime_server.stores.contexts import ContextStore
from wire.contexts import HANDLE_BYTES
from wire.edits import EncodedEdit, mask_bytes, unpacked_mask
from wire.generate_call import GenerateCall, GenerateHead
from wire.limits import MAX_CONTEXT_TOKENS, MAX_LINGER_S, MAX_REQUEST_ID, REQUEST_ID
from wire.payloads import ContextReference, EncodedImage
from wire.starts import ContextStart, ImageStart, LabelStart, PromptStart, TensorStart

MAX_ENCODED_IMAGE_BYTES = 256 << 10
"""Of a picture up to 256x256: pure noise takes less as PNG; more is not worth decoding."""
NOISE_AS_PNG = 1.01
"""A larger picture may take so much of its raw pixels: encoders that find nothing add little."""
SHOWN = 64
"""Characters of a caller's own text that an error quotes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestPlan:
    """A checked request: what to run, from what, to where."""

    request_id: str
    request: GenerateRequest
    start: Handoff
    first: int
    """Position of the first component to run."""
    last: int
    """Position of the last one."""
    costs: Mapping[int, Cost]
    """What each component takes, by position from `first` to `last`."""
    format: ImageFormat
    """How the pictures travel back."""
    fewest_bytes: bool = False
    """Whether they are worth more time of encoding."""

    @property
    def steps(self) -> dict[int, int]:
        """Units of progress by position, from `first` to `last`."""
        return {position: cost.units for position, cost in self.costs.items()}


class Admission:
    """The checks of one server."""

    def __init__(
        self,
        manifest: Manifest,
        start_checks: Mapping[int, StartCheck],
        contexts: ContextStore,
        precisions: Mapping[str, Precision],
    ) -> None:
        """The checks.

        Args:
            manifest: the bundle's table of contents.
            start_checks: what each hosted component asks of its start, by position.
            contexts: resolves handles.
            precisions: what every component computes in here.
        """
        self._manifest = manifest
        self._bundle_ids = manifest.ids
        self._default_plans = default_plans(manifest.components)
        self._start_checks = start_checks
        self._width = context_width(manifest)
        self._contexts = contexts
        self._precisions = precisions

    def check_bundle(self, bundle_id: str) -> None:
        """Raise `BundleMismatch` unless both sides hold the same bundle."""
        if bundle_id not in self._bundle_ids:
            raise BundleMismatch(
                f"bundle_id: this server has {self._bundle_ids[0]}, the request was made with "
                f"{bundle_id[:SHOWN]!r}: use the same bundle on both sides",
                field="bundle_id",
            )

    def context(self, packed: PackedTensor, field: str) -> ContextF16:
        """Embeddings from outside.

        Raises:
            InvalidRequest: not `[1 to MAX_CONTEXT_TOKENS, width]` finite float16.
        """
        if packed.dtype != "float16":
            raise TensorCodecError(
                f"{field}.dtype: expected float16, got {packed.dtype or 'none that we know'}",
                field=f"{field}.dtype",
            )
        width = self._width
        shape = packed.shape
        if len(shape) != 2 or not 1 <= shape[0] <= MAX_CONTEXT_TOKENS or shape[1] != width:
            raise TensorCodecError(
                f"{field}.shape: expected [1 to {MAX_CONTEXT_TOKENS}, {width}], got "
                f"{list(shape)[:4]}",
                field=f"{field}.shape",
            )
        return unpack_tensor(packed, field=field)

    def plan(self, call: GenerateCall, identity: str = ANONYMOUS) -> RequestPlan:
        """A call as work that can be queued.

        Args:
            call: what was asked for.
            identity: by whom.

        Raises:
            InvalidRequest: a field is wrong; the error names it.
            BundleMismatch: made for another bundle.
            UnknownContext: the handle is not held here.
            PrecisionMismatch: a component would be computed in another precision than asked for.
        """
        check_request_id(call.request_id)
        self.check_bundle(call.bundle_id)
        check_writable(call.format, "output.format")
        request = resolved(self._manifest.components, self._request(call), self._default_plans)
        check_presence(call)
        first = self._first(call)
        if isinstance(call.start, ImageStart) and call.start.own_picture:
            # Before a pixel is decoded: what would come of it may be too large.
            low = (call.start.image.width, call.start.image.height)
            request = with_own_picture(self._manifest.components, request, first, low)
        last = self._last(call.last_stage, first)
        # Counted, named and measured before any of their bytes is read.
        vectors = given_vectors(call, self._manifest.components[first : last + 1])
        start = replace(self._start(call, first, identity), vectors=vectors)
        request = with_size(self._manifest.components, request, first)
        if request.edit is not None:
            request = with_edit(self._manifest.components, request, first, request.edit)
        if call.negative is not None:
            check_negative(self._manifest.components[first : last + 1], request)
            negative = self._resolve(call.negative, "negative", identity)
            request = request.with_negative(negative)
        self._check_hosted(call, first, last)
        self._check_precisions(call.precisions, first, last)
        self._start_checks[first](start, request.plans[self._manifest.components[first].name])
        return RequestPlan(
            request_id=call.request_id,
            request=request,
            start=start,
            first=first,
            last=last,
            costs={
                position: cost_of(self._manifest.components[position], request)
                for position in range(first, last + 1)
            },
            format=call.format,
            fewest_bytes=call.fewest_bytes,
        )

    def likely_first(self, head: GenerateHead) -> int | None:
        """Position of the component that a call begins with, nothing checked; None if unclear."""
        if head.start is None or head.start == "resume":
            return None
        images = [value_of(Image, spec.starts_from) for spec in self._manifest.components]
        size = next(
            ((i.width, i.height) for i in images if i and i.width == head.image_width), None
        )
        try:
            return first_position(self._manifest, begins_as(head.start), size, head.first_stage)
        except InvalidRequest:
            return None

    def _request(self, call: GenerateCall) -> GenerateRequest:
        """The bounds that need no stage, and that every component named in the options exists."""
        names = [component.name for component in self._manifest.components]
        for name in call.options:
            if name not in names:
                raise InvalidRequest(
                    f"options: no component {name[:SHOWN]!r}; there are {', '.join(names)}",
                    field="options",
                )
        size = None if call.size is None else (call.size.width, call.size.height)
        return GenerateRequest(
            edit=None if call.edit is None else self._edit(call.edit),
            size=size,
            prompt=call.start.prompt if isinstance(call.start, PromptStart) else None,
            label=call.start.label if isinstance(call.start, LabelStart) else None,
            seed=call.seed,
            image_index=call.image_index,
            first_stage=call.first_stage or None,
            last_stage=call.last_stage or None,
            previews=call.previews,
            preview_every=call.preview_every,
            options=call.options,
        )

    def _edit(self, edit: EncodedEdit) -> Edit:
        """An own picture and its mask, of no more pixels than a component makes.

        Raises:
            InvalidRequest: naming the field of the edit.
        """
        picture = edit.picture
        made = [spec.makes for spec in self._manifest.components if isinstance(spec.makes, Image)]
        largest = max((image.pixels for image in made), default=0)
        # Before a pixel is decoded; which of the sizes it must be, is known with the start.
        if not 0 < picture.width * picture.height <= largest:
            raise InvalidRequest(
                f"edit.picture: expected 1 to {largest} pixels, got "
                f"{picture.width}x{picture.height}",
                field="edit.picture",
            )
        mask = None
        if edit.mask:
            needed = mask_bytes(picture.width, picture.height)
            if len(edit.mask) != needed:
                raise InvalidRequest(
                    f"edit.mask: expected {needed} bytes, a bit for each of "
                    f"{picture.width}x{picture.height} pixels, got {len(edit.mask)}",
                    field="edit.mask",
                )
            mask = unpacked_mask(edit.mask, picture.width, picture.height).astype(np.uint8) * 255
        return Edit(
            picture=read_image(picture, "edit.picture"),
            mask=mask,
            strength=edit.strength,
            resample=edit.resample or 1,
        )

    def _first(self, call: GenerateCall) -> int:
        """Position of the component that the work begins with."""
        kind = call.start_kind
        if kind is None or kind == "resume":
            raise InvalidRequest("start: give a prompt, a context or an image", field="start")
        size = None
        if isinstance(call.start, ImageStart):
            size = (call.start.image.width, call.start.image.height)
            if call.start.own_picture:
                check_named(call.first_stage)
                size = None
        return first_position(self._manifest, begins_as(kind), size, call.first_stage)

    def _start(self, call: GenerateCall, first: int, identity: str) -> Handoff:
        """What the work starts from."""
        match call.start:
            case PromptStart(prompt):
                return Handoff(prompt=prompt)
            case LabelStart(label):
                return Handoff(label=label)
            case ContextStart(reference):
                return Handoff(context=self._resolve(reference, "context.context", identity))
            case ImageStart():
                return self._image_start(call.start, first, identity)
            case TensorStart():
                return self._tensor_start(call.start, first, identity)
        return Handoff()

    def _image_start(self, start: ImageStart, first: int, identity: str) -> Handoff:
        """The picture, and what comes beside it."""
        context = None
        takes_words = value_of(Context, self._manifest.components[first].starts_from) is not None
        if takes_words and not (start.own_picture and start.context is None):
            # Before the picture: it is looked up, the picture has to be decoded.
            context = self._resolve(start.context or ContextReference(), "image.context", identity)
        return Handoff(context=context, label=start.label, image=read_image(start.image))

    def _tensor_start(self, start: TensorStart, first: int, identity: str) -> Handoff:
        """The latent, and the words beside it where the component takes some."""
        spec, context = self._manifest.components[first], None
        if value_of(Context, spec.starts_from) is not None:
            reference = start.context or ContextReference()
            context = self._resolve(reference, "tensor.context", identity)
        tensor = read_latent(start.tensor, value_of(Tensor, spec.starts_from))
        return Handoff(context=context, tensor=tensor)

    def _resolve(self, reference: ContextReference, field: str, identity: str) -> ContextF16:
        """The embeddings that a reference means."""
        if reference.tensor is not None:
            return self.context(reference.tensor, f"{field}.tensor")
        if reference.handle is None:
            raise InvalidRequest(f"{field}: give a handle or a tensor", field=field)
        if len(reference.handle) != HANDLE_BYTES:
            raise InvalidRequest(
                f"{field}.handle: expected {HANDLE_BYTES} bytes, got {len(reference.handle)}",
                field=f"{field}.handle",
            )
        context = self._contexts.get(reference.handle, identity)
        if context is None:
            raise UnknownContext(
                f"{field}.handle: not held here (any more): send the embeddings inline",
                field=f"{field}.handle",
            )
        return context

    def _last(self, last_stage: str, first: int) -> int:
        """Position to stop after."""
        if not last_stage:
            return len(self._manifest.components) - 1
        try:
            last = self._manifest.position(last_stage)
        except ManifestError as exc:
            raise InvalidRequest(
                f"last_stage: no component {last_stage[:SHOWN]!r}", field="last_stage"
            ) from exc
        if last < first:
            raise InvalidRequest(
                f"last_stage: {last_stage} is not after the starting point", field="last_stage"
            )
        return last

    def _check_hosted(self, call: GenerateCall, first: int, last: int) -> None:
        """Refuse a start whose next component does not run here, and an end beyond a gap."""
        if first not in self._start_checks:
            name = self._manifest.components[first].name
            hosted = self._manifest.components[min(self._start_checks)].name
            raise InvalidRequest(
                f"{call.start_kind}: {name} does not run here, this server starts with {hosted}",
                field=call.start_kind or "start",
            )
        gap = [at for at in range(first, last + 1) if at not in self._start_checks]
        if gap:
            here, away = (self._manifest.components[at].name for at in (gap[0] - 1, gap[0]))
            raise InvalidRequest(
                f"last_stage: {away} does not run here: stop after {here}", field="last_stage"
            )

    def _check_precisions(self, asked: Mapping[str, Precision], first: int, last: int) -> None:
        """Refuse components that compute in another precision here than the client counts on."""
        names = [component.name for component in self._manifest.components]
        for name, precision in asked.items():
            if name not in names:
                raise InvalidRequest(
                    f"precisions: no component {name[:SHOWN]!r}; there are {', '.join(names)}",
                    field="precisions",
                )
            here = self._precisions[name]
            if first <= names.index(name) <= last and precision != here:
                raise PrecisionMismatch(
                    f"precisions.{name}: this server computes it in {here}, {precision} was asked "
                    f"for: start the server with --precision {precision}, or ask for {here}",
                    field=f"precisions.{name}",
                )


def begins_as(kind: Literal["kept"] | StartKind) -> StartKind:
    """What a start of the wire is to the component that begins with it."""
    return "image" if kind == "kept" else kind


def context_width(manifest: Manifest) -> int:
    """Width of the embeddings of a bundle; 0 where no component starts from any."""
    texts = (value_of(Context, spec.starts_from) for spec in manifest.components)
    return next((text.width for text in texts if text is not None), 0)


def check_request_id(request_id: str) -> None:
    """Raise `InvalidRequest` unless the id is safe to write anywhere."""
    if not REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest(
            f"request_id: expected 1 to {MAX_REQUEST_ID} of [A-Za-z0-9._-]", field="request_id"
        )


def check_named(first_stage: str) -> None:
    """Raise `InvalidRequest` unless a caller's own picture comes with the name of a component."""
    if not first_stage:
        raise InvalidRequest(
            "first_stage: with an own picture, name the component that starts from it",
            field="first_stage",
        )


def check_presence(call: GenerateCall) -> None:
    """Raise `InvalidRequest` unless what is to happen without a caller makes sense."""
    if not 0 <= call.linger_s <= MAX_LINGER_S:
        raise InvalidRequest(
            f"linger_seconds: expected 0 to {MAX_LINGER_S:g}, got {call.linger_s}",
            field="linger_seconds",
        )


def read_latent(packed: PackedTensor, declared: Tensor | None) -> Latent:
    """The numbers of a latent, of exactly the declared shape and dtype.

    Args:
        packed: as it came.
        declared: what the component starts from.

    Returns:
        `[channels, height, width]` float16 or float32, every number finite.

    Raises:
        TensorCodecError: of another shape or dtype, or not so many finite numbers.
    """
    if declared is not None:
        # Before any memory is asked for.
        for name, found, wanted in (
            ("dtype", packed.dtype or "none that is known", declared.dtype),
            ("shape", list(packed.shape)[:4], list(declared.shape)),
        ):
            if found != wanted:
                raise TensorCodecError(
                    f"tensor.tensor.{name}: expected {wanted}, got {found}",
                    field=f"tensor.tensor.{name}",
                )
    return unpack_tensor(packed, field="tensor.tensor")


def read_image(image: EncodedImage, field: str = "image.image") -> ImageU8:
    """The pixels of an image whose declared size was already found to fit.

    Args:
        image: still encoded.
        field: its path, for errors.

    Raises:
        InvalidRequest: of a format that only results have.
        ImageCodecError: too many bytes, damaged, or of another size or format than declared.
    """
    if image.format in ("webp90", "avif"):
        raise InvalidRequest(
            f"image.image.format: expected raw, png, webp or jpeg, got {image.format}",
            field="image.image.format",
        )
    noise_bytes = int(3 * image.width * image.height * NOISE_AS_PNG)
    limit = max(MAX_ENCODED_IMAGE_BYTES, noise_bytes)
    if image.format != "raw" and len(image.data) > limit:
        raise ImageCodecError(
            f"{field}.data: {len(image.data)} bytes, at most {limit} are decoded",
            field=f"{field}.data",
        )
    size = (image.height, image.width)
    return decode_image(image.data, image.format, size, field=field)
