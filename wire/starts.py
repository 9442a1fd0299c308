"""What a request starts from: one value for each alternative of the oneof `start`.

Parsed and not checked: whether a bundle has such a start, admission decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from cascade.codecs.tensor import PackedTensor
from cascade.errors import StageError
from protos.cascade.v1 import cascade_pb2 as pb
from wire.payloads import (
    ContextReference,
    EncodedImage,
    image_message,
    read_image,
    read_reference,
    read_tensor,
    reference_message,
    tensor_message,
)

StartKind = Literal["prompt", "context", "image", "label", "noise", "kept", "tensor", "resume"]


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
    """Start from an image, and the context or the class beside it."""

    image: EncodedImage
    context: ContextReference | None = None
    """None in a cascade without text."""
    label: int | None = None
    """None in a cascade without classes."""
    own_picture: bool = False
    """Whether it is the caller's own: of any size, and without a context where it has no words."""


@dataclass(frozen=True, slots=True)
class TensorStart:
    """Start from a latent, and the context beside it."""

    tensor: PackedTensor
    context: ContextReference | None = None
    """None of a component without text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptStart:
    """Start from the picture of a component of a finished request, which the server kept."""

    request_id: str
    """Of the finished request."""
    stage: str
    """The component that made the picture."""
    width: int
    """Of it, in pixels."""
    height: int
    context: ContextReference | None = None
    """None where it has no words."""


@dataclass(frozen=True, slots=True)
class LabelStart:
    """Start from the number of a class."""

    label: int


@dataclass(frozen=True, slots=True)
class NoiseStart:
    """Start from noise alone."""


@dataclass(frozen=True, slots=True)
class ResumeStart:
    """Begin nothing: listen to the work that the request id names already."""


Start: TypeAlias = (
    PromptStart
    | ContextStart
    | ImageStart
    | LabelStart
    | NoiseStart
    | KeptStart
    | TensorStart
    | ResumeStart
)
KINDS: Mapping[type, StartKind] = {
    PromptStart: "prompt",
    ContextStart: "context",
    ImageStart: "image",
    LabelStart: "label",
    NoiseStart: "noise",
    KeptStart: "kept",
    TensorStart: "tensor",
    ResumeStart: "resume",
}


def kind_of_start(start: Start) -> StartKind:
    """The name of a starting point in the message."""
    return KINDS[type(start)]


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
        case ImageStart():
            message.image.CopyFrom(image_start_message(start))
        case LabelStart(label):
            message.label.CopyFrom(pb.LabelStart(label=label))
        case NoiseStart():
            message.noise.SetInParent()
        case KeptStart():
            message.kept.CopyFrom(kept_start_message(start))
        case TensorStart():
            message.tensor.CopyFrom(tensor_start_message(start))
        case ResumeStart():
            message.resume.SetInParent()
        case None:
            raise StageError("a call of Generate says what it starts from")


def image_start_message(start: ImageStart) -> Any:
    """An ImageStart message."""
    return pb.ImageStart(
        context=None if start.context is None else reference_message(start.context),
        image=image_message(start.image),
        label=start.label,
        own_picture=start.own_picture,
    )


def tensor_start_message(start: TensorStart) -> Any:
    """A TensorStart message."""
    return pb.TensorStart(
        context=None if start.context is None else reference_message(start.context),
        tensor=tensor_message(start.tensor),
    )


def kept_start_message(start: KeptStart) -> Any:
    """A KeptStart message."""
    return pb.KeptStart(
        request_id=start.request_id,
        stage=start.stage,
        width=start.width,
        height=start.height,
        context=None if start.context is None else reference_message(start.context),
    )


def read_start(message: Any) -> Start | None:
    """The starting point of a GenerateRequest; None where the client named none."""
    kind = message.WhichOneof("start")
    return READERS[kind](getattr(message, kind)) if kind in READERS else None


def read_image_start(message: Any) -> ImageStart:
    """An ImageStart as it came."""
    return ImageStart(
        image=read_image(message.image, "image.image"),
        context=read_reference(message.context) if message.HasField("context") else None,
        label=message.label if message.HasField("label") else None,
        own_picture=message.own_picture,
    )


def read_tensor_start(message: Any) -> TensorStart:
    """A TensorStart as it came."""
    return TensorStart(
        read_tensor(message.tensor),
        read_reference(message.context) if message.HasField("context") else None,
    )


def read_kept_start(message: Any) -> KeptStart:
    """A KeptStart as it came."""
    return KeptStart(
        request_id=message.request_id,
        stage=message.stage,
        width=message.width,
        height=message.height,
        context=read_reference(message.context) if message.HasField("context") else None,
    )


READERS: Mapping[str, Callable[[Any], Start]] = {
    "prompt": lambda message: PromptStart(message.prompt),
    "context": lambda message: ContextStart(read_reference(message.context)),
    "image": read_image_start,
    "label": lambda message: LabelStart(message.label),
    "noise": lambda _: NoiseStart(),
    "kept": read_kept_start,
    "tensor": read_tensor_start,
    "resume": lambda _: ResumeStart(),
}
