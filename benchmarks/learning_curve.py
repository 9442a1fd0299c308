"""How good is the base stage after so many samples, and what would more of them bring?

    cascade train base --keep-minutes 10
    python -m benchmarks.learning_curve --json curve.json --plot curve.png

Asks every kept network the same prompts with the same seeds and has the probe judge. Through the
shares that are still wrong it lays a power law of the samples seen, `wrong = a samples^-b`, least
squares in logarithms, and reads off it where a wanted share would be reached: an extrapolation, to
be taken as one. Networks that have not cooled down are worse than their samples could make them.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.base_quality import make_judge
from benchmarks.lib.record import write_record
from benchmarks.sweep_subjects import asked_of_base, base_score, from_checkpoint
from cascade.diffusion.request_options import DiffusionOptions
from stages.data.dataset import open_dataset
from stages.evaluation.probe import load_probe
from stages.training.checkpoint import load_metadata
from stages.training.trainer import KEPT_AT

WANTED = {"top5": 0.8, "keywords_top5": 0.5, "style": 0.95}
"""Shares that the reference cascade is to reach."""
FEWEST = 3
"""Points that a law is laid through, at least."""


@dataclass(frozen=True, slots=True)
class Law:
    """`wrong = scale * samples ** -power`."""

    scale: float
    power: float

    def samples_for(self, share: float) -> float:
        """Samples after which `share` would be right; infinite where more samples do not help."""
        if self.power <= 0:
            return math.inf
        return float((self.scale / (1 - share)) ** (1 / self.power))


def law_of(samples: Sequence[float], right: Sequence[float]) -> Law | None:
    """The power law through shares of right answers; None with too few that are not all right.

    Args:
        samples: seen so far, larger than 0.
        right: share of right answers, in [0, 1].
    """
    points = [(math.log(n), math.log(1 - r)) for n, r in zip(samples, right, strict=True) if r < 1]
    if len(points) < FEWEST:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return Law(math.exp(mean_y - slope * mean_x), -slope)


def kept_networks(checkpoints: Path, stage: str = "base") -> list[Path]:
    """The networks kept while a stage was trained, fewest samples first."""
    found = checkpoints.glob(f"{stage}{KEPT_AT}*")
    return sorted(found, key=lambda folder: int(folder.name.rpartition(KEPT_AT)[2]))


def forecast(rows: Sequence[dict[str, Any]], before: int) -> dict[str, Any]:
    """For every wanted share the law, and the samples at which it would be reached.

    Args:
        rows: samples and shares of each network.
        before: samples seen before those that the rows count.
    """
    found = {}
    for name, share in WANTED.items():
        law = law_of([before + row["samples"] for row in rows], [row[name] for row in rows])
        reached = None if law is None else law.samples_for(share)
        finite = reached is not None and math.isfinite(reached)
        found[name] = {
            "wanted": share,
            "power": None if law is None else round(law.power, 3),
            "samples": round(reached) if reached is not None and finite else None,
        }
    return found


def main() -> None:
    """Measure, print, write, plot."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--checkpoints", type=Path, default=Path("checkpoints"), help="kept networks and the probe")
    add("--networks", nargs="+", help="checkpoint folders (all that were kept)")
    add("--data", type=Path, default=Path("data/emoji.npz"), help="prepared data")
    add("--steps", type=int, default=8, help="of the sampler (%(default)s)")
    add("--guidance", type=float, default=2.0, help="(%(default)s)")
    add("--pictures", type=int, default=96, help="of each kind (%(default)s)")
    add("--before", type=int, default=0, help="samples seen before training began anew")
    add("--json", type=Path, help="write the figures here")
    add("--plot", type=Path, help="write a picture of them here (needs the extra bench)")
    args = parser.parse_args()
    kept = kept_networks(args.checkpoints)
    folders = [args.checkpoints / name for name in args.networks] if args.networks else kept
    data = open_dataset(args.data)
    probe, facts = load_probe(args.checkpoints / "probe")
    judged = make_judge(probe, facts["names"], data, 64)
    score = base_score(asked_of_base(data, judged, args.pictures), judged)
    options = DiffusionOptions(steps=args.steps, guidance=args.guidance)
    rows = []
    for folder in folders:
        found = score(from_checkpoint("base", folder).stage(), options)
        rows.append({"samples": load_metadata(folder)["samples"], **found})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    ahead = forecast(rows, args.before)
    for name, found in ahead.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    write_record(args.json, {"before": args.before, "rows": rows, "forecast": ahead})
    if args.plot is not None:
        from benchmarks.lib.plots import plot_learning  # noqa: PLC0415  matplotlib is an extra

        plot_learning(rows, WANTED, args.before, args.plot)


if __name__ == "__main__":
    main()
