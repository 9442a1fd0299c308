"""A picture of the caller's own, from a file of whatever kind: pixels as they are seen, and alpha.

Turned as its Exif orientation says, brought to 8-bit RGB, with the transparency kept apart: the
networks know none. Colour profiles are not applied. Knows formats; not what is made of it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cascade.diffusion.conditioning import upsample
from cascade.errors import ImageCodecError
from cascade.types import ImageU8, PlaneU8
from runtime_client.cli.picture_format import MAX_FILE_BYTES

READ = ("PNG", "WEBP", "JPEG", "AVIF", "GIF", "BMP", "TIFF", "PPM")
"""Pillow's names of formats that pictures of one's own come in."""
PLAIN = ("RGB", "L", "1", "CMYK", "YCbCr", "LAB", "HSV")
"""Modes that Pillow brings to RGB by itself."""


@dataclass(frozen=True, slots=True)
class OwnPixels:
    """What a file shows."""

    rgb: ImageU8
    alpha: PlaneU8 | None
    """None for a picture without transparency."""


def read_own_picture(path: Path) -> OwnPixels:
    """The pixels of a picture file, the right way up.

    Raises:
        ImageCodecError: there is no such picture, or it is of a kind that is not read.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise refusal(path, f"more than the {MAX_FILE_BYTES >> 20} MiB that are read")
        with Image.open(path, formats=READ) as picture:
            # Of an animation the first frame.
            return pixels_of(ImageOps.exif_transpose(picture), path)
    except (
        UnidentifiedImageError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as exc:
        raise refusal(path, f"not a readable picture ({', '.join(READ)})") from exc
    except OSError as exc:
        raise refusal(path, exc.strerror or "not a readable picture") from exc


def pixels_of(picture: Image.Image, path: Path) -> OwnPixels:
    """RGB and transparency of an open picture.

    Args:
        picture: the right way up.
        path: its file, for errors.
    """
    if picture.mode.startswith("I"):
        # Sixteen bits of grey: Pillow would cut them off at 255.
        grey = np.asarray(picture.convert("I")).clip(0, 65535)
        levels = ((grey + 128) // 257).astype(np.uint8)
        return OwnPixels(np.repeat(levels[:, :, None], 3, axis=2), None)
    if "A" in picture.getbands() or "transparency" in picture.info:
        four = np.asarray(picture.convert("RGBA"))
        alpha = np.ascontiguousarray(four[:, :, 3])
        rgb = np.ascontiguousarray(four[:, :, :3])
        return OwnPixels(rgb, None if (alpha == 255).all() else alpha)
    if picture.mode not in (*PLAIN, "P"):
        raise refusal(path, f"expected 8-bit colours or grey, got {picture.mode}")
    return OwnPixels(np.asarray(picture.convert("RGB")), None)


def enlarged_alpha(alpha: PlaneU8, factor: int) -> PlaneU8:
    """Transparency enlarged by cubic convolution, as the pixels are before the networks see them.

    Args:
        alpha: `[height, width]` uint8.
        factor: whole number.

    Returns:
        `[height * factor, width * factor]` uint8.
    """
    levels = upsample(alpha[None, None].astype(np.float32), factor)[0, 0]
    pixels: PlaneU8 = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return pixels


def refusal(path: Path, why: str) -> ImageCodecError:
    """The error that names the file."""
    return ImageCodecError(f"picture: {path}: {why}", field="picture")
