"""Kept results as starts: which picture is found, whose it is, and what is refused."""

import time
from dataclasses import dataclass, replace

import pytest

from cascade.codecs.image import ImageFormat
from cascade.errors import InvalidRequest, StageError, UnknownRequest
from cascade.events import Progress
from runtime_server.requests.idempotency_index import IdempotencyIndex, KeptResult, RequestKey
from runtime_server.requests.kept_pictures import image_start
from wire.generate_events import StageResult, encode_event
from wire.payloads import EncodedImage
from wire.starts import ImageStart, KeptStart

KEY = RequestKey("ann", "r-1")
START = KeptStart(request_id="r-1", stage="base", width=8, height=4)


@dataclass(eq=False)
class Running:
    """A request inside."""

    fingerprint: bytes = b"m"


def picture(format_: ImageFormat = "raw") -> EncodedImage:
    """Of 8x4 pixels, still encoded."""
    return EncodedImage(width=8, height=4, format=format_, data=b"p")


def kept(*events: StageResult | Progress) -> KeptResult:
    """What a finished request came to."""
    messages = tuple(encode_event(event) for event in events)
    return KeptResult(fingerprint=b"m", results=messages, seconds={})


def test_the_picture_of_the_stage_is_a_start_as_if_it_had_been_sent() -> None:
    """Of several results that of the stage that is named, whatever came beside."""
    found = kept(
        StageResult(stage="text_encoder"),
        Progress("base", 1, 2),
        StageResult(stage="base", image=picture()),
        StageResult(stage="sr16", image=replace(picture(), width=16)),
    )
    assert image_start(START, found) == ImageStart(image=picture(), own_picture=True)


@pytest.mark.parametrize(
    ("result", "start", "error", "field"),
    [
        (StageResult(stage="sr16", image=picture()), START, UnknownRequest, "kept.stage"),
        (StageResult(stage="base"), START, UnknownRequest, "kept.stage"),
        (StageResult(stage="base", image=picture("jpeg")), START, UnknownRequest, "kept.stage"),
        (
            StageResult(stage="base", image=picture()), replace(START, width=4),
            InvalidRequest, "kept.width",
        ),
    ],
    ids=["another stage", "no picture", "lossy", "another size"],
)  # fmt: skip
def test_what_is_no_such_picture_is_refused(
    result: StageResult, start: KeptStart, error: type[Exception], field: str
) -> None:
    """By field, with what there is."""
    with pytest.raises(error) as refused:
        image_start(start, kept(result))
    assert refused.value.field == field  # type: ignore[attr-defined]


def test_only_finished_requests_of_the_same_caller_are_found() -> None:
    """Not what runs still, what failed, or what is another's."""
    index: IdempotencyIndex[Running] = IdempotencyIndex(
        budget_bytes=1 << 20, lifetime_s=60, clock=time.monotonic
    )
    running = Running()
    index.begin(KEY, running)
    with pytest.raises(UnknownRequest, match="r-1 is not finished yet"):
        index.kept_of(KEY)
    done = kept(StageResult(stage="base", image=picture()))
    index.end(KEY, running, done)
    assert index.kept_of(KEY) is done
    with pytest.raises(UnknownRequest, match="is not kept here") as refused:
        index.kept_of(RequestKey("bob", "r-1"))
    assert refused.value.field == "kept.request_id"
    index.begin(KEY, running)
    index.end(KEY, running, replace(done, results=(), error=StageError("broke")))
    with pytest.raises(UnknownRequest, match="is not kept here"):
        index.kept_of(KEY)
