"""The bundles in memory: one takes new requests, older ones finish what they have and are freed.

A generation is one bundle's core with the requests that are inside it, and is reference counted by
the calls that use it. Lives on one event loop; knows neither bundles on disk nor who asked for
another.
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from runtime_server.core import Core
from runtime_server.requests.idempotency_index import RequestKey
from runtime_server.requests.request_manager import RequestManager
from runtime_server.system.memory import give_back
from runtime_server.telemetry.logs import log_event
from runtime_server.telemetry.server_events import Emit

POLL_S = 0.05
"""How often a generation that is left is looked at."""


class BundleGeneration:
    """One bundle at work."""

    def __init__(self, core: Core, emit: Emit) -> None:
        self.core = core
        self.requests = RequestManager(core, emit)
        self.calls = 0
        """Calls that may still use it."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is inside any more, so that it may be closed."""
        running = self.requests.index.running
        return not (self.calls or running) and self.core.executor.counts.idle


class BundleGenerations:
    """All bundles in memory, and which of them is the present one."""

    def __init__(self, core: Core, emit: Emit) -> None:
        """One generation, of a core that is ready.

        Args:
            core: of the first bundle; closed by `close`.
            emit: where the events of every generation go.
        """
        self._emit = emit
        self.present = BundleGeneration(core, emit)
        self.all = [self.present]
        self._leaving: set[asyncio.Task[None]] = set()

    @contextmanager
    def lease(self, key: RequestKey | None = None) -> Iterator[BundleGeneration]:
        """The generation for a call, which stays open at least to the end of the block.

        Args:
            key: of a request; the generation where it is inside, or else the present one.
        """
        inside = (
            generation for generation in self.all if key and generation.requests.index.of(key)
        )
        generation = next(inside, self.present)
        # Counted before the first `await`: the generation cannot be closed under the call.
        generation.calls += 1
        try:
            yield generation
        finally:
            generation.calls -= 1

    @property
    def are_idle(self) -> bool:
        """Whether no request is inside any generation."""
        return all(generation.core.executor.counts.idle for generation in self.all)

    def swap(self, core: Core) -> None:
        """Let new requests go to another core; the old generation is closed once it is empty."""
        old, self.present = self.present, BundleGeneration(core, self._emit)
        # What a caller has used of its budget does not depend on the bundle.
        self.present.requests.quota = old.requests.quota
        # Results are kept by bundle, so they outlive the generation where they were made.
        self.present.requests.index.kept = old.requests.index.kept
        self.all.append(self.present)
        task = asyncio.get_running_loop().create_task(self._retire(old))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def refuse_new(self) -> None:
        """Let nobody in any more."""
        for generation in self.all:
            generation.core.executor.refuse_new()

    async def close_requests(self) -> None:
        """End every request; called once nothing is listened to any more."""
        for task in list(self._leaving):
            # What they wait for is ended by the line below, and closed by `close`.
            task.cancel()
        for generation in list(self.all):
            await generation.requests.close()

    async def close(self) -> None:
        """Close every core; called last."""
        for generation in list(self.all):
            await asyncio.to_thread(generation.core.close)

    async def _retire(self, generation: BundleGeneration) -> None:
        """Wait for a generation to be empty, then give back what it holds."""
        while not generation.is_empty:
            generation.core.executor.shrink()
            await asyncio.sleep(POLL_S)
        bundle_id = generation.core.bundle_id
        await generation.requests.close()
        await asyncio.to_thread(generation.core.close)
        self.all.remove(generation)
        # The last reference here; without it the engines would outlive the line below.
        del generation
        gc.collect()
        give_back()
        log_event("bundle_left", bundle_id=bundle_id)
