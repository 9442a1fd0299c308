"""What do replicas in a Ray cluster cost and bring, against engines in the server's process?

    python -m benchmarks.ray_executor [--bundle DIR] [--requests 40] [--pictures 12] [--json FILE]

Needs the extra `ray`. Servers with one engine thread each, in processes of their own. First one
with its engines in itself beside one with one replica, a request to each in turns: what a hop adds,
for a first component (a few kB) and for the last picture. Then pictures per second of one replica
and of two, from eight callers at once, each beside the server without replicas in the same minutes.
Last, five times the capacity of two replicas for some seconds: pictures delivered per second, over
the capacity. Every picture is compared with the first of its seed.
"""

import argparse
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.server_process import victim
from tests.support.serving import PROMPT, Caller, connect, request_message

CALLERS = 8
OVERLOAD = 5
SEEDS = 4
"""So many different pictures; each is right when it equals the first of its seed."""


class Served:
    """One server and its caller."""

    def __init__(self, bundle: Bundle, caller: Caller) -> None:
        self._bundle, self._caller = bundle, caller

    def picture(self, seed: int, last: str, timeout_s: float = 600) -> tuple[float, bytes]:
        """Seconds of one request, and its last picture."""
        words = pb.PromptStart(prompt=PROMPT)
        message = request_message(self._bundle, prompt=words, seed=seed, last_stage=last)
        begun, data = time.perf_counter(), b""
        for response in self._caller.generate(message, timeout_s=timeout_s):
            if response.WhichOneof("event") == "stage_result":
                data = response.stage_result.image.data or data
        return time.perf_counter() - begun, data


@contextmanager
def served(bundle: Bundle, replicas: int) -> Iterator[Served]:
    """A server with so many replicas, none for its own engines; its batching is off."""
    options = ["--threads", "1", "--max-batch-rows", "1"]
    if replicas:
        options += ["--executor", "ray", "--replicas", str(replicas)]
    with victim(bundle, *options) as server, connect(server.address) as caller:
        yield Served(bundle, caller)


def hop(own: Served, other: Served, last: str, requests: int) -> dict[str, float]:
    """Milliseconds of a request to each, in turns; the first three are not counted."""
    taken = [
        (own.picture(number, last)[0], other.picture(number, last)[0])
        for number in range(requests + 3)
    ][3:]
    local, remote = 1000 * np.median(np.array(taken), axis=0)
    return {
        "local_ms": float(local),
        "replica_ms": float(remote),
        "added_ms": float(remote - local),
    }


def throughput(
    server: Served, last: str, pictures: int, check: Callable[[int, bytes], None]
) -> float:
    """Pictures per second from several callers at once."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as pool:
        made = pool.map(lambda number: server.picture(number % SEEDS, last)[1], range(pictures))
        for number, data in enumerate(made):
            check(number % SEEDS, data)
    return pictures / (time.perf_counter() - begun)


def overload(
    server: Served, last: str, rate: float, seconds: float, check: Callable[[int, bytes], None]
) -> dict[str, float]:
    """Requests at a fixed rate; pictures delivered per second until the last of them came."""
    delivered, refused, failed = [0.0], itertools.count(), itertools.count()
    lock = threading.Lock()

    def one(seed: int) -> None:
        try:
            data = server.picture(seed, last)[1]
        except grpc.RpcError as exc:
            next(refused if exc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED else failed)
            return
        check(seed, data)
        with lock:
            delivered.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    with ThreadPoolExecutor(256) as pool:
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            pool.submit(one, number % SEEDS)
    return {
        "sent_per_s": rate,
        "delivered_per_s": (len(delivered) - 1) / max(delivered),
        "refused": next(refused),
        "failed": next(failed),
    }


def measure(bundle: Bundle, requests: int, pictures: int, seconds: float) -> dict[str, Any]:
    """Everything."""
    names = [component.name for component in bundle.manifest.components]
    right: dict[int, bytes] = {}
    wrong = itertools.count()

    def check(seed: int, data: bytes) -> None:
        if right.setdefault(seed, data) != data:
            next(wrong)

    figures: dict[str, Any] = {"hop": {}, "pictures_per_s": {}, "load": os.getloadavg()[0]}
    with served(bundle, 0) as own:
        for replicas in (1, 2):
            with served(bundle, replicas) as other:
                if replicas == 1:
                    for last, count in ((names[0], requests), (names[-1], max(5, requests // 4))):
                        figures["hop"][last] = hop(own, other, last, count)
                turns = (own, other, own, other)
                rates = [throughput(server, names[-1], pictures, check) for server in turns]
                figures["pictures_per_s"][str(replicas)] = {
                    "local": (rates[0] + rates[2]) / 2,
                    "replicas": (rates[1] + rates[3]) / 2,
                }
                if replicas == 2:
                    capacity = max(rates[1], rates[3])
                    rate = OVERLOAD * capacity
                    figures["overload"] = overload(other, names[-1], rate, seconds, check)
                    figures["overload"]["capacity_per_s"] = capacity
    figures["wrong_pictures"] = next(wrong)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures = measure(open_bundle(args.bundle), args.requests, args.pictures, args.seconds)
    print(f"load {figures['load']:.1f}; medians")
    for stage, row in figures["hop"].items():
        print(
            f"to {stage:<14} local {row['local_ms']:8.2f} ms  replica {row['replica_ms']:8.2f} ms"
            f"  added {row['added_ms']:6.2f} ms"
        )
    for replicas, rates in figures["pictures_per_s"].items():
        ratio = rates["replicas"] / rates["local"]
        print(
            f"{replicas} replicas {rates['replicas']:.2f} pictures/s, local {rates['local']:.2f}: "
            f"x{ratio:.2f}"
        )
    over = figures["overload"]
    share = over["delivered_per_s"] / over["capacity_per_s"]
    print(
        f"sent {over['sent_per_s']:.1f}/s, delivered {over['delivered_per_s']:.2f}/s of "
        f"{over['capacity_per_s']:.2f}/s: {share:.0%}, refused {over['refused']}, "
        f"failed {over['failed']}"
    )
    print(f"wrong pictures: {figures['wrong_pictures']}")
    write_record(args.json, figures)


if __name__ == "__main__":
    main()
