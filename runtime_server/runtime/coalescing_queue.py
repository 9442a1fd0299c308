"""What waits for one reader on an event loop: results always, news only the latest (conflation).

A slow reader costs the server at most one progress, one preview per stage and the results. Knows
events; neither messages nor who reads.
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar

from cascade.events import Preview, Progress
from runtime_server.runtime.job import Delivery

T = TypeVar("T")


class CoalescingQueue(Generic[T]):
    """A queue of events and whatever else its owner puts in; used on its event loop alone."""

    def __init__(self) -> None:
        self._waiting: deque[Delivery | T] = deque()
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        """Items waiting."""
        return len(self._waiting)

    def put(self, item: Delivery | T) -> None:
        """Add an item; older news of the same kind and stage gives way to it."""
        if isinstance(item, Progress | Preview):
            # A few items at most: results, and one piece of news per kind and stage.
            kept = [older for older in self._waiting if not replaces(item, older)]
            self._waiting = deque(kept)
        self._waiting.append(item)
        self._arrived.set()

    async def get(self) -> Delivery | T:
        """The oldest item; waits for one."""
        while not self._waiting:
            # Cleared before waiting, on one loop: nothing can arrive in between.
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


class ThreadsafeSink:
    """The entrance of such a queue for other threads."""

    def __init__(self, queue: "CoalescingQueue[Delivery]", loop: asyncio.AbstractEventLoop) -> None:
        """An entrance.

        Args:
            queue: where the items go.
            loop: that the queue is used on.
        """
        self._queue = queue
        self._loop = loop

    def put(self, item: Delivery) -> None:
        """Add an item; returns before it is there."""
        self._loop.call_soon_threadsafe(self._queue.put, item)


def replaces(news: Progress | Preview, item: object) -> bool:
    """Whether `news` says again, only later, what `item` said."""
    return type(item) is type(news) and getattr(item, "stage", None) == news.stage
