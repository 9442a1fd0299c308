"""A picture as a file of some format, with its metadata inside, and the metadata read back.

PNG keeps the metadata as text chunks, the others as JSON in Exif's UserComment. PNG and WebP keep
every pixel, JPEG and AVIF do not. Knows formats and text; not what it means.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, UnidentifiedImageError, features

from cascade.codecs.image import encode_image
from cascade.errors import InvalidRequest
from cascade.types import ImageU8

STANDARD_OUTPUT = Path("-")
FORMATS = {
    ".png": "PNG",
    ".webp": "WEBP",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".avif": "AVIF",
}
LOSSLESS = ("PNG", "WEBP")
JPEG_QUALITY, AVIF_QUALITY = 95, 90
EXIF_POINTER, USER_COMMENT, SOFTWARE = 0x8769, 0x9286, 0x0131
ASCII = b"ASCII\0\0\0"
"""What Exif wants before a comment in that encoding."""
MAX_FILE_BYTES = 64 << 20
MAX_TEXT = 1 << 16
"""Characters of one field that is read back: a prompt has 1000 at most."""


def check_transparency(path: Path) -> None:
    """Raise `InvalidRequest` where a transparent picture would lose what makes it so."""
    if format_of(path) == "JPEG":
        raise InvalidRequest(
            f"output: {path}: a JPEG holds no transparency, and the picture has some: end the name "
            "in .png or .webp",
            field="output",
        )


def format_of(path: Path) -> str:
    """Pillow's name of the format that a path asks for; PNG for standard output.

    Raises:
        InvalidRequest: no format that we write, or not with the Pillow installed here.
    """
    if path == STANDARD_OUTPUT:
        return "PNG"
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise InvalidRequest(
            f"output: {path} must end in {', '.join(FORMATS)}, or be - for standard output",
            field="output",
        )
    if found == "AVIF" and not features.check("avif"):
        raise InvalidRequest(
            "output: the Pillow installed here writes no AVIF: pip install 'pillow>=11.3', or "
            "end the name in .webp or .png",
            field="output",
        )
    return found


def encode_picture(image: ImageU8, format_: str, metadata: Mapping[str, str]) -> bytes:
    """The file's bytes; the same for the same pixels and metadata.

    Args:
        image: `[H, W, 3]` uint8, or `[H, W, 4]` with transparency where the format has it.
        format_: as `format_of` returned it.
        metadata: to be kept inside, key to text.
    """
    if format_ == "PNG":
        return encode_image(image, "png", metadata)
    exif = Image.Exif()
    exif[SOFTWARE] = metadata.get("software", "")
    comment = ASCII + json.dumps(dict(metadata), sort_keys=True).encode("ascii")
    exif.get_ifd(EXIF_POINTER)[USER_COMMENT] = comment
    out = io.BytesIO()
    picture = Image.fromarray(image)
    if format_ == "WEBP":
        picture.save(out, format_, lossless=True, quality=20, method=0, exif=exif)
    elif format_ == "JPEG":
        picture.save(out, format_, quality=JPEG_QUALITY, subsampling=0, exif=exif)
    else:
        picture.save(out, format_, quality=AVIF_QUALITY, subsampling="4:4:4", exif=exif)
    return out.getvalue()


def read_metadata(path: Path) -> dict[str, str]:
    """The text that a picture file holds; no pixel is decoded.

    Raises:
        InvalidRequest: there is no such picture, or it is of a format that we do not write.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidRequest(f"from: {path} is too large for a picture of ours", field="from")
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as picture:
            kept = picture.info if picture.format == "PNG" else comment_of(picture)
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise InvalidRequest(
            f"from: {path} is not a readable PNG, WebP, JPEG or AVIF picture", field="from"
        ) from exc
    except OSError as exc:
        reason = exc.strerror or "not a readable picture"
        raise InvalidRequest(f"from: {path}: {reason}", field="from") from exc
    return {
        str(key): str(text)
        for key, text in kept.items()
        if isinstance(text, str) and len(text) <= MAX_TEXT
    }


def comment_of(picture: Image.Image) -> dict[str, object]:
    """What `encode_picture` put into Exif's comment; empty for anything else."""
    comment = picture.getexif().get_ifd(EXIF_POINTER).get(USER_COMMENT, b"")
    if not isinstance(comment, bytes) or not comment.startswith(ASCII):
        return {}
    try:
        found = json.loads(comment.removeprefix(ASCII))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
