"""Our types to the bytes of the wire and back; the only file here that knows the generated code.

Every message leaves and enters as bytes, so that their sizes are what was really sent. Pictures
stay encoded: whoever knows the size to expect decodes them (`packed_pictures`). Knows no channel.
"""

from dataclasses import asdict

from google.protobuf.message import DecodeError

from cascade.codecs.image import FORMATS, ImageFormat
from cascade.codecs.tensor import PackedTensor, pack_tensor, unpack_tensor
from cascade.errors import InvalidRequest, StageError, TransportError
from cascade.events import Accepted, Backend, Progress
from cascade.precision import Precision
from cascade.request import FamilyOptions
from cascade.types import ContextF16
from cascade.wire_contract import fragments
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.remote.messages import (
    Done,
    EncodedImage,
    Fragment,
    GenerateCall,
    PackedPreview,
    ServerEvent,
    ServerInfo,
    StageResult,
    Start,
    StoredContext,
)

SERVICE = "/cascade.v1.CascadeService/"
GET_SERVER_INFO = SERVICE + "GetServerInfo"
PUT_CONTEXT = SERVICE + "PutContext"
GENERATE = SERVICE + "Generate"
GENERATE_FROM_FRAGMENTS = SERVICE + "GenerateFromFragments"
CANCEL = SERVICE + "Cancel"

DTYPES = {
    "uint8": pb.DTYPE_UINT8,
    "float16": pb.DTYPE_FLOAT16,
    "float32": pb.DTYPE_FLOAT32,
}
DTYPE_NAMES = {number: name for name, number in DTYPES.items()}
PRECISIONS: dict[Precision, pb.Precision] = {
    Precision.FP32: pb.PRECISION_FP32,
    Precision.FP16: pb.PRECISION_FP16,
    Precision.BF16: pb.PRECISION_BF16,
    Precision.INT8: pb.PRECISION_INT8,
    Precision.FP8: pb.PRECISION_FP8,
}
PRECISIONS_BY_NUMBER = {number: precision for precision, number in PRECISIONS.items()}
IMAGE_FORMATS: dict[ImageFormat, pb.ImageFormat] = {
    "raw": pb.IMAGE_FORMAT_RAW,
    "png": pb.IMAGE_FORMAT_PNG,
    "webp": pb.IMAGE_FORMAT_WEBP,
    "jpeg": pb.IMAGE_FORMAT_JPEG,
}
IMAGE_FORMAT_NAMES = {number: name for name, number in IMAGE_FORMATS.items()}


def encode_info_request() -> bytes:
    """The message of `GetServerInfo`."""
    data: bytes = pb.GetServerInfoRequest().SerializeToString()
    return data


def decode_info(data: bytes) -> ServerInfo:
    """The answer of `GetServerInfo`.

    Raises:
        TransportError: the bytes are not that message.
    """
    try:
        reply = pb.GetServerInfoResponse.FromString(data)
    except DecodeError as exc:
        raise malformed("GetServerInfo") from exc
    known = [IMAGE_FORMAT_NAMES[n] for n in reply.image_formats if n in IMAGE_FORMAT_NAMES]
    return ServerInfo(
        wire_version=reply.wire_version,
        software_version=reply.software_version,
        bundle_id=reply.bundle_id,
        bundle_name=reply.bundle_name,
        components=tuple(component.name for component in reply.components),
        precisions={
            component.name: PRECISIONS_BY_NUMBER[component.precision]
            for component in reply.components
            if component.precision in PRECISIONS_BY_NUMBER
        },
        image_formats=tuple(f for f in FORMATS if f in known),
        context_lifetime_s=reply.limits.context_lifetime_seconds,
        max_open_requests=max_open_requests(reply),
        max_joined_bytes=reply.limits.max_joined_bytes,
    )


