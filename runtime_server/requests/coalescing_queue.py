"""What waits to be written to one client: results always, news only the latest.

A slow reader costs the server at most one progress, one preview per stage and the results. Lives on
the event loop; knows events, not messages.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from cascade.events import Preview, Progress
from runtime_server.runtime.jobs import Delivery


@dataclass(frozen=True, slots=True)
class Recorded:
    """A component's result as the message that carries it; shared by all who are told of it."""

    message: bytes


class CoalescingQueue:
    """A queue from the executor to a request, or on to one call; used on the event loop alone."""

    def __init__(self) -> None:
        self._waiting: deque[Delivery | Recorded] = deque()
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        """Deliveries waiting."""
        return len(self._waiting)

    def put(self, delivery: Delivery | Recorded) -> None:
        """Add a delivery; older news of the same kind and stage gives way to it."""
        if isinstance(delivery, Progress | Preview):
            kept = [item for item in self._waiting if not replaces(delivery, item)]
            self._waiting = deque(kept)
        self._waiting.append(delivery)
        self._arrived.set()

    async def get(self) -> Delivery | Recorded:
        """The oldest delivery; waits for one."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


def replaces(news: Progress | Preview, item: Delivery | Recorded) -> bool:
    """Whether `news` says again, only later, what `item` said."""
    return type(item) is type(news) and getattr(item, "stage", None) == news.stage
