"""How long does a picture take, cold from the shell and warm, and how long until the first 64x64?

    python -m benchmarks.latency [--runs 5] [--cut 2] [--json FILE]
    python -m benchmarks.latency --against BUNDLE [--against-precision fp32]

Cold: `cascade generate` as a process of its own, server start included. Warm: the second and later
`generate()` of one `Client` whose server runs; one run of warm-up is not counted. Medians. The two
kinds alternate, so that a drifting machine hits both. With `--against` or `--against-precision` a
second bundle, or the same one in another precision, takes turns with the first on the same seeds,
and the PSNR between their pictures is given.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.lib.record import write_record
from cascade.events import Event, StageFinished
from cascade.types import ImageU8
from runtime_client import Client

PROMPT = "a red apple, noto style"


@dataclass
class Side:
    """One bundle in one precision, and what was measured of it.

    Attributes:
        bundle: its folder.
        precision: as `cascade generate --precision` takes it.
        engine: as `cascade generate --engine` takes it.
        cold: seconds from the shell, one per run.
        warm: seconds by hop and bytes, one per run.
        first: the same of the warm-up.
        images: the last picture of each warm run.
    """

    bundle: Path
    precision: str
    engine: str
    cold: list[float] = field(default_factory=list)
    warm: list[dict[str, float]] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    images: list[ImageU8] = field(default_factory=list)


def cold_seconds(side: Side, cut: int) -> float:
    """One `cascade generate` from the shell."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "cascade.commands.cli",
            "generate",
            PROMPT,
            "-o",
            f"{folder}/a.png",
        ]
        command += ["--bundle", str(side.bundle), "--cut", str(cut)]
        command += ["--precision", side.precision, "--engine", side.engine]
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - begun


def warm_run(client: Client, seed: int) -> tuple[dict[str, float], ImageU8]:
    """One warm picture: seconds by hop, until the first picture, in all; and the picture."""
    begun = time.perf_counter()
    first: list[float] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StageFinished) and event.handoff.image is not None and not first:
            first.append(time.perf_counter() - begun)

    result = client.generate(PROMPT, seed=seed, on_event=on_event)
    figures = {
        **result.seconds,
        "first picture": first[0],
        "bytes up": result.bytes_up,
        "bytes down": result.bytes_down,
    }
    return figures, result.image


def measure(sides: list[Side], cut: int, runs: int) -> None:
    """Fill in every side, taking turns."""
    clients = [
        Client(side.bundle, cut=cut, precision=side.precision, engine=side.engine) for side in sides
    ]
    try:
        for side, client in zip(sides, clients, strict=True):
            side.first, _ = warm_run(client, 0)
        for run in range(runs):
            for side, client in zip(sides, clients, strict=True):
                figures, image = warm_run(client, run + 1)
                side.warm.append(figures)
                side.images.append(image)
            for side in sides:
                side.cold.append(cold_seconds(side, cut))
    finally:
        for client in clients:
            client.close()


def psnr_db(first: ImageU8, second: ImageU8) -> float:
    """PSNR between two 8-bit pictures, decibels; 99 for equal ones."""
    mean = float(np.mean((first.astype(np.float64) - second) ** 2))
    return 10 * float(np.log10(255**2 / mean)) if mean else 99.0


def print_side(side: Side) -> None:
    """One side's figures."""
    print(f"{side.bundle}, precision {side.precision}, engine {side.engine}")
    print(f"cold, from the shell     {statistics.median(side.cold):8.3f} s")
    medians = {
        name: statistics.median(run.get(name, 0.0) for run in side.warm)
        for name in sorted(side.warm[0])
    }
    print(f"warm, in all             {medians['total']:8.3f} s")
    print(f"warm, first picture      {medians['first picture']:8.3f} s")
    for name, value in medians.items():
        if name not in ("total", "first picture") and not name.startswith("bytes"):
            print(f"    {name:20} {1000 * value:8.1f} ms")
    for word, run in (("first", side.first), ("second", side.warm[0])):
        up, down = run["bytes up"], run["bytes down"]
        print(f"bytes, {word:6} time        up {up:,.0f}  down {down:,.0f}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--against", type=Path, help="a second bundle")
    parser.add_argument("--against-precision", help="of the second side; else as the first")
    parser.add_argument("--against-engine", help="of the second side; else as the first")
    parser.add_argument("--cut", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse_arguments()
    sides = [Side(args.bundle, args.precision, args.engine)]
    if args.against or args.against_precision or args.against_engine:
        sides.append(
            Side(
                args.against or args.bundle,
                args.against_precision or args.precision,
                args.against_engine or args.engine,
            )
        )
    measure(sides, args.cut, args.runs)
    print(f"{args.runs} runs each, medians, one warm-up; cut {args.cut}")
    for side in sides:
        print_side(side)
    record: dict[str, object] = {
        "sides": [
            {
                "bundle": side.bundle.name,
                "precision": side.precision,
                "engine": side.engine,
                "cold_s": side.cold,
                "warm": side.warm,
                "first": side.first,
            }
            for side in sides
        ]
    }
    if len(sides) == 2:
        likeness = [psnr_db(a, b) for a, b in zip(sides[0].images, sides[1].images, strict=True)]
        print(f"PSNR between the two     worst {min(likeness):.1f} dB, same seeds")
        record["psnr_db"] = likeness
    write_record(args.json, record)


if __name__ == "__main__":
    main()
