"""A TCP proxy that passes bytes on as a link of a given shape would.

One event loop, a reader and a writer per direction of a connection, and a bounded queue between
them: a sender meets backpressure as at a full interface. Knows sockets; the arithmetic is
`direction`'s.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from bench.link.direction import LinkDirection
from bench.link.shape import LinkShape
from cascade.addresses import UNIX_PREFIX, split_address

CHUNK = 16 << 10
"""Bytes read at once; 13 ms of a line of 10 Mbit/s."""
MOST_QUEUED = 2560 << 10
"""Bytes under way per direction of a connection: as many as 100 Mbit/s hold in 200 ms."""
Way = Literal["up", "down"]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class LinkCounts:
    """What has passed.

    Attributes:
        up: bytes to the server.
        down: bytes to the client.
        connections: since the start.
    """

    up: int = 0
    down: int = 0
    connections: int = 0


class LinkProxy:
    """Listens on loopback, passes on to one address."""

    def __init__(self, shape: LinkShape, target: str) -> None:
        """Nothing listens yet.

        Args:
            shape: what is done to the bytes.
            target: `host:port` or `unix:PATH`.
        """
        self._target = target
        self._begun = 0.0
        self.reshape(shape)
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts = LinkCounts()

    def reshape(self, shape: LinkShape) -> None:
        """Another link from now on; bytes under way come out as they would have."""
        self._shape = shape
        self._lines: dict[Way, LinkDirection] = {
            "up": line_of(shape, shape.up_bit_s, "up"),
            "down": line_of(shape, shape.down_bit_s, "down"),
        }

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; returns the address."""
        self._begun = asyncio.get_running_loop().time()
        self._server = await asyncio.start_server(self._serve, host, port)
        return "{}:{}".format(*self._server.sockets[0].getsockname()[:2])

    async def close(self) -> None:
        """Stop listening, and end every connection."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until both directions are closed."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as a task
        self._tasks.add(task)
        try:
            await self._pass_on((reader, writer))
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _pass_on(self, near: Streams) -> None:
        """Both directions of one connection."""
        self.counts.connections += 1
        far = await connect(self._target)
        # A connection begins with a handshake, which carries no bytes for a round trip.
        opens_at = self._now() + self._shape.rtt_s
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._direction(near[0], far[1], "up", opens_at))
                group.create_task(self._direction(far[0], near[1], "down", opens_at))
        except ExceptionGroup as exc:
            raise ConnectionError("one side is gone") from exc
        finally:
            # Both before either is waited for: the wait may be cancelled.
            near[1].close()
            far[1].close()
            for writer in (near[1], far[1]):
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _direction(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Way,
        opens_at: float,
    ) -> None:
        """Read as fast as the queue has room, write when the line says."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MOST_QUEUED // CHUNK)

        async def read() -> None:
            while data := await reader.read(CHUNK):
                line = self._lines[way]
                # The handshake of a new connection holds back its own bytes, never the others'.
                at = max(line.leaves_at(self._now(), len(data)), opens_at + line.delay_s)
                await queue.put((at, data))
            await queue.put((self._now() + self._lines[way].delay_s, b""))

        async def write() -> None:
            while True:
                at, data = await queue.get()
                await self._sleep_until(at)
                if not data:
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                    return
                self._count(way, len(data))
                writer.write(data)
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(write())

    def _count(self, way: Way, size: int) -> None:
        if way == "up":
            self.counts.up += size
        else:
            self.counts.down += size

    def _now(self) -> float:
        """Seconds since the link began."""
        return asyncio.get_running_loop().time() - self._begun

    async def _sleep_until(self, at: float) -> None:
        """Never less: a clock that wakes early is asked again."""
        while (left := at - self._now()) > 0:
            await asyncio.sleep(left)


def line_of(shape: LinkShape, bit_s: float, way: str) -> LinkDirection:
    """One direction of a link; the losses of each have a seed of their own."""
    return LinkDirection(
        bit_s=bit_s,
        delay_s=shape.rtt_s / 2,
        rtt_s=shape.rtt_s,
        loss=shape.loss,
        stall_every_s=shape.stall_every_s,
        stall_s=shape.stall_s,
        chance=random.Random(f"{shape.seed} {way}"),
    )


async def connect(target: str) -> Streams:
    """A connection to an address."""
    if target.startswith(UNIX_PREFIX):
        return await asyncio.open_unix_connection(target.removeprefix(UNIX_PREFIX))
    return await asyncio.open_connection(*split_address(target, "server"))


async def serve_commands(
    proxy: LinkProxy, next_line: Callable[[], Awaitable[str]], say: Callable[[str], None]
) -> None:
    """A proxy that is told another shape per line, until there are no more lines.

    Args:
        proxy: not started yet.
        next_line: a shape as JSON; empty is the end.
        say: told the address once it listens, and `ok` for each shape.
    """
    say(await proxy.start())
    try:
        while line := await next_line():
            proxy.reshape(LinkShape(**json.loads(line)))
            say("ok")
    finally:
        await proxy.close()
