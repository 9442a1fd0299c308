"""A result larger than a message, for a caller that joins no fragments: encoded without loss.

What `output.joins_fragments` would send in parts is made smaller instead, or refused.
"""

from dataclasses import replace

from cascade.codecs.image import decode_image, encode_image, lossless_format
from cascade.errors import MessageTooLarge
from wire.generate_events import StageResult, decode_event, encode_event
from wire.limits import MAX_MESSAGE_BYTES


def shrink_result(message: bytes) -> bytes:
    """An encoded `StageResult` whose raw picture makes it too large, with that picture packed.

    Raises:
        MessageTooLarge: it still is, or holds no raw picture.
    """
    result = decode_event(message)
    smaller, stage = message, ""
    if isinstance(result, StageResult):
        stage = result.stage
        if result.image is not None and result.image.format == "raw":
            size = (result.image.height, result.image.width)
            pixels = decode_image(result.image.data, "raw", size, field="image")
            format_ = lossless_format(*size)
            packed = replace(result.image, data=encode_image(pixels, format_), format=format_)
            smaller = encode_event(replace(result, image=packed))
    if len(smaller) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"{stage}: its result takes {len(smaller)} bytes, a message holds "
            f"{MAX_MESSAGE_BYTES}: set output.joins_fragments and join them, or update the client",
            field="output.joins_fragments",
        )
    return smaller
