"""An edit of a caller's own picture, and the size of a picture, as a call carries them.

The picture stays encoded and the mask packed: the side that knows the size to expect decodes them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.types import Flags
from protos.cascade.v1 import cascade_pb2 as pb
from wire.payloads import EncodedImage, image_message, read_image


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedEdit:
    """`Edit` in the proto file."""

    picture: EncodedImage
    mask: bytes = b""
    """See `packed_mask`; empty keeps nothing."""
    strength: float = 0.0
    resample: int = 0
    """0 counts as 1."""


@dataclass(frozen=True, slots=True)
class PictureSize:
    """Width and height, in pixels."""

    width: int
    height: int


def packed_mask(mask: Flags) -> bytes:
    """A mask `[height, width]`, true is made anew, as a bit of each pixel: rows from the top."""
    return np.packbits(mask).tobytes()


def mask_bytes(width: int, height: int) -> int:
    """Bytes that a packed mask has."""
    return -(-width * height // 8)


def unpacked_mask(data: bytes, width: int, height: int) -> Flags:
    """The mask in bytes of the right number.

    Args:
        data: as `packed_mask` makes it.
        width: in pixels.
        height: in pixels.

    Returns:
        `[height, width]` bool.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=width * height)
    return bits.reshape(height, width).astype(bool)


def edit_message(edit: EncodedEdit) -> Any:
    """An Edit message."""
    return pb.Edit(
        picture=image_message(edit.picture),
        mask=edit.mask,
        strength=edit.strength,
        resample=edit.resample,
    )


def read_edit(message: Any) -> EncodedEdit:
    """An edit as it came.

    Raises:
        InvalidRequest: its picture is of a format that this side does not know.
    """
    return EncodedEdit(
        picture=read_image(message.picture, "edit.picture"),
        mask=message.mask,
        strength=message.strength,
        resample=message.resample,
    )


def size_message(size: PictureSize) -> Any:
    """A PictureSize message."""
    return pb.PictureSize(width=size.width, height=size.height)


def read_size(message: Any) -> PictureSize:
    """A size as it came."""
    return PictureSize(message.width, message.height)
