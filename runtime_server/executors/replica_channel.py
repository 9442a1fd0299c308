"""A socket between a server and one replica, for attempts alone: what they are told and what comes.

Beside what begins, watches and ends replicas, whose calls take milliseconds each. Values of
`replica_work` as frames of `frames`; a peer has to prove that it has the replica's key before it is
read from. Knows neither what a replica does with an attempt nor where the key came from.
"""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from cascade.errors import CascadeError, TransportError
from runtime_server.executors.frames import decode, encode, failed
from runtime_server.executors.replica_work import Parcel, ReplicaLost, Work

HANDSHAKE_S = 10.0
"""Time for a peer to prove that it has the key."""
NONCE_BYTES = 32
LENGTH_BYTES = 8
READ_AHEAD_BYTES = 4 << 20
"""A picture of 1024 x 1024 in one piece; asyncio's own limit would read it in fifty."""
REPLICA, SERVER = b"replica", b"server"
"""Whose proof it is: one's own challenge sent back proves nothing."""


@dataclass(frozen=True, slots=True)
class Stop:
    """An attempt is to end with an error."""

    number: int
    error: CascadeError


@dataclass(frozen=True, slots=True)
class Came:
    """A parcel of an attempt."""

    number: int
    parcel: Parcel


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt ended in a way that is not planned for."""

    number: int
    kind: str
    """Name of the exception."""


class AttemptRunner(Protocol):
    """What runs attempts at the far end: a `Replica`."""

    def run(self, work: Work) -> AsyncIterator[Parcel]:
        """Run one attempt; the last item of the last parcel is `Ended`."""
        ...

    async def stop(self, number: int, error: CascadeError) -> None:
        """End an attempt with `error`."""
        ...


class ChannelServer:
    """A replica's end; used on one event loop."""

    def __init__(self, runner: AttemptRunner, key: bytes) -> None:
        """Nothing is listened to yet.

        Args:
            runner: is given the attempts.
            key: that a peer has to have.
        """
        self._runner = runner
        self._key = key
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Future[None]] = set()

    async def listen(self, host: str) -> int:
        """Take connections at a free port of an address; which port it is."""
        server = await asyncio.start_server(self._serve, host, 0, limit=READ_AHEAD_BYTES)
        self._server = server
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """End every connection and take no more."""
        if self._server is not None:
            self._server.close()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.ensure_future(self._obey_all(reader, writer))
        self._serving.add(task)
        try:
            # Whatever the peer is or does, it costs its own connection.
            with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.CancelledError):
                await task
        finally:
            self._serving.discard(task)
            writer.close()

    async def _obey_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Messages of one connection until it ends; then its attempts end too."""
        async with asyncio.timeout(HANDSHAKE_S):
            await admit(reader, writer, self._key)
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                task = asyncio.create_task(self._obey(await receive(reader), writer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _obey(self, message: Work | Stop, writer: asyncio.StreamWriter) -> None:
        """Do what one message says."""
        with contextlib.suppress(OSError):
            if isinstance(message, Stop):
                await self._runner.stop(message.number, message.error)
                return
            try:
                async for parcel in self._runner.run(message):
                    await send(writer, Came(message.number, parcel))
            except OSError:
                raise
            except Exception as exc:  # noqa: BLE001 - raised again at the server
                await send(writer, Failed(message.number, type(exc).__name__))


class ReplicaChannel:
    """The server's end; used on one event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A channel over a connection that is made; see `open_channel`."""
        self._writer = writer
        self._attempts: dict[int, asyncio.Queue[Came | Failed | None]] = {}
        self._is_lost = False
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    @property
    def peer(self) -> tuple[str, int]:
        """Where the replica listens."""
        host, port = self._writer.get_extra_info("peername")[:2]
        return host, port

    async def run(self, work: Work) -> AsyncIterator[Parcel]:
        """Begin one attempt; see `ReplicaHandle.run`."""
        inbox: asyncio.Queue[Came | Failed | None] = asyncio.Queue()
        self._attempts[work.number] = inbox
        try:
            await self._send(work)
            while (message := await inbox.get()) is not None:
                if isinstance(message, Failed):
                    raise failed(message.kind)
                yield message.parcel
                if message.parcel.is_last:
                    return
            raise ReplicaLost("the connection to a replica ended")
        finally:
            del self._attempts[work.number]

    async def stop(self, number: int, error: CascadeError) -> None:
        """Tell an attempt to end; returns once that is sent."""
        await self._send(Stop(number, error))

    def close(self) -> None:
        """End the connection; attempts over it are lost."""
        self._reading.cancel()
        self._writer.close()
        self._lose()

    async def _send(self, message: Work | Stop) -> None:
        """Send a message.

        Raises:
            ReplicaLost: the connection has ended.
        """
        if self._is_lost:
            raise ReplicaLost("the connection to a replica ended")
        try:
            await send(self._writer, message)
        except OSError as exc:
            raise ReplicaLost(f"the connection to a replica ended: {exc}") from exc

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Give every message to its attempt until the connection ends."""
        with contextlib.suppress(OSError, EOFError):
            while True:
                message = await receive(reader)
                inbox = self._attempts.get(message.number)
                if inbox is not None:
                    inbox.put_nowait(message)
        self._lose()

    def _lose(self) -> None:
        """Nothing more comes."""
        self._is_lost = True
        for inbox in self._attempts.values():
            inbox.put_nowait(None)


async def open_channel(host: str, port: int, key: bytes) -> ReplicaChannel:
    """Connect to a replica.

    Args:
        host: where it listens.
        port: the same.
        key: that it was given.

    Raises:
        TransportError: it cannot be connected to, or has another key.
    """
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            reader, writer = await asyncio.open_connection(host, port, limit=READ_AHEAD_BYTES)
            try:
                await introduce(reader, writer, key)
            except BaseException:
                writer.close()
                raise
    except (OSError, EOFError, TimeoutError) as exc:
        raise TransportError(
            f"replica at {host}:{port}: no connection ({type(exc).__name__}): let the machines of "
            "the cluster connect to each other at every port"
        ) from exc
    return ReplicaChannel(reader, writer)


async def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes) -> None:
    """A replica's half of the handshake: prove the key, and have it proved.

    Raises:
        PermissionError: the peer does not have it.
    """
    theirs = await reader.readexactly(NONCE_BYTES)
    ours = secrets.token_bytes(NONCE_BYTES)
    writer.write(ours + proof(key, REPLICA, theirs, ours))
    answer = await reader.readexactly(NONCE_BYTES)
    if not hmac.compare_digest(answer, proof(key, SERVER, theirs, ours)):
        raise PermissionError("the peer has another key")


async def introduce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes) -> None:
    """A server's half of the handshake.

    Raises:
        PermissionError: the replica does not have the key.
    """
    ours = secrets.token_bytes(NONCE_BYTES)
    writer.write(ours)
    theirs = await reader.readexactly(NONCE_BYTES)
    answer = await reader.readexactly(NONCE_BYTES)
    if not hmac.compare_digest(answer, proof(key, REPLICA, ours, theirs)):
        raise PermissionError("the replica has another key")
    writer.write(proof(key, SERVER, ours, theirs))


def proof(key: bytes, whose: bytes, first: bytes, second: bytes) -> bytes:
    """That one side of a handshake has the key, 32 bytes.

    Args:
        key: the replica's.
        whose: `REPLICA` or `SERVER`.
        first: the server's nonce.
        second: the replica's nonce.
    """
    return hmac.digest(key, whose + first + second, hashlib.sha256)


async def send(writer: asyncio.StreamWriter, message: Work | Stop | Came | Failed) -> None:
    """Write one frame, in one piece; waits while the peer reads slowly."""
    parts = encode(message)
    length = sum(len(part) for part in parts)
    writer.writelines([length.to_bytes(LENGTH_BYTES, "big"), *parts])
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next frame of a peer that has the key.

    Raises:
        EOFError: there is none.
        Malformed: it is no frame.
    """
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    return decode(await reader.readexactly(length))
