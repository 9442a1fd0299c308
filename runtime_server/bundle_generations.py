"""The bundles in memory: one takes new requests, older ones finish what they have and are freed.

A house is one bundle's core with the requests that are inside it. Lives on one event loop. Knows
when a house is empty; neither bundles on disk nor who asked for another.
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from runtime_server.memory import give_back
from runtime_server.requests.idempotency_index import RequestKey
from runtime_server.requests.request_manager import RequestManager
from runtime_server.runtime.core import Core
from runtime_server.telemetry.logs import log_event
from runtime_server.telemetry.observer import Observer

POLL_S = 0.05
"""How often a house that is left is looked at."""


class BundleGeneration:
    """One bundle at work."""

    def __init__(self, core: Core, observer: Observer) -> None:
        self.core = core
        self.reception = RequestManager(core, observer)
        self.calls = 0
        """Calls that may still use it."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is inside any more, so that it may be closed."""
        running = self.reception.ledger.running
        return not (self.calls or running) and self.core.executor.counts.idle


class BundleGenerations:
    """All bundles in memory, and which of them is the present one."""

    def __init__(self, core: Core, observer: Observer) -> None:
        """One house, of a core that is ready.

        Args:
            core: of the first bundle; closed by `close`.
            observer: is told what happens in every house.
        """
        self._observer = observer
        self.present = BundleGeneration(core, observer)
        self.all = [self.present]
        self._leaving: set[asyncio.Task[None]] = set()

    @contextmanager
    def visit(self, key: RequestKey | None = None) -> Iterator[BundleGeneration]:
        """The house for a call, which stays open at least to the end of the block.

        Args:
            key: of a request; the house where it is inside, or else the present one.
        """
        inside = (house for house in self.all if key and house.reception.ledger.of(key))
        house = next(inside, self.present)
        house.calls += 1
        try:
            yield house
        finally:
            house.calls -= 1

    @property
    def are_idle(self) -> bool:
        """Whether no request is inside any house."""
        return all(house.core.executor.counts.idle for house in self.all)

    def move(self, core: Core) -> None:
        """Let new requests go to another core; the old house is closed once it is empty."""
        old, self.present = self.present, BundleGeneration(core, self._observer)
        # What a caller has used of its budget does not depend on the bundle.
        self.present.reception.quota = old.reception.quota
        # Results are kept by bundle, so they outlive the house where they were made.
        self.present.reception.ledger.kept = old.reception.ledger.kept
        self.all.append(self.present)
        task = asyncio.get_running_loop().create_task(self._leave(old))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def refuse_new(self) -> None:
        """Let nobody in any more."""
        for house in self.all:
            house.core.executor.refuse_new()

    async def close_receptions(self) -> None:
        """End every request; called once nothing is listened to any more."""
        for task in list(self._leaving):
            task.cancel()
        for house in list(self.all):
            await house.reception.close()

    async def close(self) -> None:
        """Close every core; called last."""
        for house in list(self.all):
            await asyncio.to_thread(house.core.close)

    async def _leave(self, house: BundleGeneration) -> None:
        """Wait for a house to be empty, then give back what it holds."""
        while not house.is_empty:
            await asyncio.sleep(POLL_S)
        bundle_id = house.core.bundle_id
        await house.reception.close()
        await asyncio.to_thread(house.core.close)
        self.all.remove(house)
        del house
        gc.collect()
        give_back()
        log_event("bundle_left", bundle_id=bundle_id)
