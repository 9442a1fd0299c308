"""What does a server do with five times the work it can do, and how soon is it normal again?

    python -m benchmarks.overload [--bundle FOLDER --cut 2] [--factor 5] [--seconds 60]
                                  [--json FILE] [--plot FILE]

First its capacity: a few clients that always have one request each. Then arrivals of a Poisson
process at `factor` times that rate, whatever becomes of them (open loop), from a process that only
sends. Then, when what was accepted is done, single requests as before, and the capacity once more:
a machine drifts, and goodput is pictures delivered per second over the mean of both capacities. A
refusal's latency is from the moment the call is made to its error.

By default a bundle in miniature, a picture of which costs no more than thirty refusals: the harder
case. The server has the last core, the load the first, unless `--together`. With `--bundle` a true
one from what a device sends at `--cut`, and every core for the server, as an operator runs it.
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

from benchmarks.lib.questions import Question, ask_from_cut, ask_tiny
from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.server_process import Victim, victim
from tests.support.serving import CHANNEL_OPTIONS, SERVICE, wait_until
from tests.support.tiny_bundle import write_tiny_bundle

CLIENTS = 8
"""That measure capacity: as many as the server runs at once."""
DEADLINE_S = 30.0
READ_EVERY_S = 0.25
MEASURED_WITHIN_S = 300.0
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


class OfferedLoad:
    """Requests over a few connections, and what became of them."""

    def __init__(self, question: Question, channels: list[Any]) -> None:
        self._question = question
        self._calls = [
            channel.unary_stream(
                SERVICE + "Generate", response_deserializer=pb.GenerateResponse.FromString
            )
            for channel in channels
        ]
        self._sent = 0
        self.begun = time.monotonic()
        self.seen = Seen()

    async def one(self) -> None:
        """Send one request and wait for its end."""
        message = self._question.message()
        self._sent += 1
        made = time.monotonic()
        image = None
        try:
            async for response in self._calls[self._sent % len(self._calls)](
                message, timeout=DEADLINE_S
            ):
                if response.stage_result.stage == self._question.last:
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
        self.seen.wrong += not self._question.is_answer(image)

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


@dataclass(frozen=True, kw_only=True, slots=True)
class OverloadSchedule:
    """How long what is done.

    Attributes:
        factor: arrivals over capacity.
        seconds: of the overload; capacity is measured for a sixth of it before and after.
        seed: of the arrivals.
    """

    factor: float
    seconds: float
    seed: int

    @property
    def capacity_s(self) -> float:
        """Seconds of each measurement of capacity."""
        return self.seconds / 6


async def measure(server: Victim, question: Question, plan: OverloadSchedule) -> dict[str, Any]:
    """The parts of the experiment, one after another."""
    channels = [grpc.aio.insecure_channel(server.address, CHANNEL_OPTIONS) for _ in range(CLIENTS)]
    readings: list[dict[str, float]] = []
    try:
        await OfferedLoad(question, channels).closed(CLIENTS, min(2.0, plan.seconds))
        lone_before = await lone(question, channels)
        before, busy_before = await capacity(server, question, channels, plan.capacity_s)
        load = OfferedLoad(question, channels)
        memory, spent = server.rss_mib, Spent(server)
        watcher = asyncio.create_task(watch(server, readings, load.begun))
        rate = plan.factor * before
        await load.open(rate, plan.seconds, random.Random(plan.seed))
        busy = spent.shares()
        drained = time.monotonic() - load.begun
        lone_after = await lone(question, channels)
        watcher.cancel()
        after, busy_after = await capacity(server, question, channels, plan.capacity_s)
    finally:
        for channel in channels:
            await channel.close()
    mean = (before + after) / 2
    return {
        "capacity_per_s": mean,
        "capacities_per_s": [before, after],
        "arrivals_per_s": rate,
        "seconds": plan.seconds,
        **account(load.seen, plan.seconds, mean),
        "busy": {"capacity": [busy_before, busy_after], "overload": busy},
        "drained_after_s": drained - plan.seconds,
        "lone_before_ms": 1000 * float(np.median(lone_before)),
        "lone_after_ms": [1000 * s for s in lone_after],
        "rss_mib": [memory, server.rss_mib],
        "readings": readings,
        "served_at": load.seen.served,
        "refused_at": load.seen.refused,
    }


async def capacity(
    server: Victim, question: Question, channels: list[Any], seconds: float
) -> tuple[float, dict[str, float]]:
    """Pictures per second of a few clients that always wait for one, and how busy the server is."""
    load, spent = OfferedLoad(question, channels), Spent(server)
    await load.closed(CLIENTS, seconds)
    return len(load.seen.served) / load.seen.served[-1][0], spent.shares()


class Spent:
    """What a server spends from now on."""

    def __init__(self, server: Victim) -> None:
        self._server = server
        self._begun = self._now()

    def _now(self) -> tuple[float, float, float]:
        """The time, seconds of processor of the server, seconds in which an engine of it ran."""
        fields = Path(f"/proc/{self._server.process.pid}/stat").read_text().rpartition(")")[2]
        ticks = sum(int(field) for field in fields.split()[11:13])
        engine_s = self._server.total("cascade_step_milliseconds_sum") / 1000
        return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), engine_s

    def shares(self) -> dict[str, float]:
        """Of the time since: cores kept busy, and the share in which an engine ran."""
        passed_s, cpu_s, engine_s = (
            now - then for now, then in zip(self._now(), self._begun, strict=True)
        )
        return {"cores": cpu_s / passed_s, "engine": engine_s / passed_s}


async def lone(question: Question, channels: list[Any]) -> list[float]:
    """Seconds of single requests, one after another."""
    load = OfferedLoad(question, channels)
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
    plan = OverloadSchedule(factor=args.factor, seconds=args.seconds, seed=args.seed)
    cores = sorted(os.sched_getaffinity(0))
    apart = len(cores) > 1 and not args.together and args.bundle is None
    question = ask_tiny(bundle) if args.bundle is None else ask_from_cut(bundle, args.cut)
    threads = "1" if args.bundle is None else "0"
    with victim(bundle, "--max-queued-per-stage", str(args.queue), "--threads", threads) as server:
        if apart:
            os.sched_setaffinity(server.process.pid, cores[-1:])
            os.sched_setaffinity(0, cores[:-1])
        try:
            wait_until_measured(server)
            figures = asyncio.run(measure(server, question, plan))
        finally:
            os.sched_setaffinity(0, cores)
    message_bytes = len(question.message())
    told = {"bundle": bundle.manifest.name, "message_bytes": message_bytes, "queue": args.queue}
    return {**told, "cores_apart": apart, **figures}


def wait_until_measured(server: Victim) -> None:
    """Until it knows of every component whether rows should share runs."""
    count = len(server.bundle.manifest.components)
    wait_until(lambda: len(server.log("rows_measured")) == count, MEASURED_WITHIN_S)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="overload a true bundle; else one in miniature")
    parser.add_argument("--cut", type=int, default=2, help="components that ran before, from 1 on")
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
        if args.bundle is None:
            bundle = write_tiny_bundle(Path(folder) / "bundle", slow_layers=args.slow_layers)
        else:
            bundle = open_bundle(args.bundle)
        figures = run(bundle, args)
    report(figures)
    if args.plot is not None:
        from benchmarks.lib.plots import plot_overload  # noqa: PLC0415 - matplotlib is an extra

        plot_overload(figures, args.plot)
    write_record(args.json, figures)


def report(figures: dict[str, Any]) -> None:
    """The table."""
    before, after = figures["capacities_per_s"]
    print(f"capacity              {before:8.1f} before, {after:.1f} after, pictures per second")
    print(f"arrivals              {figures['arrivals_per_s']:8.1f} per second, ", end="")
    print(f"{figures['message_bytes']} bytes each, {figures['seconds']:g} s")
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
    for kind, unit in (("cores", "cores busy"), ("engine", "share of engine")):
        shares = [share[kind] for share in figures["busy"]["capacity"]]
        print(f"{unit:21} {np.mean(shares):8.2f} at capacity, ", end="")
        print(f"{figures['busy']['overload'][kind]:.2f} overloaded")


if __name__ == "__main__":
    main()
