"""Which steps, sampler, guidance and augmentation should a stage have by default?

    python -m benchmarks.sweep base --networks base.guided.16 base.guided.8 base.guided.4
    python -m benchmarks.sweep sr256 --json sr256.json --plot sr256.png
    python -m benchmarks.sweep sr1024 --bundle bundles/emoji-1

Tries every combination on the same pictures and seeds: the networks of checkpoints in torch, or the
graphs of a bundle as a client runs them. Judged by the probe (base) or by PSNR against the truth
(super-resolution: from what the stage before it makes of a true picture, as in the cascade). The
winner is the cheapest within a tolerance of the best; `stages/reference.py` holds the winners.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.lib.record import write_record
from benchmarks.sweep_subjects import Score, SweepSubject, open_subjects, scorer
from cascade.assignments import AUTO
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import SamplerKind
from cascade.diffusion.stage import DiffusionStage
from cascade.tuning.options import parse_engine_options
from stages.data.dataset import open_dataset

Say = Callable[[str], None]
SAMPLERS: tuple[SamplerKind, ...] = ("ddim", "stochastic")


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPoint:
    """One way to run a stage."""

    sampler: SamplerKind
    steps: int
    guidance: float
    augmentation: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """What is tried of each."""

    steps: tuple[int, ...]
    guidance: tuple[float, ...] = (1.0,)
    augmentation: tuple[float | None, ...] = (None,)
    samplers: tuple[SamplerKind, ...] = SAMPLERS
    pictures: int
    tolerance: float
    """How far from the best a cheaper setting may be: a share for the probe, decibels for PSNR."""

    def settings(self, fixed_steps: int | None) -> list[SweepPoint]:
        """All combinations; a student of steps is tried at its own number alone."""
        steps = self.steps if fixed_steps is None else (fixed_steps,)
        return [
            SweepPoint(sampler=sampler, steps=count, guidance=weight, augmentation=level)
            for count, sampler, weight, level in product(
                steps, self.samplers, self.guidance, self.augmentation
            )
            # With one step there is nothing to go back from: both samplers are one.
            if count > 1 or sampler == self.samplers[0]
        ]


GRIDS = {
    "base": Grid(steps=(4, 8, 16), guidance=(1.5, 2.0, 3.0, 4.0), pictures=48, tolerance=0.05),
    "sr256": Grid(steps=(1, 2, 4), augmentation=(0.0, 0.05, 0.1, 0.2), pictures=18, tolerance=0.3),
    "sr1024": Grid(steps=(1, 2), augmentation=(0.0, 0.03, 0.1), pictures=6, tolerance=0.3),
}


def staged(subject: SweepSubject, setting: SweepPoint) -> tuple[DiffusionStage, DiffusionOptions]:
    """The network under a setting."""
    options = DiffusionOptions(
        steps=setting.steps, guidance=setting.guidance, augmentation=setting.augmentation
    )
    return subject.stage(setting.sampler), options


def sweep(
    subjects: Sequence[SweepSubject], grid: Grid, score: Score, say: Say
) -> list[dict[str, Any]]:
    """One row per network and setting."""
    rows = []
    for subject in subjects:
        for setting in grid.settings(subject.fixed_steps):
            stage, options = staged(subject, setting)
            found = score(stage, options)
            calls = setting.steps * subject.calls_per_step(setting.guidance)
            row = {"network": subject.name, **asdict(setting), "evaluations": calls, **found}
            rows.append(row)
            say("  ".join(f"{key} {value}" for key, value in row.items() if value is not None))
    return rows


def winner(rows: Sequence[dict[str, Any]], metric: str, tolerance: float) -> dict[str, Any]:
    """The cheapest within a tolerance of the best; among equally cheap ones the best.

    Args:
        rows: of a sweep.
        metric: larger is better.
        tolerance: a share of the best for shares, decibels for `..._db`.
    """
    best = max(row[metric] for row in rows)
    floor = best - tolerance if metric.endswith("_db") else best * (1 - tolerance)
    near = [row for row in rows if row[metric] >= floor]
    return min(near, key=lambda row: (row["evaluations"], -row[metric]))


def main() -> None:
    """Sweep, print, write, plot."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("stage", choices=tuple(GRIDS))
    add("--bundle", type=Path, help="a bundle's graphs instead of checkpoints")
    add("--checkpoints", type=Path, default=Path("checkpoints"), help="networks and the probe")
    add("--networks", nargs="+", help="checkpoint folders (the stage's own)")
    add("--data", type=Path, default=Path("data/emoji.npz"), help="prepared data")
    add("--steps", type=int, nargs="+", help="instead of those of the stage")
    add("--guidance", type=float, nargs="+", help="ditto")
    add("--augmentation", type=float, nargs="+", help="ditto")
    add("--pictures", type=int, help="ditto")
    add("--precision", default=AUTO, help="bundle: as for `cascade generate`")
    add("--json", type=Path, help="write the rows and the winner here")
    add("--plot", type=Path, help="write a picture of them here (needs the extra bench)")
    args = parser.parse_args()
    grid = grid_of(args)
    names = args.networks or [args.stage]
    engine_options = parse_engine_options(AUTO, args.precision)
    opened = open_subjects(args.stage, args.bundle, args.checkpoints, names, engine_options)
    data = open_dataset(args.data)
    metric, score = scorer(args.stage, opened, data, args.checkpoints, grid.pictures)
    rows = sweep(opened.subjects, grid, score, lambda line: print(line, flush=True))
    chosen = winner(rows, metric, grid.tolerance)
    print("\nwinner: " + ", ".join(f"{k} {v}" for k, v in chosen.items() if v is not None))
    figures = {"stage": args.stage, "metric": metric, "rows": rows, "winner": chosen}
    write_record(args.json, figures)
    if args.plot is not None:
        from benchmarks.lib.plots import plot_sweep  # noqa: PLC0415  matplotlib is an extra

        plot_sweep(rows, chosen, metric, args.plot)


def grid_of(args: argparse.Namespace) -> Grid:
    """The stage's grid with what was asked for in its place."""
    grid = GRIDS[args.stage]
    return Grid(
        steps=tuple(args.steps or grid.steps),
        guidance=tuple(args.guidance or grid.guidance),
        augmentation=tuple(args.augmentation or grid.augmentation),
        pictures=args.pictures or grid.pictures,
        tolerance=grid.tolerance,
    )


if __name__ == "__main__":
    main()
