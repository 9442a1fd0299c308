"""`Generate`: everything that one call asks for.

As the client means it and as it arrives: shapes are parsed, bounds are not checked here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from cascade.codecs.image import ImageFormat
from cascade.codecs.tensor import PackedTensor
from cascade.precision import Precision
from cascade.request import FamilyOptions
from protos.cascade.v1 import cascade_pb2 as pb
from wire.edits import EncodedEdit, PictureSize, edit_message, read_edit, read_size, size_message
from wire.family_options import options_message, read_options
from wire.parsing import parse_request, serialise
from wire.payloads import (
    FORMAT_NUMBERS,
    PRECISION_NUMBERS,
    ContextReference,
    read_format,
    read_precision,
    read_reference,
    read_tensors,
    reference_message,
    tensor_messages,
)
from wire.starts import Start, StartKind, kind_of_start, read_start, write_start

SHOWN = 64
"""Characters of a caller's own text that an error quotes."""


@dataclass(frozen=True, slots=True)
class GenerateHead:
    """As much of a request as decides whether there is room for it."""

    request_id: str
    start: StartKind | None
    """None when the client named no starting point."""
    image_width: int
    """Of the image that it starts from, in pixels; 0 where it starts from none."""
    first_stage: str = ""
    """Component to begin with, where the client names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateCall:
    """One picture asked for over the wire: `GenerateRequest` in the proto file."""

    request_id: str
    """The idempotency key: the same id from the same caller means the same work."""
    bundle_id: str
    start: Start | None
    """None when the client named no starting point."""
    seed: int = 0
    image_index: int = 0
    first_stage: str = ""
    """Component to begin with; empty lets the start decide."""
    last_stage: str = ""
    """Component to stop after; empty for the last one."""
    options: Mapping[str, FamilyOptions] = field(default_factory=dict)
    """By component name."""
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    """By component name: what it must compute in; one that is not named may use any."""
    format: ImageFormat = "png"
    """Of the stage images."""
    # A number per component, because a multiple of the step says nothing to a family without steps.
    previews: int = 0
    """Previews of each component at most; 0 for none."""
    preview_every: int = 0
    """A preview after so many steps, of clients before `previews`; counts where that is 0."""
    fewest_bytes: bool = False
    """Whether stage images are worth more time of encoding, for the link is slow."""
    joins_fragments: bool = False
    """Whether the caller joins what is larger than a message."""
    detach: bool = False
    """Work on to the end when nobody listens any more."""
    linger_s: float = 0.0
    """Work on for so many seconds when nobody listens any more."""
    negative: ContextReference | None = None
    """What the picture is guided away from, if anything."""
    edit: EncodedEdit | None = None
    """A picture of the caller's own that the result is made of, if any."""
    size: PictureSize | None = None
    """Of the last component's picture; None for the declared one."""
    vectors: Mapping[str, PackedTensor] = field(default_factory=dict)
    """What components read beside the text, by name."""
    results_held: int = 0
    """Results that the caller has already, counted from the first."""

    @property
    def start_kind(self) -> StartKind | None:
        """The starting point's name in the message; None when there is none."""
        return None if self.start is None else kind_of_start(self.start)


def encode_generate(call: GenerateCall) -> bytes:
    """The message of `Generate`."""
    message = pb.GenerateRequest(
        request_id=call.request_id,
        bundle_id=call.bundle_id,
        seed=call.seed,
        image_index=call.image_index,
        first_stage=call.first_stage,
        last_stage=call.last_stage,
        options={name: options_message(options) for name, options in call.options.items()},
        output=pb.OutputOptions(
            format=FORMAT_NUMBERS[call.format],
            previews=call.previews,
            preview_every=call.preview_every,
            joins_fragments=call.joins_fragments,
            fewest_bytes=call.fewest_bytes,
        ),
        precisions={name: PRECISION_NUMBERS[p] for name, p in call.precisions.items()},
        detach=call.detach,
        linger_seconds=call.linger_s,
        results_held=call.results_held,
        negative=None if call.negative is None else reference_message(call.negative),
        edit=None if call.edit is None else edit_message(call.edit),
        size=None if call.size is None else size_message(call.size),
        vectors=tensor_messages(call.vectors),
    )
    write_start(message, call.start)
    return serialise(message)


def decode_generate(data: bytes) -> GenerateCall:
    """The message of `Generate`.

    Raises:
        InvalidRequest: the bytes are not that message, or name a format or a precision that is
            unknown here.
    """
    message = parse_request(pb.GenerateRequest, data)
    output = message.output
    return GenerateCall(
        request_id=message.request_id,
        bundle_id=message.bundle_id,
        start=read_start(message),
        seed=message.seed,
        image_index=message.image_index,
        first_stage=message.first_stage,
        last_stage=message.last_stage,
        options={name: read_options(options) for name, options in message.options.items()},
        precisions={
            # The name is a caller's own text, up to a whole message long: an error quotes its
            # beginning.
            name: read_precision(number, f"precisions.{name[:SHOWN]}")
            for name, number in message.precisions.items()
        },
        # Unspecified is 0 in proto3; the default is chosen here, so that both sides see one value.
        format=read_format(output.format, "output.format") if output.format else "png",
        previews=output.previews,
        preview_every=output.preview_every,
        joins_fragments=output.joins_fragments,
        fewest_bytes=output.fewest_bytes,
        detach=message.detach,
        linger_s=message.linger_seconds,
        results_held=message.results_held,
        negative=read_reference(message.negative) if message.HasField("negative") else None,
        edit=read_edit(message.edit) if message.HasField("edit") else None,
        size=read_size(message.size) if message.HasField("size") else None,
        vectors=read_tensors(message.vectors),
    )


def decode_head(data: bytes) -> GenerateHead:
    """The first look at the message of `Generate`.

    Protobuf takes microseconds for the whole message, our own values of it take far longer: a
    request that is refused for want of room is not worth them.

    Raises:
        InvalidRequest: the bytes are not that message.
    """
    message = parse_request(pb.GenerateRequest, data)
    start = message.WhichOneof("start")
    # The width as it is claimed; the picture itself is decoded, and compared with it, after
    # admission.
    width = message.image.image.width if start == "image" else 0
    return GenerateHead(message.request_id, start, width, message.first_stage)


def find_request_id(data: bytes) -> str:
    """The request id in the message of `Generate`, for an error; empty when there is none."""
    try:
        request_id: str = pb.GenerateRequest.FromString(data).request_id
    # The call fails with its own typed error elsewhere; here only the log line would lack its id.
    except DecodeError:
        return ""
    return request_id
