"""Pictures as they travel: encoded without loss on the way up, checked and decoded on the way down.

A server is not trusted with sizes: the expected ones are named by the caller and checked before a
pixel is decoded. Knows no message.
"""

from cascade.codecs.image import decode_image, encode_image, lossless_format
from cascade.errors import InvalidRequest, TransportError
from cascade.types import ImageU8
from wire.payloads import EncodedImage


def encode_smallest(image: ImageU8) -> EncodedImage:
    """A picture without loss in the fewest bytes: packed, or the pixels themselves."""
    height, width = image.shape[:2]
    # Both, for a picture of noise grows under WebP.
    format_ = lossless_format(height, width)
    packed, raw = encode_image(image, format_), encode_image(image, "raw")
    if len(packed) < len(raw):
        return EncodedImage(width=width, height=height, format=format_, data=packed)
    return EncodedImage(width=width, height=height, format="raw", data=raw)


def decode_payload(image: EncodedImage, widths: range, heights: range, *, what: str) -> ImageU8:
    """The pixels of a picture from the server.

    Args:
        image: as received.
        widths: to accept, in pixels; checked before a pixel is decoded.
        heights: to accept.
        what: names the picture in errors.

    Raises:
        TransportError: another size, or bytes that are no such picture.
    """
    if image.width not in widths or image.height not in heights:
        raise TransportError(
            f"the server sent {what} of {image.width}x{image.height} pixels, expected "
            f"{widths[0]}x{heights[0]} to {widths[-1]}x{heights[-1]}"
        )
    try:
        return decode_image(image.data, image.format, (image.height, image.width), field=what)
    except InvalidRequest as exc:
        raise TransportError(f"the server sent a broken picture: {exc}") from exc
