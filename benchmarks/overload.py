"""What does a server do with five times the work it can do, and how soon is it normal again?

    python -m benchmarks.overload [--factor 5] [--seconds 60] [--json FILE] [--plot FILE]

First its capacity: a few clients that always have one request each. Then arrivals of a Poisson
process at `factor` times that rate, whatever becomes of them (open loop), from a process that only
sends. Then, when what was accepted is done, single requests as before. Goodput is pictures
delivered per second over capacity; a refusal's latency is from the moment the call is made to its
error. On two cores: the server on the last one, the load on the first, unless `--together`.
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.record import write_record
from cascade.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.faults.asking import answer, asking, differs
from tests.faults.victim import Victim, victim
from tests.serving import CHANNEL_OPTIONS, SERVICE, pixels
from tests.tiny_bundle import write_tiny_bundle

STEPS = (("base", 1), ("sr16", 4), ("sr32", 4))
CLIENTS = 8
"""That measure capacity: as many as the server runs at once."""
DEADLINE_S = 30.0
READ_EVERY_S = 0.25
LONE = 10
"""Single requests before and after."""


@dataclass
class Seen:
    """What became of requests; times in seconds since the load began.

    Attributes:
        served: when each was done, and how long it had taken.
        refused: when each was refused, and how long that had taken.
        failed: codes of all other ends.
        wrong: pictures that were not the right one.
    """

    served: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    wrong: int = 0


class Load:
    """Requests over a few connections, and what became of them."""

    def __init__(self, server: Victim, channels: list[Any]) -> None:
        self._server = server
        self._calls = [
            channel.unary_stream(
                SERVICE + "Generate", response_deserializer=pb.GenerateResponse.FromString
            )
            for channel in channels
        ]
        self._truth = answer(server.bundle, 0, STEPS)
        self._sent = 0
        self.begun = time.monotonic()
        self.seen = Seen()

    async def one(self) -> None:
        """Send one request and wait for its end."""
        message = asking(self._server.bundle, dict(STEPS)).SerializeToString()
        self._sent += 1
        made = time.monotonic()
        image = None
        try:
            async for response in self._calls[self._sent % len(self._calls)](
                message, timeout=DEADLINE_S
            ):
                if response.stage_result.stage == "sr32":
                    image = response.stage_result.image
        except grpc.RpcError as error:
            now = time.monotonic()
            if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.seen.refused.append((now - self.begun, now - made))
            else:
                self.seen.failed.append(error.code().name)
            return
        now = time.monotonic()
        self.seen.served.append((now - self.begun, now - made))
        self.seen.wrong += image is None or differs(pixels(image), self._truth)

    async def closed(self, clients: int, seconds: float) -> None:
        """Clients that each wait for one request before they send the next."""
        until = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < until:
                await self.one()

        await asyncio.gather(*(client() for _ in range(clients)))

    async def open(self, rate: float, seconds: float, chance: random.Random) -> None:
        """Arrivals at random, so many per second on average; waits for the last answer."""
        due = time.monotonic()
        until = due + seconds
        tasks = []
        while due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(self.one()))
            due += chance.expovariate(rate)
        await asyncio.gather(*tasks)


async def watch(server: Victim, readings: list[dict[str, float]], begun: float) -> None:
    """Read the server's gauges until cancelled."""
    while True:
        reading = await asyncio.to_thread(read_gauges, server)
        readings.append({"at_s": time.monotonic() - begun, **reading})
        await asyncio.sleep(READ_EVERY_S)


def read_gauges(server: Victim) -> dict[str, float]:
    """What the operator sees."""
    samples = server.samples()
    gauges = {
        name: sum(value for (key, _), value in samples.items() if key == f"cascade_{name}")
        for name in ("in_flight", "queue_depth", "running")
    }
    return {**gauges, "rss_mib": server.rss_mib}


