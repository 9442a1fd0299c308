"""Idempotency keys: new, duplicate, kept, taken or unknown."""

from dataclasses import dataclass

import pytest

from cascade.errors import EngineError, RequestIdTaken, UnknownRequest
from runtime_server.requests.idempotency_index import (
    ENTRY_BYTES,
    IdempotencyIndex,
    KeptResult,
    RequestKey,
)

KEY = RequestKey("ann", "r-1")
MEANS = b"m" * 32


@dataclass
class FakeClock:
    """Time that passes when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        """The time it was set to."""
        return self.now


@dataclass(eq=False)
class Work:
    """Something that runs."""

    fingerprint: bytes = MEANS


def kept(size: int = 10) -> KeptResult:
    """A result of so many bytes; a failure if of none."""
    failure = None if size else EngineError("broke")
    return KeptResult(fingerprint=MEANS, results=(b"x" * size,), seconds={"a": 1.0}, error=failure)


@pytest.fixture
def clock() -> FakeClock:
    """The index's clock."""
    return FakeClock()


@pytest.fixture
def index(clock: FakeClock) -> IdempotencyIndex[Work]:
    """An empty book with room for two entries of 10 bytes, for a minute."""
    return IdempotencyIndex(budget_bytes=2 * (ENTRY_BYTES + 10), lifetime_s=60, clock=clock)


def test_a_new_request_is_new(index: IdempotencyIndex[Work]) -> None:
    """Nothing is found, and nothing can be resumed."""
    assert index.find(KEY, MEANS) is None
    with pytest.raises(UnknownRequest, match="r-1"):
        index.resume(KEY)


def test_a_twin_finds_the_running_one_and_then_its_result(index: IdempotencyIndex[Work]) -> None:
    """Running first, kept afterwards; never both."""
    work = Work()
    index.begin(KEY, work)
    assert index.find(KEY, MEANS) is work
    assert index.resume(KEY) is work
    index.end(KEY, work, kept())
    assert index.find(KEY, MEANS) == kept()
    assert index.resume(KEY) == kept()
    assert index.running == []
    assert index.kept.size_bytes == ENTRY_BYTES + 10


@pytest.mark.parametrize("ended", [False, True])
def test_other_content_under_the_same_id_is_refused(
    index: IdempotencyIndex[Work], *, ended: bool
) -> None:
    """While it runs and while it is kept; the field is named."""
    work = Work()
    index.begin(KEY, work)
    if ended:
        index.end(KEY, work, kept())
    with pytest.raises(RequestIdTaken, match="r-1") as taken:
        index.find(KEY, b"o" * 32)
    assert taken.value.field == "request_id"


def test_ids_are_their_callers(index: IdempotencyIndex[Work]) -> None:
    """Another caller's same id is new to him, and he can neither resume nor drop mine."""
    his = RequestKey("bob", "r-1")
    work = Work()
    index.begin(KEY, work)
    assert index.find(his, b"o" * 32) is None
    assert index.of(his) is None
    index.end(KEY, work, kept())
    assert index.find(his, MEANS) is None
    with pytest.raises(UnknownRequest):
        index.resume(his)
    assert not index.forget(his)
    assert index.forget(KEY)


def test_results_expire(index: IdempotencyIndex[Work], clock: FakeClock) -> None:
    """At the last moment it is there, after it the id is free for anything."""
    work = Work()
    index.begin(KEY, work)
    index.end(KEY, work, kept())
    clock.now += 60
    assert index.find(KEY, MEANS) == kept()
    clock.now += 60.5
    assert index.find(KEY, b"o" * 32) is None
    assert index.kept.size_bytes == 0


def test_results_are_evicted_by_bytes(index: IdempotencyIndex[Work]) -> None:
    """Room for two: the third pushes the oldest out."""
    for number in range(3):
        key, work = RequestKey("ann", f"r-{number}"), Work()
        index.begin(key, work)
        index.end(key, work, kept())
    assert index.find(RequestKey("ann", "r-0"), MEANS) is None
    assert index.find(RequestKey("ann", "r-2"), MEANS) == kept()
    assert index.kept.count == 2


def test_a_failure_is_told_to_who_resumes_and_tried_again_for_who_asks_anew(
    index: IdempotencyIndex[Work],
) -> None:
    """What failed while nobody listened does not block its id."""
    work = Work()
    index.begin(KEY, work)
    index.end(KEY, work, kept(0))
    found = index.resume(KEY)
    assert isinstance(found, KeptResult)
    assert isinstance(found.error, EngineError)
    assert index.find(KEY, MEANS) is None


def test_who_was_struck_out_does_not_strike_out_his_successor(
    index: IdempotencyIndex[Work],
) -> None:
    """A cancelled one that ends late leaves the new one of the same id alone."""
    old, new = Work(), Work()
    index.begin(KEY, old)
    index.end(KEY, old, None)
    index.begin(KEY, new)
    index.end(KEY, old, kept())
    assert index.find(KEY, MEANS) is new
    assert index.kept.count == 0
