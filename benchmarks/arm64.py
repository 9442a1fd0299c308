"""Are the pictures of an arm64 processor those of an x86 one? Compared under qemu's emulation.

    python -m benchmarks.arm64 prepare FOLDER      # Debian's arm64 files and PyPI's arm64 wheels
    python -m benchmarks.arm64 compare FOLDER [--json FILE]

`prepare` needs root, debootstrap, qemu-user-static and a network; nothing of the folder is
installed. `compare` draws the same pictures twice: here, and with an arm64 interpreter that qemu
runs. Of a diffusion cascade the text encoder and the base stage, of a pixel cascade all
stages, and the vectors of docs/reference/numerics.md. Nothing is timed for its own sake: emulated
runs take some hundred times as long.
"""

import argparse
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.record import write_record

ROOT = Path(__file__).parents[1]
SUITE, PYTHON = "bookworm", "python3.11"
ONNXRUNTIME = "1.27.0"
"""The newest whose arm64 wheel starts under qemu 7.2; 1.30.0 and 1.31.1 do not."""
WHEELS = (
    f"onnxruntime=={ONNXRUNTIME}", "numpy", "pillow", "tokenizers", "grpcio", "grpcio-status",
    "protobuf",
)  # fmt: skip
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
PICTURES = (("bundles/emoji-1", "base"), ("bundles/emoji-pixels-1", "px64"))
PROMPT, SEED = "a red apple, noto style", 7


def prepare(folder: Path) -> None:
    """Fetch an arm64 Python with its wheels into a folder."""
    root, wheels, site = folder / "root", folder / "wheels", folder / "site"
    include = f"--include={PYTHON}"
    command = ["debootstrap", "--arch=arm64", "--foreign", "--variant=minbase", include, SUITE]
    subprocess.run([*command, str(root)], check=True)
    # Unpacked here instead of installed there: no emulated script runs as root.
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
    download = [sys.executable, "-m", "pip", "download", "--dest", str(wheels), *platforms]
    subprocess.run([*download, "--python-version=3.11", "--only-binary=:all:", *WHEELS], check=True)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def draw(out: Path) -> None:
    """Write every stage's picture and the numeric vectors, on whatever processor this is."""
    # Here, for the interpreter that compares need not import what the emulated one draws with.
    from cascade.bundle.bundle import open_bundle  # noqa: PLC0415
    from cascade.events import StageFinished  # noqa: PLC0415
    from cascade.generate import generate  # noqa: PLC0415
    from cascade.request import GenerateRequest  # noqa: PLC0415
    from cascade.stage_factory import open_stages  # noqa: PLC0415
    from cascade.tuning.plan import EnginePlan  # noqa: PLC0415
    from tests.numeric_vectors import vectors  # noqa: PLC0415

    found: dict[str, Any] = {"vectors": np.array(json.dumps(vectors()))}
    for folder, last in PICTURES:
        bundle = open_bundle(ROOT / folder)
        stages = open_stages(
            bundle, range(bundle.manifest.position(last) + 1), EnginePlan(threads=1)
        )
        for event in generate(stages, GenerateRequest(prompt=PROMPT, seed=SEED)):
            if isinstance(event, StageFinished):
                made = event.handoff.image
                name = f"{Path(folder).name} {event.stage}"
                found[name] = event.handoff.context if made is None else made
                print(name, flush=True)
    np.savez(out, **found)


def compare(folder: Path) -> dict[str, Any]:
    """Both processors' results side by side, as figures by name."""
    here, there = folder / "x86.npz", folder / "arm64.npz"
    drawing = ["-m", "benchmarks.arm64", "draw"]
    run_in(os.environ, [sys.executable, *drawing, str(here)])
    root = folder / "root"
    emulated = ["qemu-aarch64-static", "-L", str(root), str(root / "usr/bin" / PYTHON)]
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{ROOT}"}
    run_in(environment, [*emulated, *drawing, str(there)])
    with np.load(here) as ours, np.load(there) as theirs:
        return {name: difference(ours[name], theirs[name]) for name in ours.files}


def run_in(environment: Mapping[str, str], command: Sequence[str]) -> None:
    """One interpreter in the checkout."""
    subprocess.run(command, env=dict(environment), cwd=ROOT, check=True)


def difference(ours: Any, theirs: Any) -> dict[str, float]:
    """How many values differ, of how many, and by how much at most; of text, whether it does."""
    if ours.dtype.kind == "U":
        return {"values": 1, "differing": int(ours != theirs), "largest": 0.0}
    apart = np.abs(ours.astype(np.float64) - theirs)
    return {
        "values": int(ours.size),
        "differing": int(np.count_nonzero(apart)),
        "largest": float(apart.max()),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("prepare", "compare", "draw"))
    parser.add_argument("folder", type=Path, help="folder to prepare; of `draw` the file to write")
    parser.add_argument("--json", type=Path, help="where the figures go")
    args = parser.parse_args()
    if args.action == "prepare":
        prepare(args.folder)
    elif args.action == "draw":
        draw(args.folder)
    else:
        found = compare(args.folder.absolute())
        print("| result | values | differing | largest difference |\n|---|---|---|---|")
        for name, row in found.items():
            print(f"| {name} | {row['values']:,} | {row['differing']:,} | {row['largest']:g} |")
        write_record(args.json, {"differences": found})


if __name__ == "__main__":
    main()
