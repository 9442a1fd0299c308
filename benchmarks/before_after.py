"""Is this checkout slower or larger than an older one? Both in turns, on the same networks.

    python -m benchmarks.before_after FOLDER --python PYTHON [--old-bundle DIR] [--rounds 13]

FOLDER is the older checkout, PYTHON the interpreter of its environment. Warm: `generate()` of one
`Client`, the first of which is warm-up and not counted. Cold: `cascade generate` from the shell.
Ready: `cascade serve` until its `listening` line. Float32 in ONNX Runtime; medians and ratios; the
order changes every round, so that a drifting machine hits both.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib.record import write_record

PROMPT = "a red apple, noto style"
EXACT = ("--engine", "ort", "--precision", "fp32")
WARM = f"""
import json, os, resource, sys, time
from pathlib import Path
from runtime_client import Client
with Client(sys.argv[1], cut=2, engine="ort", precision="fp32") as client:
    for line in sys.stdin:
        begun = time.perf_counter()
        client.generate({PROMPT!r}, seed=7)
        print(time.perf_counter() - begun, flush=True)
    me = os.getpid()
    children = Path(f"/proc/{{me}}/task/{{me}}/children").read_text().split()
    peaks = [int(line.split()[1]) for child in children
             for line in Path(f"/proc/{{child}}/status").read_text().splitlines()
             if line.startswith("VmHWM")]
    client_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([client_kib / 1024, max(peaks) / 1024]), flush=True)
"""
"""Runs in the client's process of either checkout; knows nothing but the client's face."""

CASCADE = """
import sys
from importlib.metadata import entry_points
(script,) = entry_points(group="console_scripts", name="cascade")
sys.exit(script.load()())
"""
"""The command of either checkout, wherever its module lies."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """One checkout."""

    name: str
    folder: Path
    python: str
    bundle: Path

    def shell(self, *arguments: str) -> list[str]:
        """`cascade` of this checkout, as a command."""
        return [self.python, "-c", CASCADE, *arguments]


def in_turns(
    sides: Sequence[Checkout], rounds: int, once: Callable[[Checkout], float]
) -> list[list[float]]:
    """Seconds of each side, the order of the sides changing every round."""
    found: list[list[float]] = [[] for _ in sides]
    for number in range(rounds):
        order = range(len(sides)) if number % 2 else reversed(range(len(sides)))
        for at in order:
            found[at].append(once(sides[at]))
    return found


def warm(sides: Sequence[Checkout], rounds: int) -> tuple[list[list[float]], list[list[float]]]:
    """Seconds of pictures, and peak MiB of client and private server, by side."""
    running = {
        side.name: subprocess.Popen(
            [side.python, "-c", WARM, str(side.bundle)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=side.folder,
        )
        for side in sides
    }

    def once(side: Checkout) -> float:
        child = running[side.name]
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        return float(child.stdout.readline())

    seconds = in_turns(sides, rounds + 1, once)
    peaks = []
    for side in sides:
        rest, _ = running[side.name].communicate()
        peaks.append(json.loads(rest))
    return [taken[1:] for taken in seconds], peaks


def cold(side: Checkout) -> float:
    """One `cascade generate` as a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = ("-o", f"{folder}/a.png", "--bundle", str(side.bundle))
        begun = time.perf_counter()
        command = side.shell("generate", PROMPT, *out, *EXACT)
        subprocess.run(command, check=True, capture_output=True, cwd=side.folder)
        return time.perf_counter() - begun


def ready(side: Checkout) -> float:
    """One start of a server."""
    command = side.shell("serve", "--listen", "127.0.0.1:0", "--bundle", str(side.bundle), *EXACT)
    begun = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=side.folder) as child:
        assert child.stderr is not None
        lines = iter(child.stderr.readline, "")
        if not any('"listening"' in line for line in lines):
            raise SystemExit(f"{side.name}: the server did not start")
        taken = time.perf_counter() - begun
        child.send_signal(signal.SIGTERM)
        child.communicate()
    return taken


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the older checkout")
    parser.add_argument("--python", default=sys.executable, help="of the older environment")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--old-bundle", type=Path, help="the same networks in the older format")
    parser.add_argument("--rounds", type=int, default=13, help="warm pictures; half as many starts")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    new = args.bundle.resolve()
    old = (args.old_bundle or args.bundle).resolve()
    sides = (
        Checkout("before", args.folder.resolve(), args.python, old),
        Checkout("now", Path.cwd(), sys.executable, new),
    )
    seconds, peaks = warm(sides, args.rounds)
    starts = args.rounds // 2 + 1
    figures = {
        "warm_s": [statistics.median(taken) for taken in seconds],
        "cold_s": [statistics.median(taken) for taken in in_turns(sides, starts, cold)],
        "ready_s": [statistics.median(taken) for taken in in_turns(sides, starts, ready)],
        "client_mib": [peak[0] for peak in peaks],
        "server_mib": [peak[1] for peak in peaks],
    }
    print(f"{'':12}{'before':>10}{'now':>10}{'ratio':>8}")
    for name, (before, now) in figures.items():
        print(f"{name:12}{before:10.3f}{now:10.3f}{now / before:8.3f}")
    write_record(args.json, figures)


if __name__ == "__main__":
    main()
