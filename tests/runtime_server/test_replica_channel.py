"""The socket between a server and a replica: what is carried, what is refused, what is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from cascade.errors import Cancelled, CascadeError, StageError, TransportError
from cascade.events import StageFinished
from cascade.request import GenerateRequest, Handoff
from runtime_server.admission.checks import RequestPlan
from runtime_server.executors.replica_channel import (
    NONCE_BYTES,
    ChannelServer,
    ReplicaChannel,
    open_channel,
    proof,
)
from runtime_server.executors.replica_work import Parcel, ReplicaLost, Work
from runtime_server.runtime.job import Ended
from runtime_server.telemetry.server_events import TracedRequest

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
HOST = "127.0.0.1"
PICTURE = np.arange(3 * 1024 * 1024, dtype=np.uint32).astype(np.uint8).reshape(1024, 1024, 3)


def work(number: int) -> Work:
    """An attempt from a picture as large as the last one."""
    start = Handoff(image=PICTURE)
    request = GenerateRequest(prompt="a red apple", seed=number)
    plan = RequestPlan(
        request_id=f"r{number}",
        request=request,
        start=start,
        first=0,
        last=0,
        costs={},
        format="png",
    )
    return Work(
        number=number,
        plan=plan,
        position=0,
        handoff=start,
        allowed_s=None,
        request=TracedRequest(plan.request_id),
    )


class Replying:
    """Answers an attempt with its own picture, once it is told to; keeps what it was told."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.stopped: dict[int, CascadeError] = {}
        self.over: list[int] = []
        self.told = asyncio.Event()

    async def run(self, work: Work) -> AsyncIterator[Parcel]:
        """An empty parcel, then the picture; an odd number fails."""
        self.begun.append(work.number)
        try:
            yield Parcel(items=())
            await self.told.wait()
            if work.number % 2:
                raise ZeroDivisionError
            done = StageFinished(stage="sr", handoff=work.handoff, seconds={})
            yield Parcel(items=(done, Ended(self.stopped.get(work.number))))
        finally:
            self.over.append(work.number)

    async def stop(self, number: int, error: CascadeError) -> None:
        """Remember it."""
        self.stopped[number] = error
        self.told.set()


def carried(check: Callable[[Replying, ReplicaChannel], Awaitable[None]]) -> None:
    """Run a check over a channel, both ends on one loop."""

    async def run() -> None:
        runner = Replying()
        server = ChannelServer(runner, KEY)
        channel = await open_channel(HOST, await server.listen(HOST), KEY)
        try:
            async with asyncio.timeout(60):
                await check(runner, channel)
        finally:
            channel.close()
            await server.close()
            # Transports close in the next turn of the loop.
            await asyncio.sleep(0.01)

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the other end does."""
    while not condition():
        await asyncio.sleep(0.001)


def test_attempts_share_a_connection_and_pictures_arrive_whole() -> None:
    """Two at once, each with its own parcels, its own picture and the error that it was told."""

    async def check(runner: Replying, channel: ReplicaChannel) -> None:
        streams = {number: channel.run(work(number)) for number in (2, 4)}
        assert [await anext(streams[n]) for n in (2, 4)] == [Parcel(items=())] * 2
        await channel.stop(4, Cancelled("no longer wanted"))
        for number, stream in streams.items():
            (parcel,) = [parcel async for parcel in stream]
            done, ended = parcel.items
            assert isinstance(done, StageFinished)
            assert isinstance(ended, Ended)
            np.testing.assert_array_equal(done.handoff.image, PICTURE)
            assert isinstance(ended.error, Cancelled if number == 4 else type(None))

    carried(check)


def test_a_failure_that_is_not_planned_for_ends_its_attempt_alone() -> None:
    """With the name of the exception; the connection carries the next attempt."""

    async def check(runner: Replying, channel: ReplicaChannel) -> None:
        runner.told.set()
        with pytest.raises(StageError, match="a replica failed: ZeroDivisionError"):
            [parcel async for parcel in channel.run(work(1))]
        assert len([parcel async for parcel in channel.run(work(2))]) == 2

    carried(check)


def test_attempts_are_lost_with_the_connection_and_end_at_the_replica() -> None:
    """A server that ends leaves no work behind; nothing can be sent any more."""

    async def check(runner: Replying, channel: ReplicaChannel) -> None:
        stream = channel.run(work(2))
        await anext(stream)
        channel.close()
        with pytest.raises(ReplicaLost):
            await anext(stream)
        await until(lambda: runner.over == [2])
        with pytest.raises(ReplicaLost):
            await anext(channel.run(work(4)))
        with pytest.raises(ReplicaLost):
            await channel.stop(2, Cancelled("no longer wanted"))

    carried(check)


async def own_challenge(reader: Any, writer: Any) -> None:
    """Answer a replica with the proof that it gave."""
    writer.write(bytes(NONCE_BYTES))
    await reader.readexactly(NONCE_BYTES)
    writer.write(await reader.readexactly(NONCE_BYTES))


async def another_key(reader: Any, writer: Any) -> None:
    """Answer with another key."""
    writer.write(bytes(NONCE_BYTES))
    theirs = await reader.readexactly(NONCE_BYTES)
    writer.write(proof(OTHER_KEY, b"server", bytes(NONCE_BYTES), theirs))


@pytest.mark.parametrize("attack", [own_challenge, another_key])
def test_a_peer_without_the_key_is_not_read_from(attack: Callable[..., Awaitable[None]]) -> None:
    """Its connection ends before a frame of it is looked at; the channel beside it goes on."""

    async def check(runner: Replying, channel: ReplicaChannel) -> None:
        host, port = channel.peer
        reader, writer = await asyncio.open_connection(host, port)
        await attack(reader, writer)
        writer.write((1 << 40).to_bytes(8, "big"))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(1 << 20)
        writer.close()
        runner.told.set()
        assert len([parcel async for parcel in channel.run(work(2))]) == 2
        assert runner.begun == [2]

    carried(check)


def test_a_replica_that_cannot_be_reached_or_has_another_key_is_refused() -> None:
    """The error says what the machines have to be able to do."""

    async def check(runner: Replying, channel: ReplicaChannel) -> None:
        host, port = channel.peer
        with pytest.raises(TransportError, match=f"replica at {host}:{port}: no connection"):
            await open_channel(host, port, OTHER_KEY)
        closed = await asyncio.start_server(lambda _r, _w: None, HOST, 0)
        port = closed.sockets[0].getsockname()[1]
        closed.close()
        await closed.wait_closed()
        with pytest.raises(TransportError, match="connect to each other"):
            await open_channel(HOST, port, KEY)

    carried(check)
