"""How far do pictures drift from float32 in each precision, stage by stage and in a row?

    python -m benchmarks.precision_pictures [--options auto bf16 int8 base=bf16] [--json FILE]

Prompts spread over `sheet_prompts.txt`, a seed each, the same noise for everybody. The reference is
float32 in ONNX Runtime. Two PSNRs per stage, worst and mean of the prompts: of its own picture when
every stage starts from what the reference drew before it (`alone`), and when the whole cascade runs
in the option's precisions (`in a row`), as a user gets it. An option is what `--precision` takes;
with `--engine` auto each component runs as `cascade generate` would run it here.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency import psnr_db
from benchmarks.lib.local_cascade import LocalCascade, open_cascade
from benchmarks.lib.prompt_lists import read_sheet_prompts, spread
from benchmarks.lib.record import write_record
from cascade.assignments import AUTO
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.family import diffusion_specs
from cascade.tuning.options import parse_engine_options
from cascade.types import ImageU8

PROMPTS = 16
REFERENCE = ("ort", "fp32")
OPTIONS = (AUTO, "int8", "bf16")
Say = Callable[[str], None]


@dataclass
class Drift:
    """One option against the reference.

    Attributes:
        engine_options: as `--precision` takes it.
        run: how each component is run.
        alone: by stage, a PSNR in decibels per prompt, from the reference's smaller picture.
        in_a_row: by stage, ditto, from its own.
    """

    engine_options: str
    run: Mapping[str, str]
    alone: dict[str, list[float]] = field(default_factory=dict)
    in_a_row: dict[str, list[float]] = field(default_factory=dict)


def reference_pictures(bundle: Bundle, prompts: Sequence[str], threads: int) -> list[list[ImageU8]]:
    """What float32 paints: every stage of every prompt."""
    cascade, _ = open_cascade(bundle, parse_engine_options(*REFERENCE, threads))
    drawn = [cascade.pictures(prompt, seed=seed) for seed, prompt in enumerate(prompts)]
    cascade.close()
    return drawn


def fill_in(
    drift: Drift, cascade: LocalCascade, prompts: Sequence[str], truth: Sequence[list[ImageU8]]
) -> None:
    """Draw everything again in an option's precisions and compare."""
    for seed, (prompt, true) in enumerate(zip(prompts, truth, strict=True)):
        own = cascade.pictures(prompt, seed=seed)
        for number, spec in enumerate(cascade.specs):
            alone = own[number]
            if number:
                alone = cascade.picture(number, prompt, image=true[number - 1], seed=seed)
            drift.alone.setdefault(spec.name, []).append(psnr_db(alone, true[number]))
            drift.in_a_row.setdefault(spec.name, []).append(psnr_db(own[number], true[number]))


def print_table(drifts: Sequence[Drift], sizes: Mapping[str, int], say: Say) -> None:
    """Worst and mean PSNR of every option and stage."""
    say(f"{'':40}{'alone':>12}{'in a row':>18}")
    say(f"{'option':30}{'picture':>10}{'worst':>8}{'mean':>8}{'worst':>10}{'mean':>8}   run by")
    for drift in drifts:
        for name, size in sizes.items():
            alone, row = drift.alone[name], drift.in_a_row[name]
            say(
                f"{drift.engine_options:30}{size:10}{min(alone):8.1f}{np.mean(alone):8.1f}"
                f"{min(row):10.1f}{np.mean(row):8.1f}   {name} {drift.run[name]}"
            )


def measure(
    bundle: Bundle, engine: str, options: Sequence[str], *, prompts: Sequence[str], threads: int
) -> list[Drift]:
    """Every option against the reference, one after the other."""
    truth = reference_pictures(bundle, prompts, threads)
    drifts = []
    for engine_options in options:
        cascade, run = open_cascade(bundle, parse_engine_options(engine, engine_options, threads))
        drift = Drift(engine_options, run)
        fill_in(drift, cascade, prompts, truth)
        cascade.close()
        drifts.append(drift)
    return drifts


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", type=Path, default=Path("bundles/emoji-1"))
    add("--options", nargs="+", default=list(OPTIONS), help="each as `--precision` takes it")
    add("--engine", default=AUTO, help="as for `cascade generate`")
    add("--prompts", type=int, default=PROMPTS)
    add("--threads", type=int, default=0, help="0 takes one per core")
    add("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    """Paint and print."""
    args = parse_arguments()
    bundle = open_bundle(args.bundle)
    asked = [prompt for prompts in read_sheet_prompts().values() for prompt in prompts]
    prompts = spread(asked, args.prompts)
    drifts = measure(bundle, args.engine, args.options, prompts=prompts, threads=args.threads)
    sizes = {spec.name: spec.makes.width for spec in diffusion_specs(bundle.manifest.components)}
    print(f"{len(prompts)} prompts, PSNR in decibels against float32 in ONNX Runtime")
    print_table(drifts, sizes, print)
    record: dict[str, Any] = {
        "prompts": prompts,
        "options": [vars(drift) for drift in drifts],
    }
    write_record(args.json, record)


if __name__ == "__main__":
    main()
