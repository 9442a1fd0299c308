"""What several messages carry: tensors, encoded images, references to contexts, precisions.

Pictures stay encoded and tensors packed: the side that knows the size to expect decodes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.codecs.image import FORMATS, ImageFormat
from cascade.codecs.tensor import PackedTensor
from cascade.errors import InvalidRequest, StageError
from cascade.precision import Precision
from protos.cascade.v1 import cascade_pb2 as pb

DTYPE_NUMBERS: dict[str, Any] = {
    "uint8": pb.DTYPE_UINT8,
    "float16": pb.DTYPE_FLOAT16,
    "float32": pb.DTYPE_FLOAT32,
}
FORMAT_NUMBERS: dict[ImageFormat, Any] = {
    "raw": pb.IMAGE_FORMAT_RAW,
    "png": pb.IMAGE_FORMAT_PNG,
    "webp": pb.IMAGE_FORMAT_WEBP,
    "jpeg": pb.IMAGE_FORMAT_JPEG,
    "webp90": pb.IMAGE_FORMAT_WEBP90,
    "avif": pb.IMAGE_FORMAT_AVIF,
}
PRECISION_NUMBERS: dict[Precision, Any] = {
    Precision.FP32: pb.PRECISION_FP32,
    Precision.FP16: pb.PRECISION_FP16,
    Precision.BF16: pb.PRECISION_BF16,
    Precision.INT8: pb.PRECISION_INT8,
    Precision.FP8: pb.PRECISION_FP8,
    Precision.INT8_BLOCK: pb.PRECISION_INT8_BLOCK,
    Precision.INT4_BLOCK: pb.PRECISION_INT4_BLOCK,
}
# Inverted rather than written twice: a dtype that can be sent can be read.
DTYPE_NAMES = {number: name for name, number in DTYPE_NUMBERS.items()}
FORMAT_NAMES: Mapping[int, ImageFormat] = {number: f for f, number in FORMAT_NUMBERS.items()}
PRECISIONS: Mapping[int, Precision] = {number: p for p, number in PRECISION_NUMBERS.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedImage:
    """An image as a message carries it: `Image` in the proto file."""

    width: int
    height: int
    format: ImageFormat
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextReference:
    """Embeddings by handle or by value; both None when the message holds neither."""

    handle: bytes | None = None
    tensor: PackedTensor | None = None


def tensor_message(packed: PackedTensor) -> Any:
    """A Tensor message."""
    return pb.Tensor(shape=packed.shape, dtype=DTYPE_NUMBERS[packed.dtype], data=packed.data)


def read_tensor(message: Any) -> PackedTensor:
    """A tensor as it came; an unknown dtype has an empty name."""
    # Not refused here: whoever unpacks it knows the field's path and names it in the error.
    return PackedTensor(tuple(message.shape), DTYPE_NAMES.get(message.dtype, ""), message.data)


def tensor_messages(packed: Mapping[str, PackedTensor]) -> dict[str, Any]:
    """Tensor messages by name, in the order of the names."""
    return {name: tensor_message(packed[name]) for name in sorted(packed)}


def read_tensors(messages: Mapping[str, Any]) -> dict[str, PackedTensor]:
    """Tensors by name, as they came."""
    return {name: read_tensor(messages[name]) for name in messages}


def image_message(image: EncodedImage) -> Any:
    """An Image message."""
    return pb.Image(
        width=image.width,
        height=image.height,
        format=FORMAT_NUMBERS[image.format],
        data=image.data,
    )


def read_image(message: Any, field: str) -> EncodedImage:
    """An image as it came, still encoded.

    Args:
        message: the Image.
        field: its path, for the error.

    Raises:
        InvalidRequest: of a format that this side does not know.
    """
    return EncodedImage(
        width=message.width,
        height=message.height,
        format=read_format(message.format, f"{field}.format"),
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
    """A precision; see `read_format`.

    Raises:
        InvalidRequest: the number is none that we know.
    """
    precision = PRECISIONS.get(number)
    if precision is None:
        raise InvalidRequest(
            f"{field}: expected one of {', '.join(Precision)}, got number {number}", field=field
        )
    return precision


def reference_message(reference: ContextReference) -> Any:
    """A ContextReference message; the handle alone where there is one.

    Raises:
        StageError: it refers to nothing.
    """
    if reference.handle is not None:
        return pb.ContextReference(handle=reference.handle)
    if reference.tensor is None:
        raise StageError("a start after the text encoder carries a context or its handle")
    return pb.ContextReference(tensor=tensor_message(reference.tensor))


def read_reference(message: Any) -> ContextReference:
    """Whichever of handle and tensor was given."""
    given = message.WhichOneof("reference")
    return ContextReference(
        handle=message.handle if given == "handle" else None,
        tensor=read_tensor(message.tensor) if given == "tensor" else None,
    )
