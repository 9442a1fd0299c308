"""What waits for a slow reader: every result, only the latest news."""

import asyncio

import numpy as np

from cascade.events import Preview, Progress, StageFinished
from cascade.request import Handoff
from runtime_server.runtime.coalescing_queue import CoalescingQueue
from runtime_server.runtime.job import Ended

PICTURE = np.zeros((2, 2, 3), np.uint8)


def test_news_are_replaced_and_results_kept() -> None:
    """A thousand steps unread are one progress and one preview; order is kept."""

    async def scenario() -> list[object]:
        outbox = CoalescingQueue()
        outbox.put(StageFinished("a", Handoff()))
        for step in range(1, 1001):
            outbox.put(Progress("b", step, 1000))
            outbox.put(Preview("b", step, PICTURE))
        outbox.put(StageFinished("b", Handoff()))
        outbox.put(Ended(None))
        return [await outbox.get() for _ in range(len(outbox))]

    first, progress, preview, second, end = asyncio.run(scenario())
    assert isinstance(first, StageFinished)
    assert progress == Progress("b", 1000, 1000)
    assert isinstance(preview, Preview)
    assert preview.done == 1000
    assert isinstance(second, StageFinished)
    assert end == Ended(None)


def test_get_waits_for_the_next_delivery() -> None:
    """A reader that came first is woken."""

    async def scenario() -> object:
        outbox = CoalescingQueue()
        waiting = asyncio.create_task(outbox.get())
        await asyncio.sleep(0)
        assert not waiting.done()
        outbox.put(Progress("a", 1, 2))
        return await waiting

    assert asyncio.run(scenario()) == Progress("a", 1, 2)
