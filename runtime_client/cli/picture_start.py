"""The picture that a request begins with, from a file.

Knows formats and pixels; which stage begins with what size, the request's check knows.
"""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cascade.errors import ImageCodecError
from cascade.types import ImageU8
from runtime_client.cli.picture_format import FORMATS, MAX_FILE_BYTES

OPAQUE = ("RGB", "L", "P", "1")
"""Pillow's modes that are RGB without a loss; a palette may hide transparency."""


def read_picture(path: Path) -> ImageU8:
    """The pixels of a picture file, `[height, width, 3]` uint8.

    Raises:
        ImageCodecError: there is no such picture, it is of another format, or transparent.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise refusal(path, f"more than the {MAX_FILE_BYTES >> 20} MiB that are read")
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as picture:
            if picture.mode not in OPAQUE or "transparency" in picture.info:
                raise refusal(
                    path, f"expected RGB or grey without transparency, got {picture.mode}"
                )
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise refusal(path, "not a readable PNG, WebP, JPEG or AVIF picture") from exc
    except OSError as exc:
        raise refusal(path, exc.strerror or "not a readable picture") from exc


def refusal(path: Path, why: str) -> ImageCodecError:
    """The error that names the flag and the file."""
    return ImageCodecError(f"picture: {path}: {why}", field="picture")
