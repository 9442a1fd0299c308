"""`Generate`: everything that one call asks for.

As the client means it and as it arrives: shapes are parsed, bounds are not checked here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from google.protobuf.message import DecodeError

from cascade.codecs.image import ImageFormat
from cascade.errors import StageError
from cascade.precision import Precision
from cascade.request import StageOptions
from protos.cascade.v1 import cascade_pb2 as pb
from wire.parsing import parse_request, serialise
from wire.payloads import (
    FORMAT_NUMBERS,
    PRECISION_NUMBERS,
    ContextReference,
    EncodedImage,
    image_message,
    read_format,
    read_image,
    read_precision,
    read_reference,
    reference_message,
)

StartKind = Literal["prompt", "context", "image", "resume"]

SHOWN = 64
"""Characters of a caller's own text that an error quotes."""


@dataclass(frozen=True, slots=True)
class PromptStart:
    """Start from a prompt: every component runs on the server."""

    prompt: str


@dataclass(frozen=True, slots=True)
class ContextStart:
    """Start after the text encoder."""

    context: ContextReference


@dataclass(frozen=True, slots=True)
class ImageStart:
    """Start from an image and the context beside it."""

    context: ContextReference
    image: EncodedImage


@dataclass(frozen=True, slots=True)
class ResumeStart:
    """Begin nothing: listen to the work that the request id names already."""


Start: TypeAlias = PromptStart | ContextStart | ImageStart | ResumeStart
KINDS: Mapping[type, StartKind] = {
    PromptStart: "prompt",
    ContextStart: "context",
    ImageStart: "image",
    ResumeStart: "resume",
}


@dataclass(frozen=True, slots=True)
class GenerateHead:
    """As much of a request as decides whether there is room for it."""

    request_id: str
    start: StartKind | None
    """None when the client named no starting point."""
    image_width: int
    """Of the image that it starts from, in pixels; 0 where it starts from none."""


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
    last_stage: str = ""
    """Component to stop after; empty for the last one."""
    options: Mapping[str, StageOptions] = field(default_factory=dict)
    """By component name."""
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    """By component name: what it must compute in; one that is not named may use any."""
    format: ImageFormat = "png"
    """Of the stage images."""
    preview_every: int = 0
    """A preview after so many steps; 0 for none."""
    joins_fragments: bool = False
    """Whether the caller joins what is larger than a message."""
    detach: bool = False
    """Work on to the end when nobody listens any more."""
    linger_s: float = 0.0
    """Work on for so many seconds when nobody listens any more."""
    results_held: int = 0
    """Results that the caller has already, counted from the first."""

    @property
    def start_kind(self) -> StartKind | None:
        """The starting point's name in the message; None when there is none."""
        return None if self.start is None else KINDS[type(self.start)]


def encode_generate(call: GenerateCall) -> bytes:
    """The message of `Generate`."""
    message = pb.GenerateRequest(
        request_id=call.request_id,
        bundle_id=call.bundle_id,
        seed=call.seed,
        image_index=call.image_index,
        last_stage=call.last_stage,
        options={name: options_message(options) for name, options in call.options.items()},
        output=pb.OutputOptions(
            format=FORMAT_NUMBERS[call.format],
            preview_every=call.preview_every,
            joins_fragments=call.joins_fragments,
        ),
        precisions={name: PRECISION_NUMBERS[p] for name, p in call.precisions.items()},
        detach=call.detach,
        linger_seconds=call.linger_s,
        results_held=call.results_held,
    )
    write_start(message, call.start)
    return serialise(message)


def write_start(message: Any, start: Start | None) -> None:
    """Set the starting point of a GenerateRequest.

    Raises:
        StageError: there is none.
    """
    match start:
        case PromptStart(prompt):
            # Set even when empty: which starting point was chosen is part of the message.
            message.prompt.CopyFrom(pb.PromptStart(prompt=prompt))
        case ContextStart(context):
            message.context.CopyFrom(pb.ContextStart(context=reference_message(context)))
        case ImageStart(context, image):
            message.image.CopyFrom(
                pb.ImageStart(context=reference_message(context), image=image_message(image))
            )
        case ResumeStart():
            message.resume.SetInParent()
        case None:
            raise StageError("a call of Generate says what it starts from")


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
        last_stage=message.last_stage,
        options={name: read_options(options) for name, options in message.options.items()},
        precisions={
            name: read_precision(number, f"precisions.{name[:SHOWN]}")
            for name, number in message.precisions.items()
        },
        format=read_format(output.format, "output.format") if output.format else "png",
        preview_every=output.preview_every,
        joins_fragments=output.joins_fragments,
        detach=message.detach,
        linger_s=message.linger_seconds,
        results_held=message.results_held,
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
    width = message.image.image.width if start == "image" else 0
    return GenerateHead(message.request_id, start, width)


def find_request_id(data: bytes) -> str:
    """The request id in the message of `Generate`, for an error; empty when there is none."""
    try:
        request_id: str = pb.GenerateRequest.FromString(data).request_id
    except DecodeError:
        return ""
    return request_id


def read_start(message: Any) -> Start | None:
    """The starting point of a GenerateRequest."""
    match message.WhichOneof("start"):
        case "prompt":
            return PromptStart(message.prompt.prompt)
        case "context":
            return ContextStart(read_reference(message.context.context))
        case "image":
            image = read_image(message.image.image, "image.image")
            return ImageStart(read_reference(message.image.context), image)
        case "resume":
            return ResumeStart()
        case _:
            return None


def options_message(options: StageOptions) -> Any:
    """The choices for one component; what is None stays unset."""
    return pb.StageOptions(
        steps=options.steps, guidance=options.guidance, augmentation=options.augmentation
    )


def read_options(message: Any) -> StageOptions:
    """Options of one component; what was left out stays None, an explicit 0 does not."""
    return StageOptions(
        steps=message.steps if message.HasField("steps") else None,
        guidance=message.guidance if message.HasField("guidance") else None,
        augmentation=message.augmentation if message.HasField("augmentation") else None,
    )
