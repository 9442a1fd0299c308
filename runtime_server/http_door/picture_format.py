"""In which format the core sends a picture to the door, and how the door writes it for its caller.

Where the core has the caller's format, its bytes are passed on as they are. Knows formats; no JSON.
"""

from dataclasses import dataclass

from cascade.codecs.image import ImageFormat, decode_image, encode_image
from cascade.codecs.lossy import LossyFormat, check_writable, encode_lossy
from runtime_server.http_door.image_ask import ImageAsk, OutputFormat
from wire.payloads import EncodedImage

LOSSLESS: tuple[OutputFormat, ...] = ("png", "webp")
QUALITIES = {"webp90": 90, "avif": 90, "jpeg": 92}
"""Of formats that lose, where the caller names none."""
PILLOW_NAMES: dict[str, LossyFormat] = {
    "webp": "webp",
    "webp90": "webp",
    "avif": "avif",
    "jpeg": "jpeg",
}


@dataclass(frozen=True, slots=True)
class PictureForm:
    """How one picture is written."""

    format: OutputFormat
    quality: int | None = None
    """None is without loss, or the codec's own."""

    @property
    def sent_by_core(self) -> ImageFormat | None:
        """The same form as the core has it; None where it has none."""
        if self.quality is None and self.format in ("png", "webp", "jpeg"):
            return self.format
        return None


def final_form(ask: ImageAsk) -> PictureForm:
    """How the picture itself is written: without loss unless asked for.

    Raises:
        InvalidRequest: Pillow here cannot write it.
    """
    quality = ask.output_compression
    if (ask.output_format == "webp" and quality == 100) or ask.output_format == "png":
        quality = None
    elif ask.output_format in ("webp90", "avif"):
        quality = QUALITIES[ask.output_format] if quality is None else quality
    check_writable(PILLOW_NAMES.get(ask.output_format), "output_format")
    return PictureForm(ask.output_format, quality)


def partial_form(ask: ImageAsk) -> PictureForm:
    """How pictures on the way to it are written: with loss unless asked for.

    Raises:
        InvalidRequest: Pillow here cannot write it.
    """
    chosen = ask.partial_format
    if chosen is None:
        return PictureForm("jpeg") if ask.output_format in LOSSLESS else final_form(ask)
    check_writable(PILLOW_NAMES.get(chosen), "partial_format")
    return PictureForm(chosen, QUALITIES[chosen] if chosen in ("webp90", "avif") else None)


def core_format(form: PictureForm) -> ImageFormat:
    """What the core is asked for: the form itself, or pixels to make it of."""
    return form.sent_by_core or "raw"


def written(image: EncodedImage, form: PictureForm) -> bytes:
    """A picture of the core in a caller's form."""
    if image.format == form.sent_by_core:
        return image.data
    pixels = decode_image(image.data, image.format, (image.height, image.width), field="image")
    if form.quality is None:
        return encode_image(pixels, form.sent_by_core or "png")
    return encode_lossy(pixels, PILLOW_NAMES[form.format], form.quality)
