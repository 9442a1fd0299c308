"""A caller's own picture and mask as an edit in a message of `Generate`.

Sizes are looked at before a pixel is decoded. The mask is that of the API: transparent pixels are
made anew. Knows files and pixels; what becomes of an edit, `cascade.edit` knows.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from cascade.codecs.image import encode_image
from cascade.edit import REDRAWN, Edit, Size, fitted
from cascade.errors import ImageCodecError, InvalidRequest
from cascade.types import PlaneU8
from wire.edits import EncodedEdit, packed_mask
from wire.payloads import EncodedImage

READ = ("PNG", "WEBP", "JPEG")
MAX_SIDE = 2048
"""Of a picture that is decoded: 12 MB as RGB."""
BROKEN = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    OSError,
    SyntaxError,
    ValueError,
)


def edit_of(
    files: Mapping[str, bytes], sizes: Sequence[Size], strength: float | None, resample: int
) -> EncodedEdit:
    """The edit that a form asks for.

    Args:
        files: `image`, and `mask` where there is one.
        sizes: of what the stages make, the smallest first, up to the one that is asked for.
        strength: None takes the default.
        resample: with a mask, how often each step is taken.

    Raises:
        ImageCodecError: a file is no picture, or too large.
        InvalidRequest: a number is out of bounds, or the mask does not lie on the picture.
    """
    picture = opened(files["image"], "image").convert("RGB")
    mask = None if "mask" not in files else redrawn_of(opened(files["mask"], "mask"))
    edit = fitted(
        Edit(picture=np.asarray(picture), mask=mask, strength=strength, resample=resample), sizes
    )
    wide, tall = edit.size
    data = encode_image(edit.picture, "raw")
    return EncodedEdit(
        picture=EncodedImage(width=wide, height=tall, format="raw", data=data),
        mask=b"" if edit.mask is None else packed_mask(edit.mask >= REDRAWN),
        strength=edit.share,
        resample=edit.resample,
    )


def opened(data: bytes, name: str) -> Image.Image:
    """A picture file, decoded.

    Args:
        data: from outside.
        name: of its part in the form.

    Raises:
        ImageCodecError: no PNG, WebP or JPEG, or too large.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=READ)
        if max(picture.size) > MAX_SIDE:
            raise ImageCodecError(
                f"{name}: at most {MAX_SIDE} pixels a side, got "
                f"{picture.size[0]}x{picture.size[1]}",
                field=name,
            )
        picture.load()
    except BROKEN as exc:
        raise ImageCodecError(
            f"{name}: not a readable PNG, WebP or JPEG picture", field=name
        ) from exc
    return picture


def redrawn_of(mask: Image.Image) -> PlaneU8:
    """A mask as ours has it: `[height, width]` uint8, 255 where its picture is transparent.

    Raises:
        InvalidRequest: it has no transparency.
    """
    if "A" not in mask.getbands() and "transparency" not in mask.info:
        raise InvalidRequest(
            "mask: it has no transparency; make transparent what is to be drawn anew", field="mask"
        )
    alpha = np.asarray(mask.convert("RGBA"))[:, :, 3]
    flags: PlaneU8 = np.where(alpha < REDRAWN, 255, 0).astype(np.uint8)
    return flags
