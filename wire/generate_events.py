"""The stream that answers `Generate`: what happens to a request, in order.

Each value is one `GenerateResponse`. Progress and acceptance are the events of the vocabulary;
pictures are still encoded and tensors packed, and the receiver decodes them once it has checked
their sizes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cascade.codecs.tensor import PackedTensor
from cascade.errors import InvalidRequest, TransportError
from cascade.events import Accepted, Backend, Progress
from protos.cascade.v1 import cascade_pb2 as pb
from wire.fragments import Fragment, fragment_message, read_fragment
from wire.parsing import parse_answer, serialise
from wire.payloads import (
    PRECISION_NUMBERS,
    PRECISIONS,
    EncodedImage,
    image_message,
    read_image,
    read_tensor,
    read_tensors,
    tensor_message,
    tensor_messages,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPreview:
    """A stage's present estimate, still encoded: `Preview` in the proto file."""

    stage: str
    done: int
    """Units of its work, as `Progress` counts them."""
    image: EncodedImage


@dataclass(frozen=True, kw_only=True, slots=True)
class StageResult:
    """A component's result, still encoded: an image, a latent, or the text encoder's context."""

    stage: str
    image: EncodedImage | None = None
    context: PackedTensor | None = None
    tensor: PackedTensor | None = None
    """A latent."""
    vectors: Mapping[str, PackedTensor] = field(default_factory=dict)
    """What a text encoder makes beside its context, by name."""
    # Names are free text on the wire: a server may time more than this client knows rows for.
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Where the time went, by name."""
    computed: Backend | None = None
    """What computed it; None where the server does not say or the precision is unknown here."""
    engine_s: float = 0.0
    """Seconds of the component's own that its engines ran; 0 where the server does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The end of the stream."""

    seconds: Mapping[str, float]
    """By hop on the server: queue, each component, encoding."""
    bytes_received: int = 0
    bytes_sent: int = 0


GenerateEvent: TypeAlias = Accepted | Progress | EncodedPreview | StageResult | Done | Fragment


def encode_event(event: GenerateEvent) -> bytes:
    """One message of the stream."""
    match event:
        case Accepted():
            response = pb.GenerateResponse(accepted=accepted_message(event))
        case Progress():
            response = pb.GenerateResponse(progress=progress_message(event))
        case EncodedPreview():
            response = pb.GenerateResponse(preview=preview_message(event))
        case StageResult():
            response = pb.GenerateResponse(stage_result=result_message(event))
        case Done():
            response = pb.GenerateResponse(done=done_message(event))
        case Fragment():
            response = pb.GenerateResponse(fragment=fragment_message(event))
    return serialise(response)


def decode_event(data: bytes) -> GenerateEvent | None:
    """One message of the stream; None for a kind that is unknown here.

    Raises:
        TransportError: the bytes are not that message, or hold an image of an unknown format.
    """
    response = parse_answer(pb.GenerateResponse, data, "Generate")
    kind = response.WhichOneof("event")
    # A newer server may send kinds that are unknown here; to skip them keeps older clients working.
    return READERS[kind](getattr(response, kind)) if kind in READERS else None


def accepted_message(event: Accepted) -> Any:
    """An Accepted message."""
    return pb.Accepted(
        queue_position=event.queue_position,
        estimated_wait_seconds=event.estimated_wait_s,
        joined=event.joined,
    )


def read_accepted(message: Any) -> Accepted:
    """That the server took the request."""
    return Accepted(message.queue_position, message.estimated_wait_seconds, message.joined)


def progress_message(event: Progress) -> Any:
    """A Progress message."""
    return pb.Progress(stage=event.stage, step=event.done, of=event.total, unit=event.unit)


def read_progress(message: Any) -> Progress:
    """How far a stage is."""
    # Servers from before `unit` counted steps of diffusion and nothing else.
    return Progress(message.stage, message.step, message.of, message.unit or "step")


def preview_message(event: EncodedPreview) -> Any:
    """A Preview message."""
    return pb.Preview(stage=event.stage, step=event.done, image=image_message(event.image))


def read_preview(message: Any) -> EncodedPreview:
    """A stage's present estimate."""
    return EncodedPreview(
        stage=message.stage, done=message.step, image=read_received_image(message.image)
    )


def result_message(event: StageResult) -> Any:
    """A StageResult message."""
    computed = event.computed
    return pb.StageResult(
        stage=event.stage,
        image=None if event.image is None else image_message(event.image),
        context=None if event.context is None else tensor_message(event.context),
        tensor=None if event.tensor is None else tensor_message(event.tensor),
        vectors=tensor_messages(event.vectors),
        seconds=event.seconds,
        precision=None if computed is None else PRECISION_NUMBERS[computed.precision],
        engine=None if computed is None else computed.engine,
        engine_seconds=event.engine_s,
    )


def read_result(message: Any) -> StageResult:
    """A component's result."""
    precision = PRECISIONS.get(message.precision)
    return StageResult(
        stage=message.stage,
        # Presence, not emptiness: an image of no bytes must fail to decode, not pass for a context.
        image=read_received_image(message.image) if message.HasField("image") else None,
        context=read_tensor(message.context) if message.HasField("context") else None,
        tensor=read_tensor(message.tensor) if message.HasField("tensor") else None,
        vectors=read_tensors(message.vectors),
        seconds=dict(message.seconds),
        # 0 (unspecified) and numbers of newer servers both have no precision here: unknown, not
        # float32.
        computed=None if precision is None else Backend(message.engine, precision),
        engine_s=message.engine_seconds,
    )


def read_received_image(message: Any) -> EncodedImage:
    """An image from the server.

    Raises:
        TransportError: of a format that this side does not know.
    """
    try:
        return read_image(message, "image")
    # The same reader serves both directions; here the fault is the server's, and the caller's
    # request is sound.
    except InvalidRequest as exc:
        raise TransportError("the server sent a picture of an unknown format") from exc


def done_message(event: Done) -> Any:
    """A Done message."""
    return pb.Done(
        seconds=event.seconds,
        bytes_received=event.bytes_received,
        bytes_sent=event.bytes_sent,
    )


def read_done(message: Any) -> Done:
    """The end of the stream."""
    return Done(
        seconds=dict(message.seconds),
        bytes_received=message.bytes_received,
        bytes_sent=message.bytes_sent,
    )


READERS: Mapping[str, Callable[[Any], GenerateEvent]] = {
    "accepted": read_accepted,
    "progress": read_progress,
    "preview": read_preview,
    "stage_result": read_result,
    "done": read_done,
    "fragment": read_fragment,
}
"""By the name of the event in the message."""
