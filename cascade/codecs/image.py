"""Images as bytes and as network values.

Encoding and decoding go through pillow with formats named and sizes checked before a pixel is
decoded. Knows no wire and no network.
"""

import io
from collections.abc import Mapping
from typing import Literal

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from cascade.codecs.lossy import encode_lossy, writes_avif
from cascade.errors import ImageCodecError
from cascade.numerics.chunked import CHUNK, chunks
from cascade.types import Batch, ImageU8

ImageFormat = Literal["raw", "png", "webp", "jpeg", "webp90", "avif"]
FORMATS: tuple[ImageFormat, ...] = ("raw", "png", "webp", "jpeg", "webp90", "avif")
LOSSLESS: tuple[ImageFormat, ...] = ("raw", "png", "webp")
"""Those that keep every pixel; the others are to look at alone."""
LOSSY_QUALITY = 90
"""Of WebP and AVIF that lose."""
JPEG_QUALITY = 92
PNG_LEVEL, SMALL_PNG_LEVEL = 3, 6
"""zlib level of PNG: higher ones take longer than links that are not slow; and for slow ones."""
WEBP_EFFORT, SMALL_WEBP_EFFORT = {"quality": 20, "method": 0}, {"quality": 0, "method": 2}
"""How hard WebP looks for repetitions. A 1024x1024 picture of the reference cascade takes 80 ms and
0.81 MB, and 320 ms and 0.71 MB: the second is sooner there below 3 Mbit/s."""

LONGEST_WEBP = 16383
"""Pixels of a side; the format has 14 bits for it."""
PREVIEW_SIZE = 256
"""Previews of larger pictures are subsampled to this width."""


def to_network(image: ImageU8) -> Batch:
    """`[H, W, 3]` uint8 to `[1, 3, H, W]` float32 in [-1, 1]."""
    planar = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)
    # Divided, not multiplied by 1 / 127.5, which float32 does not hold: 0 and 255 become -1 and 1
    # exactly.
    return planar / np.float32(127.5) - np.float32(1)


def from_network(x0: Batch) -> ImageU8:
    """The first image of a batch as bytes of RGB, rounded to the nearest level.

    Args:
        x0: `[B, 3, H, W]` float32; values beyond [-1, 1] are clipped.

    Returns:
        `[H, W, 3]` uint8.
    """
    channels, height, width = x0.shape[1:]
    pixels = np.empty((height, width, channels), np.uint8)
    for rows in chunks(height, max(1, CHUNK // width)):
        for channel in range(channels):
            levels = x0[0, channel, rows] + np.float32(1)
            levels *= np.float32(127.5)
            # Rounded before it is clipped and cast: a cast alone cuts off, and wraps around beyond
            # 255.
            np.clip(np.rint(levels, out=levels), 0, 255, out=levels)
            pixels[rows, :, channel] = levels
    return pixels


def subsampled(image: ImageU8) -> ImageU8:
    """At most `PREVIEW_SIZE` pixels either way, by leaving rows and columns out.

    Args:
        image: `[H, W, 3]` uint8.

    Returns:
        `[h, w, 3]` uint8, contiguous.
    """
    stride = max(1, -(-max(image.shape[:2]) // PREVIEW_SIZE))
    return np.ascontiguousarray(image[::stride, ::stride])


def lossless_format(height: int, width: int) -> ImageFormat:
    """The format that keeps every pixel in the fewest bytes: WebP, or PNG of what is too long."""
    return "webp" if max(height, width) <= LONGEST_WEBP else "png"


def encode_image(
    image: ImageU8,
    format_: ImageFormat,
    text: Mapping[str, str] | None = None,
    *,
    fewest_bytes: bool = False,
) -> bytes:
    """An image as bytes; `raw` is the pixels in C order.

    Args:
        image: `[H, W, 3]` uint8; for PNG also `[H, W, 4]`, with transparency.
        format_: one of `FORMATS`; those of `LOSSLESS` keep every pixel. AVIF only where
            `writable_formats` has it.
        text: PNG only: text chunks to embed, key to value.
        fewest_bytes: without loss in fewer bytes, for several times the time.
    """
    if format_ == "raw":
        return image.tobytes()
    out = io.BytesIO()
    picture = Image.fromarray(image)
    if format_ == "png":
        texts = PngImagePlugin.PngInfo()
        for key, value in (text or {}).items():
            # iTXt is UTF-8; PNG's older tEXt holds Latin-1 alone, and prompts are of any script.
            texts.add_itxt(key, value)
        level = SMALL_PNG_LEVEL if fewest_bytes else PNG_LEVEL
        picture.save(out, "PNG", compress_level=level, pnginfo=texts)
    elif format_ == "webp":
        effort = SMALL_WEBP_EFFORT if fewest_bytes else WEBP_EFFORT
        picture.save(out, "WEBP", lossless=True, **effort)
    elif format_ == "webp90":
        return encode_lossy(image, "webp", LOSSY_QUALITY)
    elif format_ == "avif":
        return encode_lossy(image, "avif", LOSSY_QUALITY)
    else:
        picture.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def writable_formats() -> tuple[ImageFormat, ...]:
    """The formats that Pillow can write here: all, or all but AVIF."""
    return tuple(name for name in FORMATS if name != "avif" or writes_avif())


def load_codecs() -> None:
    """Load every codec now: pillow does so at the first picture, when there may be no means left.

    A server whose file descriptors are taken by others could otherwise encode nothing.
    """
    picture = np.zeros((8, 8, 3), np.uint8)
    for format_ in writable_formats():
        decode_image(encode_image(picture, format_), format_, (8, 8), field="image")


def decode_image(
    data: bytes, format_: ImageFormat, size: tuple[int, int], *, field: str
) -> ImageU8:
    """The pixels of an image of known format and size.

    Args:
        data: bytes from outside.
        format_: the format that the sender declares.
        size: height and width that the sender declares; anything else is refused.
        field: path of the message field, for errors.

    Returns:
        `[height, width, 3]` uint8.

    Raises:
        ImageCodecError: another format or size, or damaged bytes.
    """
    height, width = size
    if format_ == "raw":
        if len(data) != height * width * 3:
            raise ImageCodecError(
                f"{field}.data: {height}x{width} RGB takes {height * width * 3} bytes, got "
                f"{len(data)}",
                field=f"{field}.data",
            )
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    codec = "WEBP" if format_ == "webp90" else format_.upper()
    try:
        # One codec is tried, the declared one: Pillow would otherwise offer the bytes to forty.
        with Image.open(io.BytesIO(data), formats=[codec]) as picture:
            # From the header: no pixel is decoded of a picture that claims another size.
            if picture.size != (width, height):
                raise ImageCodecError(
                    f"{field}.data: expected {width}x{height} pixels, the file says "
                    f"{picture.size[0]}x{picture.size[1]}",
                    field=f"{field}.data",
                )
            return np.asarray(picture.convert("RGB"))
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        SyntaxError,
        ValueError,
    ) as exc:
        raise ImageCodecError(
            f"{field}.data: not a readable {format_} image", field=f"{field}.data"
        ) from exc
