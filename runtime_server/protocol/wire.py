"""Messages of the wire to our own types and back; the only file that knows the generated code.

A message is parsed here rather than inside gRPC, so that bytes which are no message get the same
typed answer as any other bad request. What a value must be is not known here; `admission` checks.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from cascade import __version__
from cascade.codecs.image import FORMATS, ImageFormat, decode_image, encode_image
from cascade.codecs.tensor import PackedTensor, pack_tensor
from cascade.diffusion.request_options import MAX_STEPS, DiffusionOptions
from cascade.errors import InvalidRequest, MessageTooLarge
from cascade.events import Accepted, Backend, Progress
from cascade.precision import Precision
from cascade.request import MAX_PROMPT_CHARACTERS
from cascade.types import ContextF16
from cascade.wire_contract import MAX_MESSAGE_BYTES, WIRE_VERSION, fragments
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.protocol.calls import (
    Beginning,
    ContextReference,
    EncodedImage,
    GenerateCall,
    PutContextCall,
)
from runtime_server.protocol.info import ServerInfo

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["CascadeService"].full_name

SHOWN = 64
"""Characters of a caller's own text that an error quotes."""

DTYPE_NAMES = {pb.DTYPE_UINT8: "uint8", pb.DTYPE_FLOAT16: "float16", pb.DTYPE_FLOAT32: "float32"}
DTYPE_NUMBERS = {name: number for number, name in DTYPE_NAMES.items()}
FORMAT_NAMES: dict[int, ImageFormat] = {
    pb.IMAGE_FORMAT_RAW: "raw",
    pb.IMAGE_FORMAT_PNG: "png",
    pb.IMAGE_FORMAT_WEBP: "webp",
    pb.IMAGE_FORMAT_JPEG: "jpeg",
}
PRECISION_NUMBERS: dict[Precision, Any] = {
    Precision.FP32: pb.PRECISION_FP32,
    Precision.FP16: pb.PRECISION_FP16,
    Precision.BF16: pb.PRECISION_BF16,
    Precision.INT8: pb.PRECISION_INT8,
    Precision.FP8: pb.PRECISION_FP8,
}
PRECISIONS = {number: precision for precision, number in PRECISION_NUMBERS.items()}
FORMAT_NUMBERS: dict[ImageFormat, Any] = {name: number for number, name in FORMAT_NAMES.items()}


