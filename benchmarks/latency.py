"""How long does a picture take, cold from the shell and warm, and how long until the first 64x64?

    python -m benchmarks.latency [--runs 5] [--cut 2] [--json FILE]

Cold: `cascade generate` as a process of its own, server start included. Warm: the second and later
`generate()` of one `Client` whose server runs; one run of warm-up is not counted. Medians. The two
kinds alternate, so that a drifting machine hits both.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import write_record
from cascade.events import Event, StageFinished
from runtime_client import Client

PROMPT = "a red apple, noto style"


def cold_seconds(bundle: Path, cut: int) -> float:
    """One `cascade generate` from the shell."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cascade.cli", "generate", PROMPT, "-o", f"{folder}/a.png"]
        begun = time.perf_counter()
        subprocess.run(
            [*command, "--bundle", str(bundle), "--cut", str(cut)], check=True, capture_output=True
        )
        return time.perf_counter() - begun


def warm_run(client: Client, seed: int) -> dict[str, float]:
    """One warm picture: seconds by hop, until the first picture, in all."""
    begun = time.perf_counter()
    first: list[float] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StageFinished) and event.handoff.image is not None and not first:
            first.append(time.perf_counter() - begun)

    result = client.generate(PROMPT, seed=seed, on_event=on_event)
    return {
        **result.seconds,
        "first picture": first[0],
        "bytes up": result.bytes_up,
        "bytes down": result.bytes_down,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--cut", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cold: list[float] = []
    warm: list[dict[str, float]] = []
    with Client(args.bundle, cut=args.cut) as client:
        first = warm_run(client, 0)
        for run in range(args.runs):
            warm.append(warm_run(client, run + 1))
            cold.append(cold_seconds(args.bundle, args.cut))
    print(f"{args.runs} runs each, medians, one warm-up; cut {args.cut}")
    print(f"cold, from the shell     {statistics.median(cold):8.3f} s")
    medians = {
        name: statistics.median(run.get(name, 0.0) for run in warm) for name in sorted(warm[0])
    }
    print(f"warm, in all             {medians['total']:8.3f} s")
    print(f"warm, first picture      {medians['first picture']:8.3f} s")
    for name, value in medians.items():
        if name not in ("total", "first picture") and not name.startswith("bytes"):
            print(f"    {name:20} {1000 * value:8.1f} ms")
    for word, run in (("first", first), ("second", warm[0])):
        up, down = run["bytes up"], run["bytes down"]
        print(f"bytes, {word:6} time        up {up:,.0f}  down {down:,.0f}")
    write_record(args.json, {"cold_s": cold, "warm": warm, "first": first})


if __name__ == "__main__":
    main()
