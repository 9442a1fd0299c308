"""How many pictures of one run should be in progress at once, and should their rows share runs?

    python -m benchmarks.many_pictures [--rounds 3] [--pictures 8] [--cut 2] [--json FILE]

`Client.run_many` with 1, 2, 4 and 8 requests in progress, against two server processes: in one
every row runs by itself, in the other rows share runs up to that number. Milliseconds per picture,
of the clock and of the processor in client and server together, which a busy machine changes
little: medians of rounds that interleave all cases; the order turns.
"""

import argparse
import os
import statistics
import time
from collections import defaultdict
from contextlib import ExitStack, suppress
from pathlib import Path

from benchmarks.lib.record import write_record
from benchmarks.served_waits import TIMEOUT_S, WaitsTrial, served
from cascade.errors import CascadeError
from cascade.request import GenerateRequest
from runtime_client import Client

AT_ONCE = (1, 2, 4, 8)
Case = tuple[int, str]
"""Requests in progress, and what the server does with rows."""
ALONE, SHARED = "one by one", "shared"


def children() -> list[str]:
    """Process ids of the children of this process, whichever thread began them."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        # A thread may end while its entry is read.
        with suppress(FileNotFoundError):
            found += (task / "children").read_text().split()
    return found


def processor_s() -> float:
    """Seconds of processor time of this process and its children so far."""
    tick = os.sysconf("SC_CLK_TCK")
    fields = [
        Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in children()
    ]
    return time.process_time() + sum(int(f[11]) + int(f[12]) for f in fields) / tick


def ms_per_picture(
    client: Client, at_once: int, pictures: int, last: str | None
) -> tuple[float, float]:
    """One run of many pictures: milliseconds of the clock, and of the processor.

    Raises:
        CascadeError: what one of them failed with.
    """
    asked = [
        GenerateRequest(prompt="a red apple, noto style", seed=seed, last_stage=last)
        for seed in range(pictures)
    ]
    begun, used = time.perf_counter(), processor_s()
    for _, end in client.run_many(asked, parallel=at_once):
        if isinstance(end, CascadeError):
            raise end
    took, used = time.perf_counter() - begun, processor_s() - used
    return 1e3 * took / pictures, 1e3 * used / pictures


def measure(args: argparse.Namespace) -> dict[Case, list[tuple[float, float]]]:
    """Every case once per round."""
    found: dict[Case, list[tuple[float, float]]] = defaultdict(list)
    trial = WaitsTrial(
        bundle=args.bundle, loads=(), requests=0, rows=max(AT_ONCE), threads=0, last_stage=""
    )
    with ExitStack() as stack:
        clients = {}
        for name, rows in ((ALONE, 1), (SHARED, max(AT_ONCE))):
            address = stack.enter_context(served(trial, rows))
            client = Client(args.bundle, server=address, cut=args.cut, timeout_s=TIMEOUT_S)
            clients[name] = stack.enter_context(client)
            ms_per_picture(clients[name], 1, 1, args.last_stage)
        cases = [(1, ALONE), *((n, name) for n in AT_ONCE[1:] for name in clients)]
        for number in range(args.rounds):
            for case in cases[number:] + cases[:number]:
                at_once, name = case
                taken = ms_per_picture(clients[name], at_once, args.pictures, args.last_stage)
                found[case].append(taken)
                print(f"{at_once} {name}: {taken[0]:.0f} ms, processor {taken[1]:.0f}", flush=True)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--rounds", type=int, default=3, help="of every case (3)")
    parser.add_argument("--pictures", type=int, default=8, help="of one run (8)")
    parser.add_argument("--cut", type=int, default=2, help="components on the client's side (2)")
    parser.add_argument("--last-stage", help="where the pictures end (the cascade's end)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    found = measure(args)
    middles = {
        case: [statistics.median(values) for values in zip(*taken, strict=True)]
        for case, taken in found.items()
    }
    alone = middles[1, ALONE]
    print("\nin progress  rows        ms per picture  ratio  processor ms  ratio")
    for (at_once, name), (clock, used) in middles.items():
        print(
            f"{at_once:11}  {name:10}  {clock:14.1f}  {clock / alone[0]:5.2f}"
            f"  {used:12.1f}  {used / alone[1]:5.2f}"
        )
    print(f"load average {os.getloadavg()[0]:.1f}")
    rows = [{"at_once": n, "rows": name, "ms": taken} for (n, name), taken in found.items()]
    write_record(args.json, {"cut": args.cut, "pictures": args.pictures, "cases": rows})


if __name__ == "__main__":
    main()
