"""What does a message to a replica cost, by what carries it?

    python -m benchmarks.replica_hop [--requests 200] [--kilobytes 7] [--json FILE]

Needs the extra `ray`. One actor of a Ray cluster of this machine answers with some payloads, by
calls of Ray, by Ray's streaming generators, and over a socket beside Ray. The ways take turns;
milliseconds of a question with all its answers.
"""

import argparse
import asyncio
import logging
import os
import pickle
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.record import write_record

LENGTH_BYTES = 4
WARM = 5
"""Questions of each way that are not counted."""
ANSWERS = (1, 3, 5)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answering:
    """The far end, in a process of Ray."""

    async def call(self, payload: bytes) -> bytes:
        """One answer."""
        return payload

    async def stream(self, payload: bytes, answers: int) -> AsyncIterator[bytes]:
        """So many answers."""
        for _ in range(answers):
            yield payload

    async def listen(self, path: str) -> int:
        """Answer on a Unix socket and on a port of loopback; which port."""
        self._unix = await asyncio.start_unix_server(self._serve, path)
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._tcp.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Questions of one connection."""
        while True:
            payload, answers = await read_frame(reader)
            for _ in range(answers):
                write_frame(writer, payload)
                await writer.drain()


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """One pickled value."""
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - of our own actor


def write_frame(writer: asyncio.StreamWriter, value: object) -> None:
    """The same, to be sent."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    writer.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)


async def by_call(actor: Any, payload: bytes) -> None:
    """One call of Ray."""
    await actor.call.remote(payload)


async def by_stream(actor: Any, payload: bytes, answers: int) -> None:
    """One streaming generator of Ray."""
    stream = actor.stream.options(num_returns="streaming").remote(payload, answers)
    async for reference in stream:
        await reference


async def by_socket(streams: Streams, payload: bytes, answers: int) -> None:
    """One question over a socket."""
    write_frame(streams[1], (payload, answers))
    for _ in range(answers):
        await read_frame(streams[0])


async def compare(actor: Any, payload: bytes, requests: int) -> dict[str, list[float]]:
    """Seconds of every question, by way."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")
        port = await actor.listen.remote(path)
        unix = await asyncio.open_unix_connection(path)
        tcp = await asyncio.open_connection("127.0.0.1", port)
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "call, 1": partial(by_call, actor, payload)
        }
        for answers in ANSWERS:
            ways[f"stream, {answers}"] = partial(by_stream, actor, payload, answers)
            ways[f"Unix socket, {answers}"] = partial(by_socket, unix, payload, answers)
            ways[f"TCP, {answers}"] = partial(by_socket, tcp, payload, answers)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(requests + WARM):
            for name, way in ways.items():
                begun = time.perf_counter()
                await way()
                taken[name].append(time.perf_counter() - begun)
        for _, writer in (unix, tcp):
            writer.close()
    return {name: seconds[WARM:] for name, seconds in taken.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--kilobytes", type=float, default=7.0, help="of each answer")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    import ray  # noqa: PLC0415 - an extra

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(
        "local", num_cpus=2, _node_ip_address="127.0.0.1", object_store_memory=100 << 20, **quiet
    )
    try:
        actor = ray.remote(Answering).options(max_concurrency=100).remote()
        taken = asyncio.run(compare(actor, os.urandom(int(1000 * args.kilobytes)), args.requests))
    finally:
        ray.shutdown()
    figures: dict[str, Any] = {"load": os.getloadavg()[0], "ms": {}}
    print(f"load {figures['load']:.1f}; ms at the 10th, 50th and 90th percentile")
    for name, seconds in taken.items():
        row = figures["ms"][name] = [float(1000 * np.percentile(seconds, p)) for p in (10, 50, 90)]
        print(f"{name:16}" + "".join(f"{ms:8.2f}" for ms in row))
    write_record(args.json, figures)


if __name__ == "__main__":
    main()
