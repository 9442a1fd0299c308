"""Image files that are small on the wire and want to be large in memory, or are not what they say.

Bytes only.
"""

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

from cascade.codecs.image import encode_image
from tests.support.asking import PICTURE

MIB = 1 << 20


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG that claims a size, with whatever chunks follow."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@cache
def zeros() -> bytes:
    """224 MiB of zeros, deflated to less than 256 KiB, which is what may be sent at all."""
    packer = zlib.compressobj(6)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(224)) + packer.flush()


def saved(format_: str, size: int = 8, **more: object) -> bytes:
    """A picture in any format that pillow writes."""
    out = io.BytesIO()
    Image.fromarray(np.resize(PICTURE, (size, size, 3))).save(out, format_, **more)
    return out.getvalue()


LINE = chunk(b"IDAT", zlib.compress(bytes(8 * 25)))


def bombs() -> dict[str, tuple[str, bytes]]:
    """Name to declared format and bytes; all must be refused as `image.image.data`."""
    return {
        "png of 65500 x 65500": ("png", png(65500, 65500, LINE)),
        "png of 2^31-1 x 2^31-1": ("png", png(2**31 - 1, 2**31 - 1, LINE)),
        "png of 8800 x 8800, whole": ("png", png(8800, 8800, chunk(b"IDAT", zeros()))),
        "png with 224 MiB of zTXt": ("png", png(8, 8, chunk(b"zTXt", b"k\0\0" + zeros()), LINE)),
        "png with 224 MiB of iTXt": (
            "png",
            png(8, 8, chunk(b"iTXt", b"k\0\1\0\0\0" + zeros()), LINE),
        ),
        "png with broken pixels": ("png", png(8, 8, chunk(b"IDAT", b"\x78\xda"))),
        "jpeg cut in half": ("jpeg", saved("JPEG", 64)[:300]),
        "jpeg of 65500 x 65500": (
            "jpeg",
            saved("JPEG").replace(b"\x00\x08\x00\x08\x03", b"\xff\xdc\xff\xdc\x03"),
        ),
        "webp of another size": ("webp", saved("WEBP", 64)),
        "webp cut": ("webp", saved("WEBP", lossless=True)[:-20]),
        "animated webp of another size": ("webp", animated(64, 20)),
        "gif": ("png", saved("GIF")),
        "tiff": ("png", saved("TIFF")),
        "bmp": ("jpeg", saved("BMP")),
        "ppm": ("png", saved("PPM")),
        "fits": ("png", b"SIMPLE  =                    T".ljust(2880)),
        "postscript": ("jpeg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nquit\n"),
        "svg": ("png", b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>"),
        "zip": ("png", b"PK\x03\x04" + bytes(60)),
        "nothing": ("webp", b""),
        "png called webp": ("webp", encode_image(PICTURE, "png")),
    }


def costly() -> dict[str, tuple[str, bytes]]:
    """Pictures of the right size that would cost much if more were read than their pixels."""
    return {
        "png with 224 MiB of pixels": ("png", png(8, 8, chunk(b"IDAT", zeros()))),
        "png with 224 MiB of iCCP": ("png", png(8, 8, chunk(b"iCCP", b"k\0\0" + zeros()), LINE)),
        "webp of 200 frames": ("webp", animated(8, 200)),
    }


def animated(size: int, frames: int) -> bytes:
    """An animated WebP."""
    pictures = [Image.new("RGB", (size, size), (n, 0, 0)) for n in range(frames)]
    out = io.BytesIO()
    pictures[0].save(out, "WEBP", save_all=True, append_images=pictures[1:], duration=1)
    return out.getvalue()