async def measure(server: Victim, factor: float, seconds: float, seed: int) -> dict[str, Any]:
    """The three parts of the experiment, one after another."""
    channels = [grpc.aio.insecure_channel(server.address, CHANNEL_OPTIONS) for _ in range(CLIENTS)]
    readings: list[dict[str, float]] = []
    try:
        warm = Load(server, channels)
        await warm.closed(CLIENTS, min(2.0, seconds))
        before = await lone(server, channels)
        capacity = Load(server, channels)
        await capacity.closed(CLIENTS, seconds / 3)
        rate = len(capacity.seen.served) / (capacity.seen.served[-1][0])
        load = Load(server, channels)
        memory = server.rss_mib
        watcher = asyncio.create_task(watch(server, readings, load.begun))
        await load.open(factor * rate, seconds, random.Random(seed))
        drained = time.monotonic() - load.begun
        after = await lone(server, channels)
        watcher.cancel()
    finally:
        for channel in channels:
            await channel.close()
    return {
        "capacity_per_s": rate,
        "arrivals_per_s": factor * rate,
        "seconds": seconds,
        **account(load.seen, seconds, rate),
        "drained_after_s": drained - seconds,
        "lone_before_ms": 1000 * float(np.median(before)),
        "lone_after_ms": [1000 * s for s in after],
        "rss_mib": [memory, server.rss_mib],
        "readings": readings,
        "served_at": load.seen.served,
        "refused_at": load.seen.refused,
    }


async def lone(server: Victim, channels: list[Any]) -> list[float]:
    """Seconds of single requests, one after another."""
    load = Load(server, channels)
    for _ in range(LONE):
        await load.one()
    return [took_s for _, took_s in load.seen.served]


def account(seen: Seen, seconds: float, rate: float) -> dict[str, Any]:
    """The figures of the time under load."""
    in_time = sum(at <= seconds for at, _ in seen.served)
    refused_ms = 1000 * np.array([took_s for _, took_s in seen.refused] or [0.0])
    served_ms = 1000 * np.array([took_s for _, took_s in seen.served] or [0.0])
    return {
        "goodput": in_time / seconds / rate,
        "served_count": len(seen.served),
        "refused_count": len(seen.refused),
        "failed": sorted(set(seen.failed)),
        "failed_count": len(seen.failed),
        "wrong_pictures": seen.wrong,
        "refusal_ms": {str(p): float(np.percentile(refused_ms, p)) for p in (50, 99, 100)},
        "served_ms": {str(p): float(np.percentile(served_ms, p)) for p in (50, 99, 100)},
    }


def run(bundle: Bundle, args: argparse.Namespace) -> dict[str, Any]:
    """The experiment on a server of its own."""
    cores = sorted(os.sched_getaffinity(0))
    apart = len(cores) > 1 and not args.together
    with victim(bundle, "--max-queued-per-stage", str(args.queue)) as server:
        if apart:
            os.sched_setaffinity(server.process.pid, cores[-1:])
            os.sched_setaffinity(0, cores[:-1])
        try:
            figures = asyncio.run(measure(server, args.factor, args.seconds, args.seed))
        finally:
            os.sched_setaffinity(0, cores)
    return {"cores_apart": apart, "queue": args.queue, **figures}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factor", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--queue", type=int, default=8, help="requests that may wait per component")
    parser.add_argument("--slow-layers", type=int, default=60, help="makes a step last")
    parser.add_argument("--together", action="store_true", help="load and server on every core")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a PNG of what happened over time")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle", slow_layers=args.slow_layers)
        figures = run(bundle, args)
    print(f"capacity              {figures['capacity_per_s']:8.1f} pictures per second")
    print(f"arrivals              {figures['arrivals_per_s']:8.1f} per second, {args.seconds:g} s")
    print(f"goodput               {100 * figures['goodput']:8.1f} % of capacity")
    for name in ("served", "refusal"):
        row = figures[f"{name}_ms"]
        print(f"{name:8} p50 p99 max   {row['50']:8.1f} {row['99']:8.1f} {row['100']:8.1f} ms")
    print(f"served, refused       {figures['served_count']:8} {figures['refused_count']:8}")
    print(f"failed otherwise      {figures['failed_count']:8} {' '.join(figures['failed'])}")
    print(f"wrong pictures        {figures['wrong_pictures']:8}")
    print("resident memory       {:8.1f} -> {:.1f} MiB".format(*figures["rss_mib"]))
    print(f"accepted work done    {figures['drained_after_s']:8.2f} s after the last arrival")
    first, *_ = figures["lone_after_ms"]
    print(f"a lone request        {figures['lone_before_ms']:8.1f} ms before, {first:.1f} ms after")
    if args.plot is not None:
        from benchmarks.plots import plot_overload  # noqa: PLC0415 - matplotlib is an extra

        plot_overload(figures, args.plot)
    write_record(args.json, figures)


if __name__ == "__main__":
    main()
