"""What does conditioning augmentation do in a class-conditional cascade of repeated refinement?

    python -m benchmarks.class_cascade --probe checkpoints --checkpoints trained --out found

Trains the base stage and four upscalers, each to the same number of steps and in turns, so that it
may be ended by `--minutes` and goes on when it is repeated. Then draws classes with each upscaler
at each level, truncated and not, and prints how often the probe names the class, sharpness, and
PSNR on true small pictures. With `--out` it writes the figures and a sheet, with `--placements` a
table of hashes at every cut. Needs the prepared data and a trained probe (`cascade probe`).
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.lib.class_cells import (
    Cell,
    Judging,
    asked_classes,
    cubic,
    drawn_cell,
    mean_db,
    restored_db,
    small_of,
    small_pictures,
    true_renderings,
)
from benchmarks.lib.record import write_record
from cascade.bundle.bundle import open_bundle
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from export.adapters.refinement_cascade import RefinementSource, describe_refinement
from export.bundle_writer import write_cascade
from runtime_client.client import Client
from stages.data.class_loader import ClassLoader
from stages.data.dataset import Dataset, open_dataset
from stages.evaluation.class_sampling import ClassRun
from stages.evaluation.probe import load_probe
from stages.evaluation.sheet import tile
from stages.networks.refinement import RefinementNetwork
from stages.refinement_presets import CLASS8, REFINE32, RefinementPreset
from stages.training.checkpoint import load_metadata, load_part
from stages.training.conditioning_augmentation import AugmentationKind, ConditioningAugmentation
from stages.training.refinement import LossKind, RefinementChoices, refinement_recipe
from stages.training.trainer import Trainer, TrainOptions, open_trainer

UPSCALERS: tuple[tuple[AugmentationKind, LossKind], ...] = (
    ("none", "l2"),
    ("blur", "l2"),
    ("gaussian", "l2"),
    ("gaussian", "l1"),
)
LEVELS = (0.0, 0.1, 0.2, 0.3, 0.5)
SLICE = 10
"""Steps of one network before the next has its turn."""
SHOWN = 12
"""Columns of the sheet."""


def cells() -> list[Cell]:
    """The rows of the table."""
    found = [Cell(upscaler=f"{REFINE32.name}.{kind}.l2") for kind in ("none", "blur")]
    for loss in ("l2", "l1"):
        name = f"{REFINE32.name}.gaussian.{loss}"
        found += [Cell(upscaler=name, level=level) for level in LEVELS]
        if loss == "l2":
            found += [Cell(upscaler=name, level=s, truncated=True) for s in LEVELS if s]
    return found


def trainers(data: Dataset, folder: Path, preset: RefinementPreset) -> list[Trainer[Any]]:
    """One for each network of a preset, gone on from its checkpoint."""
    loader = ClassLoader(data, preset)
    kinds = UPSCALERS if preset.low_resolution else (("none", "l2"),)
    options = TrainOptions(folder=folder, cool_down=0)
    found = []
    for kind, loss in kinds:
        choices = RefinementChoices(loss=loss, augmentation=ConditioningAugmentation(kind=kind))
        recipe = refinement_recipe(preset, loader, 0, choices)
        found.append(open_trainer(preset, loader, options, recipe))
    return found


def train_in_turns(networks: Sequence[Trainer[Any]], steps: int, ends: float) -> None:
    """All of them to the same step: `steps`, or as far as there is time for."""
    goal = min(trainer.step for trainer in networks)
    while goal < steps and time.monotonic() < ends:
        goal = min(steps, goal + SLICE)
        for trainer in networks:
            while trainer.step < goal:
                # Of a rate that never falls: the averaged weights are what is looked at.
                trainer.train_step(0.0)
        if goal % (10 * SLICE) == 0 or goal == steps or time.monotonic() >= ends:
            for trainer in networks:
                trainer.save()
            losses = {trainer.checkpoint.name: round(trainer.loss, 4) for trainer in networks}
            print(json.dumps({"step": goal, **losses}), flush=True)


def load(preset: RefinementPreset, folder: Path) -> RefinementNetwork:
    """The averaged weights of a checkpoint."""
    network = preset.network()
    network.load_state_dict(load_part(folder, "ema"))
    return network.eval().requires_grad_(requires_grad=False)


def measure(
    folder: Path, judging: Judging
) -> tuple[list[dict[str, Any]], dict[str, list[ImageU8]]]:
    """The rows of the table, and the pictures of each by its title."""
    base = load(CLASS8, folder / CLASS8.name)
    small = small_of(Cell(upscaler=""), base, judging)
    true = judging.true
    drawn = {"base, enlarged": cubic(small)}
    rows: list[dict[str, Any]] = [
        {"network": "true renderings", **judging.named(true.large, true.labels)},
        {
            "network": "true small pictures, enlarged",
            **judging.named(cubic(small_pictures(true.large)), true.labels),
            "psnr_db": mean_db(cubic(small_pictures(true.unseen)), true.unseen),
        },
        {"network": "base, enlarged",
         **judging.named(drawn["base, enlarged"], judging.labels)},
    ]  # fmt: skip
    for cell in cells():
        upscaler = load(REFINE32, folder / cell.upscaler)
        shown = small_of(cell, base, judging) if cell.truncated else small
        pictures = drawn[cell.title] = drawn_cell(cell, shown, upscaler, judging)
        row = {"network": cell.upscaler, "level": cell.level, "truncated": cell.truncated}
        row |= judging.named(pictures, judging.labels)
        if not cell.truncated:
            row["psnr_db"] = restored_db(cell, upscaler, judging)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows, drawn


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| network | level | conditioning | top-1 % | top-5 % | sharpness | PSNR dB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ways = {None: "-", False: "non-truncated", True: "truncated"}
        way = ways[row.get("truncated")] if row.get("level") else "-"
        cells_of = [row["network"], row.get("level", "-"), way, row["top1"], row["top5"],
                    row["sharpness"], row.get("psnr_db", "-")]  # fmt: skip
        lines.append("| " + " | ".join(str(value) for value in cells_of) + " |")
    return "\n".join(lines)


def write_sheet(path: Path, judging: Judging, drawn: dict[str, list[ImageU8]]) -> None:
    """A row for each way and a column for each of some classes; the first row is true."""
    places = np.linspace(0, len(judging.true.names) - 1, SHOWN).round().astype(int).tolist()
    true = [judging.true.large[judging.true.labels.index(place)] for place in places]
    rows = [true, *([pictures[place] for place in places] for pictures in drawn.values())]
    sheet = tile([picture for row in rows for picture in row], SHOWN)
    # Twice as large, pixels repeated: for eyes.
    Image.fromarray(sheet.repeat(2, axis=0).repeat(2, axis=1)).save(path)


def placement_hashes(folder: Path, truncated: float) -> dict[str, list[str]]:
    """The start of the sha256 of every picture, by way and cut."""
    found: dict[str, list[str]] = {"generate": [], "upscale": []}
    own = np.asarray(np.random.default_rng(5).integers(0, 256, (20, 12, 3)), np.uint8)
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "bundle"
        source = RefinementSource(checkpoints=folder, truncated=truncated)
        write_cascade(describe_refinement(source), out, report=lambda _: None)
        bundle = open_bundle(out)
        for cut in range(len(bundle.manifest.components) + 1):
            with Client(bundle, cut=cut, threads=1) as client:
                made = [client.run(GenerateRequest(label=7, seed=3))]
                made += [] if truncated else [client.upscale(own, seed=3)]
            for name, result in zip(found, made, strict=False):
                found[name].append(hashlib.sha256(result.image.tobytes()).hexdigest()[:12])
    return {name: hashes for name, hashes in found.items() if hashes}


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    # fmt: off
    add("--data", type=Path, default=Path("data/emoji.npz"), help="prepared data (%(default)s)")
    add("--probe", type=Path, required=True, help="folder that holds the checkpoint `probe`")
    add("--checkpoints", type=Path, required=True, help="folder to train in, and to go on in")
    add("--base-steps", type=int, default=3000, help="of the base stage (%(default)s)")
    add("--steps", type=int, default=2000, help="of each upscaler (%(default)s)")
    add("--minutes", type=float, default=60.0, help="of training, at most (%(default)s)")
    add("--pictures", type=int, default=192, help="of each row (%(default)s)")
    add("--sampling-steps", type=int, default=16, help="of both stages (%(default)s)")
    add("--threads", type=int, default=1, help="of torch (%(default)s)")
    add("--placements", action="store_true", help="export, and compare the pixels at every cut")
    add("--out", type=Path, help="folder for figures and the sheet")
    # fmt: on
    return parser.parse_args()


def main() -> None:
    """Train, draw, judge, print."""
    args = parsed()
    torch.set_num_threads(args.threads)
    data = open_dataset(args.data)
    ends = time.monotonic() + 60 * args.minutes
    for preset, steps in ((CLASS8, args.base_steps), (REFINE32, args.steps)):
        train_in_turns(trainers(data, args.checkpoints, preset), steps, ends)
    probe, facts = load_probe(args.probe / "probe")
    true = true_renderings(data)
    judging = Judging(
        probe=probe,
        known=tuple(facts["names"]),
        true=true,
        asked=asked_classes(len(true.names), args.pictures),
        run=ClassRun(steps=args.sampling_steps),
    )
    rows, drawn = measure(args.checkpoints, judging)
    print(table(rows))
    names = [CLASS8.name, *(f"{REFINE32.name}.{kind}.{loss}" for kind, loss in UPSCALERS)]
    trained = {name: load_metadata(args.checkpoints / name)["samples"] for name in names}
    print(json.dumps({"samples": trained}))
    figures = {"rows": rows, "samples": trained, "run": asdict(judging.run)}
    if args.placements:
        figures["placements"] = {
            str(level): placement_hashes(args.checkpoints, level) for level in (0.0, 0.2)
        }
        print(json.dumps(figures["placements"]))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        write_record(args.out / "class-cascade.json", figures)
        write_sheet(args.out / "class-cascade.png", judging, drawn)


if __name__ == "__main__":
    main()
