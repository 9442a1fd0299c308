"""Does a cancelled task leave anything behind, and what does the bridge to event loops cost?

    python -m benchmarks.async_client [--cancels 1000] [--requests 200] [--json FILE]

Tasks of `AsyncClient` are cancelled at random moments of requests that would run for many seconds:
by `Task.cancel`, by a timeout, by leaving the events. After each the server must come to rest, and
no thread of a call may be left; threads and open files of both sides are compared before and after.
The cost is one small request after another, the two clients in turns.
"""

import argparse
import asyncio
import contextlib
import random
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.request import GenerateRequest
from runtime_client.async_client import AsyncClient
from runtime_client.client import Client
from tests.support.server_process import victim
from tests.support.serving import PROMPT
from tests.support.tiny_bundle import write_tiny_bundle

LONG = GenerateRequest(
    prompt=PROMPT,
    options={
        "base": DiffusionOptions(steps=2),
        "sr16": DiffusionOptions(steps=1000),
        "sr32": DiffusionOptions(steps=1000),
    },
)
SHORT = GenerateRequest(
    prompt=PROMPT, last_stage="base", options={"base": DiffusionOptions(steps=1)}
)
PATIENCE_S = 20.0
POLL_S = 0.002
LATEST_S = 0.06
"""A request is cancelled so long after it was begun, at the latest."""


def threads_of_calls() -> int:
    """Threads of asynchronous calls in this process."""
    return sum(thread.name.startswith("cascade-async") for thread in threading.enumerate())


async def by_cancelling(client: AsyncClient, after_s: float) -> None:
    """`Task.cancel`."""
    task = asyncio.create_task(client.run(LONG))
    await asyncio.sleep(after_s)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def by_timeout(client: AsyncClient, after_s: float) -> None:
    """`asyncio.timeout` around the call."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(after_s):
            await client.run(LONG)


async def by_leaving(client: AsyncClient, after_s: float) -> None:
    """`break` out of the events."""
    until = time.monotonic() + after_s
    async for _ in client.events(LONG):
        if time.monotonic() >= until:
            break


WAYS: tuple[Callable[[AsyncClient, float], Awaitable[None]], ...] = (
    by_cancelling,
    by_timeout,
    by_leaving,
)


async def cancel_often(
    client: AsyncClient, cancels: int, chance: random.Random, is_idle: Callable[[], bool]
) -> list[float | None]:
    """Cancel so often.

    Args:
        client: of a server that does nothing else.
        cancels: how often.
        chance: of the moment.
        is_idle: whether nothing is inside the server.

    Returns:
        Seconds from the cancel until nothing was left, for each; None where something stayed.
    """
    settled: list[float | None] = []
    for number in range(cancels):
        await WAYS[number % len(WAYS)](client, chance.random() * LATEST_S)
        begun = time.monotonic()
        while threads_of_calls() or not is_idle():
            if time.monotonic() - begun > PATIENCE_S:
                settled.append(None)
                break
            await asyncio.sleep(POLL_S)
        else:
            settled.append(time.monotonic() - begun)
    return settled


async def measure_cost(bundle: Bundle, address: str, requests: int) -> dict[str, list[float]]:
    """Seconds of small requests through both clients, in turns."""
    seconds: dict[str, list[float]] = {"synchronous": [], "asynchronous": []}
    with Client(bundle, server=address, cut=0) as plain:
        async with AsyncClient(bundle, server=address, cut=0) as bridged:
            for _ in range(requests):
                begun = time.perf_counter()
                plain.run(SHORT)
                between = time.perf_counter()
                await bridged.run(SHORT)
                seconds["synchronous"].append(between - begun)
                seconds["asynchronous"].append(time.perf_counter() - between)
    return {name: taken[len(taken) // 10 :] for name, taken in seconds.items()}


async def measure(bundle: Bundle, cancels: int, requests: int, seed: int) -> dict[str, Any]:
    """Figures of one run."""
    chance = random.Random(seed)
    with victim(bundle) as server:
        async with AsyncClient(bundle, server=server.address, cut=0) as client:
            await cancel_often(client, min(cancels, 20), chance, lambda: server.is_idle)
            before = [server.threads, server.open_files, threading.active_count()]
            settled = await cancel_often(client, cancels, chance, lambda: server.is_idle)
            after = [server.threads, server.open_files, threading.active_count()]
        cost = await measure_cost(bundle, server.address, requests)
    waited = [1000 * s for s in settled if s is not None] or [0.0]
    return {
        "cancels": cancels,
        "left_behind": settled.count(None),
        "settled_ms": {f"p{p}": float(np.percentile(waited, p)) for p in (50, 99)},
        "server_threads": [before[0], after[0]],
        "server_open_files": [before[1], after[1]],
        "client_threads": [before[2], after[2]],
        "request_ms": {
            name: {f"p{p}": 1000 * float(np.percentile(taken, p)) for p in (50, 99)}
            for name, taken in cost.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--cancels", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle", slow_layers=60, steps=40)
        figures = asyncio.run(measure(bundle, args.cancels, args.requests, args.seed))
    print(f"left behind {figures['left_behind']} of {figures['cancels']} cancels")
    settled = figures["settled_ms"]
    print(f"all is idle after: p50 {settled['p50']:.1f} ms, p99 {settled['p99']:.1f} ms")
    for name in ("server_threads", "server_open_files", "client_threads"):
        print(f"{name.replace('_', ' '):18} {figures[name][0]} -> {figures[name][1]}")
    for name, row in figures["request_ms"].items():
        print(f"one request, {name:13} p50 {row['p50']:6.2f} ms  p99 {row['p99']:6.2f} ms")
    write_record(args.json, figures)


if __name__ == "__main__":
    main()
