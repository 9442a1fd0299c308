"""A kept result as a start: the picture of one component of a finished request.

Knows the messages of results; not who may ask for them.
"""

from cascade.errors import InvalidRequest, UnknownRequest
from runtime_server.requests.idempotency_index import KeptResult
from wire.generate_events import StageResult, decode_event
from wire.payloads import EncodedImage
from wire.starts import ImageStart, KeptStart

SHOWN = 64
"""Characters of a caller's own text that an error quotes."""


def image_start(start: KeptStart, kept: KeptResult) -> ImageStart:
    """The start that a caller would send who has the picture.

    Args:
        start: names a component, and the size of its picture.
        kept: of the request that it names.

    Raises:
        UnknownRequest: the request made no such picture here, or not without loss.
        InvalidRequest: the picture is of another size.
    """
    found = (decode_event(message) for message in kept.results)
    made = {r.stage: r.image for r in found if isinstance(r, StageResult) and r.image is not None}
    picture = made.get(start.stage)
    if picture is None:
        listed = ", ".join(made) or "no picture"
        raise UnknownRequest(
            f"kept.stage: that request made no picture of {start.stage[:SHOWN]!r} here, it made "
            f"{listed}: name one of them, or send the picture itself",
            field="kept.stage",
        )
    check_lossless(start, picture)
    if (picture.width, picture.height) != (start.width, start.height):
        raise InvalidRequest(
            f"kept.width: the picture is {picture.width}x{picture.height}, the request says "
            f"{start.width}x{start.height}: give its size",
            field="kept.width",
        )
    return ImageStart(image=picture, context=start.context, own_picture=True)


def check_lossless(start: KeptStart, picture: EncodedImage) -> None:
    """Raise `UnknownRequest` where only a lossy copy of a picture is kept."""
    if picture.format == "jpeg":
        raise UnknownRequest(
            f"kept.stage: the picture of {start.stage[:SHOWN]} is kept as JPEG, which is not what "
            "the component made: ask with a lossless format",
            field="kept.stage",
        )
