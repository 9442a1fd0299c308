"""How close is `cascade plan --capacity` to what a server does?

    python -m benchmarks.capacity [--bundle FOLDER] [--cut 2] [--seconds 20] [--rounds 3]
                                  [--clients 8] [--json FILE]

Each round has a server of its own: a few pictures one after the other, the plan, then clients that
each wait for one picture before they ask for the next, which is all that it can do. Prints planned
and measured pictures per second, memory and bytes, and the error of each.
Times of a plan are those of the last runs: on a machine that others use, both sides drift.
"""

import argparse
import asyncio
import os
import statistics
from pathlib import Path

import grpc

from benchmarks.lib.questions import Question, ask_from_cut
from benchmarks.lib.record import write_record
from benchmarks.overload import CLIENTS, OfferedLoad, wait_until_measured
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.default_bundle import bundle_or_default
from cascade.request import GenerateRequest
from runtime_client import Client
from tests.support.server_process import Victim, victim
from tests.support.serving import CHANNEL_OPTIONS, PROMPT

LONE = 4
"""Pictures before the plan; what a run or the host takes is a mean over them."""
FIGURES = ("pictures_per_s", "memory_mb", "bytes_down")


def planned(bundle: Bundle, server: Victim, cut: int) -> dict[str, float]:
    """What the plan of a server says now."""
    # Encoded as for another machine: that is what the load asks for.
    with Client(bundle, server=server.address, cut="auto", picture_format="webp") as client:
        for _ in range(LONE):
            client.generate(PROMPT)
        client.wait_ahead()
        plan = client.capacity(GenerateRequest(prompt=PROMPT), cut)
    return {
        "pictures_per_s": plan.pictures_per_s,
        "memory_mb": plan.memory_bytes / 1e6,
        "bytes_down": float(plan.bytes_down),
    }


async def measured(
    server: Victim, question: Question, clients: int, seconds: float
) -> dict[str, float]:
    """What it does for several clients."""
    channels = [grpc.aio.insecure_channel(server.address, CHANNEL_OPTIONS) for _ in range(clients)]
    try:
        sent = server.total("cascade_message_bytes_total", direction="out")
        load = OfferedLoad(question, channels)
        await load.closed(clients, seconds)
        sent = server.total("cascade_message_bytes_total", direction="out") - sent
    finally:
        for channel in channels:
            await channel.close()
    ends = sorted(at for at, _ in load.seen.served)
    # From the first end to the last one: the ramp up has no picture yet.
    rate = (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else float("nan")
    return {
        "pictures_per_s": rate,
        "memory_mb": server.rss_mib * (1 << 20) / 1e6,
        "bytes_down": sent / len(ends),
        "wrong": float(load.seen.wrong + len(load.seen.failed)),
    }


def rounds(bundle: Bundle, args: argparse.Namespace) -> list[dict[str, dict[str, float]]]:
    """Plan and load, on a new server each."""
    question = ask_from_cut(bundle, args.cut)
    found = []
    for _ in range(args.rounds):
        with victim(bundle, "--threads", "0") as server:
            wait_until_measured(server)
            plan = planned(bundle, server, args.cut)
            load = asyncio.run(measured(server, question, args.clients, args.seconds))
            found.append({"planned": plan, "load": load})
    return found


def summary(found: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians over the rounds, and the error of the plan in percent of what was measured."""
    table = {}
    for name in FIGURES:
        plan = statistics.median(r["planned"][name] for r in found)
        load = statistics.median(r["load"][name] for r in found)
        table[name] = {"planned": plan, "measured": load, "error_percent": 100 * (plan / load - 1)}
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="folder (default: the reference bundle)")
    parser.add_argument("--cut", type=int, default=2, help="components on the device, from 1 on")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bundle = open_bundle(bundle_or_default(args.bundle))
    before = os.getloadavg()[0]
    found = rounds(bundle, args)
    table = summary(found)
    print(f"load of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    print(f"{'':16}{'planned':>14}{'measured':>14}{'error':>9}")
    for name, row in table.items():
        print(
            f"{name:16}{row['planned']:14,.2f}{row['measured']:14,.2f}{row['error_percent']:8.1f}%"
        )
    wrong = sum(r["load"]["wrong"] for r in found)
    print(f"wrong or failed: {wrong:.0f}")
    write_record(args.json, {"load": before, "summary": table, "rounds": found})


if __name__ == "__main__":
    main()
