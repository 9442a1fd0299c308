"""What does a server do with a hundred thousand messages that are almost right?

    python -m benchmarks.mutations [--messages 100000] [--json FILE]

Real requests with bytes changed, seeded, over raw gRPC on several connections at once. Counted:
answers by code, the slowest answer, crashes, answers that took over a second three times in a row,
answers that tell of the inside. The first of the last three ends the run.
"""

import argparse
import tempfile
import threading
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle
from tests.support.asking import answer, asking, differs
from tests.support.leaks import Probe
from tests.support.mutants import mutants
from tests.support.server_process import Victim, victim
from tests.support.serving import connect, pixels, results_of
from tests.support.tiny_bundle import write_tiny_bundle

WARM_UP = 1000


def send(server: Victim, messages: int, seed: int, found: list[Probe], failed: list[str]) -> None:
    """One connection's share."""
    with connect(server.address) as caller:
        probe = Probe(caller)
        found.append(probe)
        for number, (method, body) in enumerate(islice(mutants(server.bundle, seed), messages)):
            try:
                probe.send(method, body)
            except AssertionError as error:
                failed.append(f"seed {seed}, message {number}: {error}")
                return
            if failed:
                return


def bombard(server: Victim, messages: int, connections: int, seed: int) -> tuple[list[Probe], Any]:
    """All shares at once; the judges, and what failed."""
    found: list[Probe] = []
    failed: list[str] = []
    shares = [messages // connections] * connections
    shares[0] += messages % connections
    threads = [
        threading.Thread(target=send, args=(server, share, seed + number, found, failed))
        for number, share in enumerate(shares)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, failed


def measure(bundle: Bundle, messages: int, connections: int, seed: int) -> dict[str, Any]:
    """Figures of one run."""
    with victim(bundle) as server:
        bombard(server, min(WARM_UP, messages), connections, seed + 1000)
        server.wait_until_idle()
        memory = server.rss_mib
        begun = time.monotonic()
        probes, failed = bombard(server, messages, connections, seed)
        took_s = time.monotonic() - begun
        crashed = server.process.poll() is not None
        picture = None
        if not crashed:
            server.wait_until_idle()
            with connect(server.address) as caller:
                picture = pixels(results_of(caller.generate(asking(bundle)))["sr32"].image)
        codes: Counter[str] = Counter()
        for probe in probes:
            codes.update(probe.codes)
        return {
            "messages": sum(codes.values()),
            "codes": dict(codes.most_common()),
            "slowest_ms": 1000 * max(probe.slowest_s for probe in probes),
            "failed": failed,
            "crashed": crashed,
            "picture_after": picture is not None and not differs(picture, answer(bundle)),
            "rss_mib": [memory, 0.0 if crashed else server.rss_mib],
            "internal_errors": len(server.log("internal_error")),
            "seconds": took_s,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle")
        figures = measure(bundle, args.messages, args.connections, args.seed)
    for code, count in figures["codes"].items():
        print(f"{code:24} {count:8}")
    print(f"{figures['messages']} messages in {figures['seconds']:.0f} s")
    print(f"slowest answer           {figures['slowest_ms']:8.1f} ms")
    print(f"crashed                  {figures['crashed']}")
    print(f"hung, or told too much   {figures['failed'] or 'none'}")
    print(f"internal errors logged   {figures['internal_errors']}")
    print(f"a good picture after it  {figures['picture_after']}")
    print("resident memory          {:8.1f} -> {:.1f} MiB".format(*figures["rss_mib"]))
    write_record(args.json, figures)


if __name__ == "__main__":
    main()
