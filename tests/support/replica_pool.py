"""Replicas in this process, for an executor that does not know where its replicas are.

True replicas with their own engines; what a cluster adds is how they are called and how they are
lost, and that is what can be told to happen here.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from cascade.errors import CascadeError
from cascade.stage_factory import EngineFactory
from runtime_server.config.config import ServerConfig
from runtime_server.executors.replica import Replica, replica_config
from runtime_server.executors.replica_work import (
    Parcel,
    ReplicaHello,
    ReplicaLost,
    ReplicaReport,
    Work,
)
from runtime_server.runtime.job import Ended

T = TypeVar("T")
UNBOUNDED = 1_000_000


class Room:
    """Devices that several pools share."""

    def __init__(self, devices: int) -> None:
        self.free = devices

    async def take(self) -> None:
        """Wait for one."""
        while not self.free:
            await asyncio.sleep(0.002)
        self.free -= 1


class InProcessReplica:
    """A replica that can be lost or frozen."""

    def __init__(self, replica: Replica, room: Room) -> None:
        self.replica = replica
        self._room = room
        self._has_room = False
        self.dead = asyncio.Event()
        self.frozen = False
        self.begun: list[Work] = []
        self._loop = asyncio.get_running_loop()
        self._closing: threading.Thread | None = None

    async def open(self) -> ReplicaHello:
        """Load the bundle, on a device of its own."""
        await self._room.take()
        self._has_room = True
        return await self._alive(self.replica.open())

    async def run(self, work: Work) -> AsyncIterator[Parcel]:
        """Run one attempt."""
        self.begun.append(work)
        stream = self.replica.run(work)
        while True:
            parcel = await self._alive(anext(stream))
            yield parcel
            if any(isinstance(item, Ended) for item in parcel.items):
                return

    async def stop(self, number: int, error: CascadeError) -> None:
        """End an attempt."""
        await self._alive(self.replica.stop(number, error))

    async def report(self) -> ReplicaReport:
        """Its state."""
        return await self._alive(self.replica.report())

    async def measure(self, *, beside: bool) -> None:
        """Measure."""
        await self._alive(self.replica.measure(beside=beside))

    def kill(self) -> None:
        """Lose it; what it was doing is never heard of again."""
        self._loop.call_soon_threadsafe(self.dead.set)
        self._room.free += self._has_room
        self._has_room = False
        if self._closing is None:
            self._closing = threading.Thread(target=self.replica.close)
            self._closing.start()

    def join(self) -> None:
        """Wait until it is closed."""
        if self._closing is not None:
            self._closing.join()

    async def _alive(self, answer: Awaitable[T]) -> T:
        """An answer, if the replica lives to give it."""
        task = asyncio.ensure_future(answer)
        dead = asyncio.ensure_future(self.dead.wait())
        try:
            while True:
                await asyncio.wait([task, dead], return_when=asyncio.FIRST_COMPLETED)
                if dead.done():
                    raise ReplicaLost("killed")
                if not self.frozen:
                    return task.result()
                await dead
        finally:
            for one in (task, dead):
                one.cancel()
            await asyncio.gather(task, dead, return_exceptions=True)


class InProcessPool:
    """Where they come from."""

    def __init__(
        self,
        config: ServerConfig,
        count: int,
        make_engine: EngineFactory | None = None,
        most: int = 0,
        room: Room | None = None,
    ) -> None:
        self.count = count
        self.most = most or count
        self._room = room or Room(UNBOUNDED)
        self.at_once = min(count, max(1, self._room.free))
        self.replicas: list[InProcessReplica] = []
        self.refuses = False
        self.closed = False
        self._config = replica_config(config, cpus=1)
        self._make_engine = make_engine

    @property
    def has_room(self) -> bool:
        """Whether as many again would find devices."""
        return self._room.free >= self.count

    def spawn(self) -> InProcessReplica:
        """One more."""
        if self.refuses:
            raise ReplicaLost("no machine is left")
        self.replicas.append(InProcessReplica(Replica(self._config, self._make_engine), self._room))
        return self.replicas[-1]

    def close(self) -> None:
        """Every one was killed before."""
        for replica in self.replicas:
            replica.join()
        self.closed = True
