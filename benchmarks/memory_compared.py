"""Does this checkout take less memory than an older commit, and is it as fast? Both in turns.

    python -m benchmarks.memory_compared [--commit ef71960] [--rounds 5] [--json FILE]

The older commit is checked out into a temporary folder, with the bundle that it had, and runs in
the interpreter of this process: `PYTHONPATH` decides whose code it is. One client at cut 2 and its
private server per measurement, float32 in ONNX Runtime, several pictures each; resident memory
after the last and peak of both, seconds of the warm pictures. The order changes every round.
Medians, and ratios of medians, with the machine's load.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib.record import write_record
from benchmarks.lib.worktree import worktree

ROOT = Path(__file__).parents[1]
FIGURES = ("client resident", "client peak", "server resident", "server peak", "warm ms")
LEAST_SAVED = 0.75
"""Ratio of resident memory and peaks that is wanted."""

RUN = """
import json, os, statistics, sys, time
from pathlib import Path
from runtime_client import Client

def memory(process):
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line[:2] == "Vm"}
    return found["VmRSS"], found["VmHWM"]

with Client(sys.argv[1], cut=2, engine="ort", precision="fp32") as client:
    taken = []
    for seed in range(int(sys.argv[2]) + 1):
        begun = time.perf_counter()
        client.generate("a red apple, noto style", seed=seed)
        taken.append(time.perf_counter() - begun)
    me = os.getpid()
    children = [int(child) for task in Path(f"/proc/{me}/task").iterdir()
                for child in (task / "children").read_text().split()]
    servers = [memory(child) for child in children]
    both = [*memory(me), *max(servers, key=lambda pair: pair[1])]
    print(json.dumps([*both, 1e3 * statistics.median(taken[1:])]), flush=True)
"""
"""Runs in a client's process of either checkout; knows nothing but the client's face."""


@dataclass(frozen=True, slots=True)
class ComparedCheckout:
    """One checkout.

    Attributes:
        name: for the table.
        folder: where its code lies.
        bundle: what it draws with.
    """

    name: str
    folder: Path
    bundle: Path

    def measure(self, pictures: int) -> list[float]:
        """The figures in the order of `FIGURES`, MiB and milliseconds."""
        command = [sys.executable, "-c", RUN, str(self.bundle), str(pictures)]
        surroundings = {**os.environ, "PYTHONPATH": str(self.folder), "CASCADE_HINTS": "off"}
        done = subprocess.run(
            command, cwd=self.folder, env=surroundings, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {done.stderr[-2000:]}")
        found: list[float] = json.loads(done.stdout.splitlines()[-1])
        return found


def in_turns(
    sides: Sequence[ComparedCheckout], rounds: int, pictures: int
) -> dict[str, list[list[float]]]:
    """Every side's figures of every round; which one is first alternates."""
    found: dict[str, list[list[float]]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 else reversed(sides):
            found[side.name].append(side.measure(pictures))
            print(
                f"{side.name:10} " + "  ".join(f"{v:8.1f}" for v in found[side.name][-1]),
                flush=True,
            )
    return found


def medians(found: Mapping[str, list[list[float]]]) -> dict[str, list[float]]:
    """The middle of every figure, by side."""
    return {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in found.items()
    }


def report(found: Mapping[str, list[float]]) -> None:
    """The medians as a table with their ratios."""
    (old, before), (new, after) = found.items()
    print(f"{'':16} {old:>10} {new:>10}  ratio")
    for name, one, other in zip(FIGURES, before, after, strict=True):
        print(f"{name:16} {one:10.1f} {other:10.1f}  {other / one:.3f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--commit", default="ef71960", help="the older one (ef71960)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements per side (5)")
    parser.add_argument("--pictures", type=int, default=4, help="warm ones of a measurement (4)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="memory-compared-") as folder,
        worktree(args.commit, Path(folder) / "checkout") as there,
    ):
        bundle = Path("bundles/emoji-1")
        sides = [
            ComparedCheckout(args.commit, there, there / bundle),
            ComparedCheckout("here", ROOT, ROOT / bundle),
        ]
        found = in_turns(sides, args.rounds, args.pictures)
    report(medians(found))
    print(f"load average {os.getloadavg()[0]:.1f}")
    write_record(args.json, {"figures": FIGURES, "rounds": found})


if __name__ == "__main__":
    main()
