"""Does a server's memory grow with the requests it has served, refused, cancelled and let expire?

    python -m benchmarks.memory_growth [--requests 10000] [--json FILE] [--plot FILE]

Good, cancelled, expired and malformed requests from two clients in equal parts, and every
hundredth connection torn. Resident memory is read every hundredth request; the slope is that of
the least-squares line after the warm-up, during which the stores of results and contexts fill.
"""

import argparse
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle
from tests.support.asking import answer, asking, differs
from tests.support.mixture import one_of_a_mix, torn
from tests.support.server_process import Victim, victim
from tests.support.serving import connect, pixels, results_of
from tests.support.tiny_bundle import write_tiny_bundle

CLIENTS = 2
EVERY = 100
"""Requests between two readings."""
STORES = ("--result-store-bytes", "1000000", "--context-store-bytes", "1000000")
"""Small, so that they are full before the measurement begins."""


class Tally:
    """What two clients have done so far, and the readings at round numbers."""

    def __init__(self, server: Victim, requests: int, seconds: float) -> None:
        self._server = server
        self._requests = requests
        self._until = time.monotonic() + seconds if seconds else float("inf")
        self._lock = threading.Lock()
        self.done = 0
        self.kinds: dict[str, int] = {}
        self.readings: list[tuple[int, float, int, int]] = []
        self.wrong = 0

    @property
    def is_over(self) -> bool:
        """Whether enough was done."""
        return self.done >= self._requests or time.monotonic() > self._until

    def note(self, kind: str) -> int:
        """Count one request; its number."""
        with self._lock:
            self.done += 1
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            if self.done % EVERY == 0:
                server = self._server
                reading = (self.done, server.rss_mib, server.open_files, server.threads)
                self.readings.append(reading)
            return self.done


def press(server: Victim, tally: Tally, seed: int) -> None:
    """One client."""
    chance = random.Random(seed)
    with connect(server.address) as caller:
        while not tally.is_over:
            number = tally.note(one_of_a_mix(server, caller, chance))
            if number % EVERY == 0:
                torn(server, caller)
                results = results_of(caller.generate(asking(server.bundle)))
                tally.wrong += differs(pixels(results["sr32"].image), answer(server.bundle))


def slope_mib(readings: list[tuple[int, float, int, int]], warm_up: int) -> float:
    """MiB per 1,000 requests after the warm-up."""
    later = [(number, rss) for number, rss, _, _ in readings if number > warm_up]
    if len(later) < 2:
        return float("nan")
    numbers, memory = np.array(later).T
    return 1000 * float(np.polyfit(numbers, memory, 1)[0])


def measure(bundle: Bundle, requests: int, seconds: float, seed: int) -> dict[str, Any]:
    """Figures of one run."""
    with victim(bundle, *STORES) as server:
        tally = Tally(server, requests, seconds)
        threads = [
            threading.Thread(target=press, args=(server, tally, seed + number))
            for number in range(CLIENTS)
        ]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - begun
        server.wait_until_idle()
        crashed = server.process.poll() is not None
    warm_up = tally.done // 5
    return {
        "requests": tally.done,
        "kinds": tally.kinds,
        "seconds": took_s,
        "warm_up": warm_up,
        "slope_mib_per_1000": slope_mib(tally.readings, warm_up),
        "readings": tally.readings,
        "wrong_pictures": tally.wrong,
        "crashed": crashed,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=0, help="stop earlier; 0: do not")
    parser.add_argument("--seed", type=int, default=25)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a PNG of memory over requests")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle")
        figures = measure(bundle, args.requests, 60 * args.minutes, args.seed)
    print(f"{figures['requests']} requests in {figures['seconds']:.0f} s: {figures['kinds']}")
    for number, rss, files, threads in figures["readings"][
        :: max(1, len(figures["readings"]) // 10)
    ]:
        print(f"{number:8}  {rss:8.1f} MiB  {files:4} descriptors  {threads:4} threads")
    print(
        f"slope after {figures['warm_up']} requests: "
        f"{figures['slope_mib_per_1000']:.3f} MiB per 1,000 requests; "
        f"wrong pictures {figures['wrong_pictures']}; crashed {figures['crashed']}"
    )
    if args.plot is not None:
        from benchmarks.lib.plots import plot_memory  # noqa: PLC0415 - matplotlib is an extra

        plot_memory(figures["readings"], figures["warm_up"], args.plot)
    write_record(args.json, figures)


if __name__ == "__main__":
    main()
