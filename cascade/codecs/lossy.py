"""Pictures written with loss, at a quality that the caller chooses.

Knows Pillow's codecs; not why somebody wants fewer bytes.
"""

import io
from typing import Literal

from PIL import Image, features

from cascade.errors import InvalidRequest
from cascade.types import ImageU8

LossyFormat = Literal["jpeg", "webp", "avif"]


def writes_avif() -> bool:
    """Whether the Pillow installed here has that codec."""
    return bool(features.check("avif"))


def check_writable(format_: str, field: str) -> None:
    """Raise `InvalidRequest` for AVIF where the Pillow installed here cannot write it.

    Args:
        format_: what is to be written.
        field: of the caller's that names it.
    """
    if format_ == "avif" and not writes_avif():
        raise InvalidRequest(
            f"{field}: the Pillow installed here writes no AVIF: pip install 'pillow>=11.3', or "
            "choose webp90",
            field=field,
        )


def encode_lossy(image: ImageU8, format_: LossyFormat, quality: int) -> bytes:
    """A picture as bytes.

    Args:
        image: `[H, W, 3]` uint8.
        format_: what to write.
        quality: 0 to 100; more is larger and nearer to the pixels.
    """
    out = io.BytesIO()
    picture = Image.fromarray(image)
    if format_ == "webp":
        # The fast end of the encoder: a caller waits.
        picture.save(out, "WEBP", quality=quality, method=2)
    elif format_ == "jpeg":
        picture.save(out, "JPEG", quality=quality)
    else:
        picture.save(out, "AVIF", quality=quality, speed=8)
    return out.getvalue()
