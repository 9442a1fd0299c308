"""In which format the core sends a picture to the door, and how the door writes it for its caller.

Where the core has the caller's format, its bytes are passed on as they are. Knows formats; no JSON.
"""

from dataclasses import dataclass

from cascade.codecs.image import LOSSLESS, ImageFormat, decode_image, encode_image
from cascade.codecs.lossy import LossyFormat, check_writable, encode_lossy
from runtime_server.http_door.image_ask import ImageAsk, OutputFormat
from wire.payloads import EncodedImage

WITH_QUALITY: dict[OutputFormat, LossyFormat] = {"webp": "webp", "avif": "avif", "jpeg": "jpeg"}
"""Formats of which a caller chooses the quality."""


@dataclass(frozen=True, slots=True)
class PictureForm:
    """How one picture is written."""

    format: OutputFormat
    quality: int | None = None
    """0 to 100; None is as the core writes the format."""

    @property
    def from_core(self) -> ImageFormat:
        """What the core is asked for: the form itself, or pixels to make it of."""
        return self.format if self.quality is None else "raw"


def final_form(ask: ImageAsk) -> PictureForm:
    """How the picture itself is written: without loss unless asked for.

    Raises:
        InvalidRequest: Pillow here cannot write it.
    """
    check_writable(ask.output_format, "output_format")
    quality = ask.output_compression
    if ask.output_format not in WITH_QUALITY or (ask.output_format == "webp" and quality == 100):
        quality = None
    return PictureForm(ask.output_format, quality)


def partial_form(ask: ImageAsk) -> PictureForm:
    """How pictures on the way to it are written: with loss unless asked for.

    Raises:
        InvalidRequest: Pillow here cannot write it.
    """
    if ask.partial_format is not None:
        check_writable(ask.partial_format, "partial_format")
        return PictureForm(ask.partial_format)
    final = final_form(ask)
    return PictureForm("jpeg") if final.quality is None and final.format in LOSSLESS else final


def written(image: EncodedImage, form: PictureForm) -> bytes:
    """A picture of the core in a caller's form."""
    if form.quality is None and image.format == form.format:
        return image.data
    pixels = decode_image(image.data, image.format, (image.height, image.width), field="image")
    if form.quality is None:
        return encode_image(pixels, form.format)
    return encode_lossy(pixels, WITH_QUALITY[form.format], form.quality)
