"""A line on which a component works is never silent for long: the last progress comes again."""

import asyncio

import pytest

from cascade.events import Progress
from runtime_server.app import response_stream
from runtime_server.app.response_stream import HEARTBEAT_S, ResponseStream
from runtime_server.app.server import MIN_PING_INTERVAL_MS
from runtime_server.requests.active_request import Subscription
from runtime_server.requests.idempotency_index import RequestKey
from runtime_server.runtime.job import Ended
from wire.generate_events import Done, decode_event

REPEATS = 3
SLOW = Progress("sr1024", 1, 2)


class Reader:
    """The context of a call: ends the work once it has read the same progress some times."""

    def __init__(self, subscription: Subscription) -> None:
        self.read: list[object] = []
        self._subscription = subscription

    async def write(self, message: bytes) -> None:
        """Take a message."""
        self.read.append(decode_event(message))
        if self.read.count(SLOW) == REPEATS:
            self._subscription.queue.put(Ended(None))


def told(*begun: Progress) -> list[object]:
    """What a reader is told of a work that makes no step after what has begun."""

    async def run() -> list[object]:
        subscription = Subscription(seconds={"encode": 0.0})
        for progress in begun:
            subscription.queue.put(progress)
        reader = Reader(subscription)
        stream = ResponseStream(reader, RequestKey("", "id"), 0)
        if not begun:
            asyncio.get_running_loop().call_later(0.05, subscription.queue.put, Ended(None))
        await stream.run(subscription, reader_timeout_s=60)
        return reader.read

    return asyncio.run(run())


def test_the_last_progress_is_sent_again_while_nothing_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The very same one, between the acceptance and the end."""
    monkeypatch.setattr(response_stream, "HEARTBEAT_S", 0.001)
    _, *middle, last = told(SLOW)
    assert middle[:REPEATS] == [SLOW] * REPEATS
    assert isinstance(last, Done)


def test_before_any_progress_there_is_nothing_to_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that waits has been accepted once, and is told so once."""
    monkeypatch.setattr(response_stream, "HEARTBEAT_S", 0.001)
    assert len(told()) == 2


def test_a_beat_comes_before_the_earliest_ping() -> None:
    """Which a client sends after so long without a byte."""
    assert HEARTBEAT_S * 1000 < MIN_PING_INTERVAL_MS