def parse(kind: Any, data: bytes) -> Any:
    """A message of type `kind`.

    Raises:
        InvalidRequest: the bytes are no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as exc:
        raise InvalidRequest(
            f"message: these {len(data)} bytes are not a {kind.DESCRIPTOR.name}", field="message"
        ) from exc


def read_server_info_request(data: bytes) -> None:
    """Check the empty request of GetServerInfo."""
    parse(pb.GetServerInfoRequest, data)


def read_put_context(data: bytes) -> PutContextCall:
    """The bytes of a PutContextRequest."""
    message = parse(pb.PutContextRequest, data)
    return PutContextCall(bundle_id=message.bundle_id, context=read_tensor(message.context))


def read_beginning(data: bytes) -> Beginning:
    """The first look at the bytes of a GenerateRequest.

    Protobuf takes microseconds for the whole message, our own values of it take far longer: what is
    refused for want of room is not worth them.
    """
    message = parse(pb.GenerateRequest, data)
    start = message.WhichOneof("start")
    width = message.image.image.width if start == "image" else 0
    return Beginning(message.request_id, start, width)


def read_generate(data: bytes) -> GenerateCall:
    """The bytes of a GenerateRequest."""
    message = parse(pb.GenerateRequest, data)
    start = message.WhichOneof("start")
    holder = message.image if start == "image" else message.context
    output = message.output
    return GenerateCall(
        request_id=message.request_id,
        bundle_id=message.bundle_id,
        start=start,
        prompt=message.prompt.prompt,
        context=read_context_reference(holder.context),
        image=read_image(message.image.image) if start == "image" else None,
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


def read_fragment(data: bytes) -> tuple[bytes, bool]:
    """The bytes of a Fragment: its part of the message, and whether it is the last one."""
    message = parse(pb.Fragment, data)
    return message.data, message.last


def read_cancel(data: bytes) -> str:
    """The request id in the bytes of a CancelRequest."""
    request_id: str = parse(pb.CancelRequest, data).request_id
    return request_id


def find_request_id(data: bytes) -> str:
    """The request id in the bytes of a GenerateRequest, for an error; empty when there is none."""
    try:
        request_id: str = pb.GenerateRequest.FromString(data).request_id
    except DecodeError:
        return ""
    return request_id


def read_tensor(message: Any) -> PackedTensor:
    """A tensor as it came; an unknown dtype has an empty name."""
    return PackedTensor(tuple(message.shape), DTYPE_NAMES.get(message.dtype, ""), message.data)


def read_context_reference(message: Any) -> ContextReference:
    """Whichever of handle and tensor was given."""
    given = message.WhichOneof("reference")
    return ContextReference(
        handle=message.handle if given == "handle" else None,
        tensor=read_tensor(message.tensor) if given == "tensor" else None,
    )


def read_image(message: Any) -> EncodedImage:
    """The image of an ImageStart."""
    return EncodedImage(
        width=message.width,
        height=message.height,
        format=read_format(message.format, "image.image.format"),
        data=message.data,
    )


def read_format(number: int, field: str) -> ImageFormat:
    """The name of an image format.

    Raises:
        InvalidRequest: the number is none that we know.
    """
    name = FORMAT_NAMES.get(number)
    if name is None:
        raise InvalidRequest(
            f"{field}: expected one of {', '.join(FORMATS)}, got number {number}", field=field
        )
    return name


def read_precision(number: int, field: str) -> Precision:
    """A precision.

    Raises:
        InvalidRequest: the number is none that we know.
    """
    precision = PRECISIONS.get(number)
    if precision is None:
        raise InvalidRequest(
            f"{field}: expected one of {', '.join(Precision)}, got number {number}", field=field
        )
    return precision


def read_options(message: Any) -> DiffusionOptions:
    """Options of one component; what was left out stays None, an explicit 0 does not."""
    return DiffusionOptions(
        steps=message.steps if message.HasField("steps") else None,
        guidance=message.guidance if message.HasField("guidance") else None,
        augmentation=message.augmentation if message.HasField("augmentation") else None,
    )


def write_server_info(info: ServerInfo) -> bytes:
    """A GetServerInfoResponse."""
    config = info.config
    components = [
        pb.ComponentInfo(
            name=c.name,
            position=c.position,
            family=c.family,
            output_resolution=c.output_resolution,
            milliseconds_per_step=c.milliseconds_per_step,
            queued=c.queued,
            default_steps=c.default_steps,
            precision=PRECISION_NUMBERS[c.computed.precision],
            engine=c.computed.engine,
            max_batch_rows=c.max_batch_rows,
            device=c.device,
            tuned=c.tuned,
        )
        for c in info.components
    ]
    limits = pb.Limits(
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_prompt_characters=MAX_PROMPT_CHARACTERS,
        max_steps=MAX_STEPS,
        max_queued_per_stage=config.max_queued_per_stage,
        context_store_bytes=config.context_store_bytes,
        context_lifetime_seconds=config.context_lifetime_s,
        result_store_bytes=config.result_store_bytes,
        result_lifetime_seconds=config.result_lifetime_s,
        max_in_flight_bytes=config.max_in_flight_bytes,
        max_in_flight_per_identity=config.max_in_flight_per_identity,
        max_linger_seconds=config.max_linger_s,
        max_in_flight=config.max_in_flight,
        max_joined_bytes=info.max_joined_bytes,
    )
    return serialise(
        pb.GetServerInfoResponse(
            wire_version=WIRE_VERSION,
            software_version=__version__,
            bundle_id=info.bundle_id,
            bundle_name=info.bundle_name,
            components=components,
            limits=limits,
            image_formats=[FORMAT_NUMBERS[name] for name in FORMATS],
        )
    )


def write_put_context(handle: bytes, lifetime_s: float) -> bytes:
    """A PutContextResponse."""
    return serialise(pb.PutContextResponse(handle=handle, lifetime_seconds=lifetime_s))


def write_cancel(*, found: bool) -> bytes:
    """A CancelResponse."""
    return serialise(pb.CancelResponse(found=found))


def write_accepted(event: Accepted, *, joined: bool) -> bytes:
    """The first message of a Generate stream; `joined` when an earlier call began the work."""
    accepted = pb.Accepted(
        queue_position=event.queue_position,
        estimated_wait_seconds=event.estimated_wait_s,
        joined=joined,
    )
    return serialise(pb.GenerateResponse(accepted=accepted))


def write_progress(event: Progress) -> bytes:
    """One step done."""
    progress = pb.Progress(stage=event.stage, step=event.done, of=event.total)
    return serialise(pb.GenerateResponse(progress=progress))


def write_preview(stage: str, step: int, image: EncodedImage) -> bytes:
    """A stage's present estimate."""
    preview = pb.Preview(stage=stage, step=step, image=image_message(image))
    return serialise(pb.GenerateResponse(preview=preview))


