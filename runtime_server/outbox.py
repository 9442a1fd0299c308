"""What waits to be written to one client: results always, news only the latest.

A slow reader costs the server at most one progress, one preview per stage and the results. Lives on
the event loop; knows events, not messages.
"""

import asyncio
from collections import deque

from cascade.events import Preview, Progress
from runtime_server.jobs import Delivery


class Outbox:
    """A queue between the executor and one call; used from the event loop's thread alone."""

    def __init__(self) -> None:
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        """Deliveries waiting."""
        return len(self._waiting)

    def put(self, delivery: Delivery) -> None:
        """Add a delivery; older news of the same kind and stage gives way to it."""
        if isinstance(delivery, Progress | Preview):
            kept = [item for item in self._waiting if not replaces(delivery, item)]
            self._waiting = deque(kept)
        self._waiting.append(delivery)
        self._arrived.set()

    async def get(self) -> Delivery:
        """The oldest delivery; waits for one."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


def replaces(news: Progress | Preview, item: Delivery) -> bool:
    """Whether `news` says again, only later, what `item` said."""
    return type(item) is type(news) and getattr(item, "stage", None) == news.stage