def max_open_requests(reply: pb.GetServerInfoResponse) -> int:
    """How many requests a server lets in at once when nobody else asks; 0 where it does not say.

    As many as may wait for one component, so that none is refused even before the first has begun.
    """
    limits = reply.limits
    held = 3 * sum(component.output_resolution**2 for component in reply.components)
    by_bytes = max(1, limits.max_in_flight_bytes // held) if held else 0
    said = (
        limits.max_queued_per_stage,
        limits.max_in_flight,
        limits.max_in_flight_per_identity,
        by_bytes if limits.max_in_flight_bytes else 0,
    )
    return min((limit for limit in said if limit), default=0)


def encode_put_context(bundle_id: str, context: ContextF16) -> bytes:
    """The message of `PutContext`."""
    message = pb.PutContextRequest(bundle_id=bundle_id, context=tensor_message(context))
    data: bytes = message.SerializeToString()
    return data


def decode_stored_context(data: bytes) -> StoredContext:
    """The answer of `PutContext`.

    Raises:
        TransportError: the bytes are not that message.
    """
    try:
        reply = pb.PutContextResponse.FromString(data)
    except DecodeError as exc:
        raise malformed("PutContext") from exc
    return StoredContext(reply.handle, reply.lifetime_seconds)


def encode_generate(call: GenerateCall) -> bytes:
    """The message of `Generate`."""
    request = call.request
    message = pb.GenerateRequest(
        request_id=call.request_id,
        bundle_id=call.bundle_id,
        seed=request.seed,
        image_index=request.image_index,
        last_stage=call.last_stage,
        output=pb.OutputOptions(
            format=IMAGE_FORMATS[call.format],
            preview_every=request.preview_every,
            joins_fragments=True,
        ),
        detach=call.presence.detach,
        linger_seconds=call.presence.linger_s,
        results_held=call.results_held,
    )
    for name, precision in call.precisions.items():
        message.precisions[name] = PRECISIONS[precision]
    for name, options in request.options.items():
        message.options[name].CopyFrom(options_message(options))
    start = call.start
    if start.resume:
        message.resume.SetInParent()
    elif start.prompt is not None:
        message.prompt.prompt = start.prompt
    elif start.image is None:
        message.context.context.CopyFrom(reference_message(start))
    else:
        message.image.context.CopyFrom(reference_message(start))
        message.image.image.CopyFrom(image_message(start.image))
    data: bytes = message.SerializeToString()
    return data


def encode_fragments(message: bytes) -> list[bytes]:
    """The messages of `GenerateFromFragments` for one of `Generate`."""
    parts = fragments(message)
    return [
        pb.Fragment(data=part, last=number == len(parts)).SerializeToString()
        for number, part in enumerate(parts, start=1)
    ]


def encode_cancel(request_id: str) -> bytes:
    """The message of `Cancel`."""
    data: bytes = pb.CancelRequest(request_id=request_id).SerializeToString()
    return data


def decode_cancelled(data: bytes) -> bool:
    """The answer of `Cancel`: whether there was anything to end.

    Raises:
        TransportError: the bytes are not that message.
    """
    try:
        found: bool = pb.CancelResponse.FromString(data).found
    except DecodeError as exc:
        raise malformed("Cancel") from exc
    return found


def decode_event(data: bytes) -> ServerEvent | Fragment | None:
    """One event of the stream, or part of one; None for a kind that this client does not know.

    Raises:
        TransportError: the bytes are not an event, or hold a broken tensor or an unknown format.
    """
    try:
        reply = pb.GenerateResponse.FromString(data)
    except DecodeError as exc:
        raise malformed("Generate") from exc
    kind = reply.WhichOneof("event")
    if kind == "accepted":
        accepted = reply.accepted
        return Accepted(accepted.queue_position, accepted.estimated_wait_seconds)
    if kind == "progress":
        return Progress(reply.progress.stage, reply.progress.step, reply.progress.of)
    if kind == "preview":
        preview = reply.preview
        return PackedPreview(preview.stage, preview.step, packed_image(preview.image))
    if kind == "stage_result":
        return stage_result(reply.stage_result)
    if kind == "fragment":
        return Fragment(reply.fragment.data, reply.fragment.last)
    return Done(dict(reply.done.seconds)) if kind == "done" else None


def stage_result(message: pb.StageResult) -> StageResult:
    """A component's result from its message."""
    context = None
    if message.HasField("context"):
        tensor = message.context
        packed = PackedTensor(
            tuple(tensor.shape), DTYPE_NAMES.get(tensor.dtype, "unknown"), tensor.data
        )
        try:
            context = unpack_tensor(packed, field="stage_result.context")
        except InvalidRequest as exc:
            raise TransportError(f"the server sent a broken tensor: {exc}") from exc
    image = packed_image(message.image) if message.HasField("image") else None
    precision = PRECISIONS_BY_NUMBER.get(message.precision)
    computed = None if precision is None else Backend(message.engine, precision)
    return StageResult(message.stage, image, context, dict(message.seconds), computed)


def packed_image(message: pb.Image) -> EncodedImage:
    """A picture from its message, still encoded."""
    name = IMAGE_FORMAT_NAMES.get(message.format)
    if name is None:
        raise TransportError("the server sent a picture of an unknown format")
    return EncodedImage(message.width, message.height, name, message.data)


def tensor_message(array: ContextF16) -> pb.Tensor:
    """A tensor as its message."""
    packed = pack_tensor(array)
    return pb.Tensor(shape=packed.shape, dtype=DTYPES[packed.dtype], data=packed.data)


def image_message(image: EncodedImage) -> pb.Image:
    """A picture as its message."""
    return pb.Image(
        width=image.width,
        height=image.height,
        format=IMAGE_FORMATS[image.format],
        data=image.data,
    )


def reference_message(start: Start) -> pb.ContextReference:
    """A context by its handle where there is one, otherwise itself."""
    if start.handle is not None:
        return pb.ContextReference(handle=start.handle)
    if start.context is None:
        raise StageError("a start after the text encoder carries a context or its handle")
    return pb.ContextReference(tensor=tensor_message(start.context))


def options_message(options: FamilyOptions) -> pb.StageOptions:
    """The choices for one component; what is None stays unset."""
    chosen = {name: value for name, value in asdict(options).items() if value is not None}
    return pb.StageOptions(**chosen)


def malformed(method: str) -> TransportError:
    """The error for bytes that are not the message they should be."""
    return TransportError(f"the answer of {method} is malformed: is that a cascade server?")