def write_stage_result(
    stage: str,
    image: EncodedImage | None,
    context: ContextF16 | None,
    seconds: Mapping[str, float],
    computed: Backend | None,
) -> bytes:
    """A component's result: an image, or the text encoder's context."""
    result = pb.StageResult(
        stage=stage,
        image=None if image is None else image_message(image),
        context=None if context is None else tensor_message(context),
        seconds=seconds,
        precision=None if computed is None else PRECISION_NUMBERS[computed.precision],
        engine=None if computed is None else computed.engine,
    )
    return serialise(pb.GenerateResponse(stage_result=result))


def write_fragments(message: bytes) -> list[bytes]:
    """A GenerateResponse that is larger than a message, as several that are not."""
    parts = fragments(message)
    return [
        serialise(pb.GenerateResponse(fragment=pb.Fragment(data=part, last=number == len(parts))))
        for number, part in enumerate(parts, start=1)
    ]


def encoded_smaller(message: bytes) -> bytes:
    """A stage's result whose raw picture makes it larger than a message, encoded without loss.

    Raises:
        MessageTooLarge: it still is.
    """
    response = pb.GenerateResponse.FromString(message)
    image = response.stage_result.image
    if image.format == pb.IMAGE_FORMAT_RAW:
        size = (image.height, image.width)
        pixels = decode_image(image.data, "raw", size, field="image")
        image.data, image.format = encode_image(pixels, "webp"), pb.IMAGE_FORMAT_WEBP
    smaller = serialise(response)
    if len(smaller) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"{response.stage_result.stage}: its result takes {len(smaller)} bytes, a message "
            f"holds {MAX_MESSAGE_BYTES}: set output.joins_fragments and join them, or update the "
            "client",
            field="output.joins_fragments",
        )
    return smaller


def write_done(seconds: Mapping[str, float], bytes_received: int, bytes_sent: int) -> bytes:
    """The last message of a Generate stream."""
    done = pb.Done(seconds=seconds, bytes_received=bytes_received, bytes_sent=bytes_sent)
    return serialise(pb.GenerateResponse(done=done))


def image_message(image: EncodedImage) -> Any:
    """An Image message."""
    return pb.Image(
        width=image.width,
        height=image.height,
        format=FORMAT_NUMBERS[image.format],
        data=image.data,
    )


def tensor_message(array: ContextF16) -> Any:
    """A Tensor message."""
    packed = pack_tensor(array)
    return pb.Tensor(shape=packed.shape, dtype=DTYPE_NUMBERS[packed.dtype], data=packed.data)


def serialise(message: Any) -> bytes:
    """A message as bytes."""
    data: bytes = message.SerializeToString()
    return data
