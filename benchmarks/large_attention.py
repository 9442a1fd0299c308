"""Is an upscaler that attends to 16,384 tokens exported, and in how much memory?

    python -m benchmarks.large_attention [--size 256] [--json FILE]

Stages I and II of DeepFloyd IF in miniature, of the true classes of diffusers: 8 pixels, then
`--size`, whose network attends to its own tokens at half that side. The folders go through
`cascade export --from diffusers-if` in a process of its own; printed are its seconds, its peak of
memory beyond what it held once everything was imported, and its estimate. Then the upscaler's
picture, two steps, next to diffusers' own on the same noise, in decibels. Minutes, one thread.
Needs the extras cpu, train, export and foreign.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib.record import write_record

SMALL = 8
"""Pixels of the base."""
PROMPT = "a red apple on a green chair"
WANTED_GB, WANTED_DB = 3.0, 60.0


def write_folders(root: Path, size: int) -> tuple[Any, Any]:
    """Both pipelines, saved to `I` and `II`."""
    from tests.support import tiny_if  # noqa: PLC0415  loads diffusers

    base = tiny_if.base_pipeline(root / "words", SMALL)
    upscaler = tiny_if.upscaler_pipeline(size, tokens_of=size // 2)
    for name, pipeline in (("I", base), ("II", upscaler)):
        pipeline.save_pretrained(root / name)
        pipeline.set_progress_bar_config(disable=True)
    return base, upscaler


def status_bytes(line: str) -> int:
    """A figure of this process: `VmRSS`, resident now, or `VmHWM`, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(entry.split()[1]) << 10 for entry in lines if entry.startswith(line))


def export_alone(root: Path) -> None:
    """The command in this process; prints its peak."""
    import diffusers  # noqa: F401, PLC0415  what is imported is no memory of the export

    from cascade.commands.cli import main as cascade  # noqa: PLC0415

    torch.set_num_threads(1)
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew
    begun = time.perf_counter()
    folders = [str(root / "I"), "--upscaler", str(root / "II")]
    code = cascade(["export", "--from", "diffusers-if", *folders, "--out", str(root / "bundle")])
    peak = status_bytes("VmHWM") - before
    print(f"PEAK {code} {time.perf_counter() - begun:.1f} {peak}", flush=True)


def exported(root: Path) -> dict[str, float]:
    """Seconds and peak of the command in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.large_attention", "--export", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last = ""
        for last in process.stdout:
            print("  " + last.rstrip(), flush=True)
    word, code, seconds, peak = last.split()
    if (word, code) != ("PEAK", "0"):
        raise SystemExit("the export did not end well")
    return {"export_s": float(seconds), "peak_gb": int(peak) / 1e9}


def compared(root: Path, base: Any, upscaler: Any, size: int) -> float:
    """Decibels between the bundle's upscaler and diffusers' own, on the same noise."""
    import pytest  # noqa: PLC0415

    from cascade.bundle.bundle import open_bundle  # noqa: PLC0415
    from cascade.diffusion.request_options import DiffusionOptions  # noqa: PLC0415
    from cascade.request import GenerateRequest  # noqa: PLC0415
    from cascade.stage_factory import open_stages  # noqa: PLC0415
    from cascade.tuning.plan import EnginePlan  # noqa: PLC0415
    from export.parity import pictures  # noqa: PLC0415
    from stages.evaluation.metrics import psnr_db  # noqa: PLC0415
    from tests.support.foreign_pipelines import reference  # noqa: PLC0415

    name = f"sr{size}"
    options = {stage: DiffusionOptions(steps=2) for stage in ("base", name)}
    request = GenerateRequest(prompt=PROMPT, seed=11, options=options)
    bundle = open_bundle(root / "bundle")
    found = pictures(open_stages(bundle, range(3), EnginePlan(threads=1)), request)
    patch = pytest.MonkeyPatch()
    with torch.no_grad():
        wanted = reference((base, upscaler), request, patch)
    return psnr_db(found[name], wanted[name])


def main() -> int:
    """Export, compare, print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="of the upscaler's picture")
    parser.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.export is not None:
        export_alone(args.export)
        return 0
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        base, upscaler = write_folders(root, args.size)
        tokens = (args.size // 2) ** 2
        print(f"self-attention over {tokens} tokens", flush=True)
        figures = exported(root)
        figures["psnr_db"] = compared(root, base, upscaler, args.size)
    print(
        f"export {figures['export_s']:.0f} s, peak {figures['peak_gb']:.2f} GB (wanted "
        f"{WANTED_GB}), picture {figures['psnr_db']:.1f} dB from diffusers (wanted {WANTED_DB})"
    )
    write_record(args.json, {"tokens": tokens, **figures})
    return int(figures["peak_gb"] > WANTED_GB or figures["psnr_db"] < WANTED_DB)


if __name__ == "__main__":
    raise SystemExit(main())
