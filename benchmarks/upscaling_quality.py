"""How good the super-resolution stages are, with a ground truth and without.

Held-out concepts in every style against Lanczos and against a plain regression of the same size;
then the base stage's own pictures, of which only sharpness and consistency can be told. Knows
stages as calls; not where a bundle lies.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.local_cascade import LocalCascade
from benchmarks.lib.prompt_lists import PromptQuestion, spread
from cascade.diffusion.request_options import DiffusionOptions
from cascade.types import ImageU8
from stages.data.captions import STYLES
from stages.data.dataset import Dataset, box_average
from stages.evaluation.metrics import consistency_db, psnr_db, sharpness, ssim
from stages.evaluation.upscaling import lanczos
from stages.reference import PRESETS
from stages.training.checkpoint import has_checkpoint
from stages.training.recipes import REGRESSION
from stages.training.regression import regressed
from stages.training.trained_network import load_network
from stages.training.trainer import preset_objective

EQUAL_DB = 99.0
"""Stands for infinity where a picture averages back to exactly what it was made of."""
Enlarge = Callable[[ImageU8, str], ImageU8]
"""A smaller picture and its caption to a larger one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One way up: through one stage, or through all of them.

    Attributes:
        low: height and width of what it starts from.
        high: of what it ends with.
        stages: numbers of the stages in between.
    """

    low: int
    high: int
    stages: tuple[int, ...]

    @property
    def name(self) -> str:
        """`64 -> 256`."""
        return f"{self.low} -> {self.high}"


@dataclass(slots=True)
class Scores:
    """What one method came to, picture by picture."""

    psnr_db: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)

    def add(self, picture: ImageU8, truth: ImageU8) -> None:
        """Count one more picture."""
        self.psnr_db.append(psnr_db(picture, truth))
        self.ssim.append(ssim(picture, truth))

    def means(self) -> dict[str, float]:
        """The means, rounded for people."""
        return {
            "psnr_db": round(float(np.mean(self.psnr_db)), 2),
            "ssim": round(float(np.mean(self.ssim)), 4),
        }


def tasks_of(cascade: LocalCascade) -> list[Task]:
    """Every super-resolution stage alone, then all of them in a row."""
    found = [
        Task(low=spec.low.width, high=spec.makes.width, stages=(number,))
        for number, spec in enumerate(cascade.specs)
        if spec.low is not None
    ]
    if len(found) > 1:
        numbers = tuple(number for task in found for number in task.stages)
        found.append(Task(low=found[0].low, high=found[-1].high, stages=numbers))
    return found


def held_out_examples(data: Dataset, count: int) -> list[int]:
    """Held-out pictures, as many concepts in all their styles as `count` allows."""
    held = [i for i, e in enumerate(data.examples) if e.held_out]
    icons = list(dict.fromkeys(data.examples[i].icon for i in held))
    chosen = set(spread(icons, max(1, count * len(icons) // len(held))))
    return [i for i in held if data.examples[i].icon in chosen][:count]


def held_out_figures(
    cascade: LocalCascade, data: Dataset, folder: Path, pictures: Callable[[int], int]
) -> list[dict[str, Any]]:
    """One row per task and style, and one per task over all styles.

    Args:
        cascade: the bundle's stages.
        data: the prepared data.
        folder: checkpoints, where regressions are looked for.
        pictures: how many held-out pictures for a resolution to end with.
    """
    rows = []
    for task in tasks_of(cascade):
        ways = methods(cascade, folder, task)
        chosen = held_out_examples(data, pictures(task.high))
        scores: dict[str, dict[str, Scores]] = defaultdict(lambda: defaultdict(Scores))
        for index in chosen:
            example = data.examples[index]
            truth, low = pair(data, index, task)
            caption = data.captions[example.captions[0]]
            for method, enlarge in ways.items():
                picture = enlarge(low, caption)
                scores[example.style][method].add(picture, truth)
                scores["all"][method].add(picture, truth)
        rows += [row(task, style, scores[style]) for style in (*STYLES, "all") if style in scores]
    return rows


def row(task: Task, style: str, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """The figures of one task and style by method."""
    count = len(next(iter(scores.values())).psnr_db)
    means = {method: kept.means() for method, kept in scores.items()}
    return {"task": task.name, "style": style, "pictures": count, "methods": means}


def pair(data: Dataset, index: int, task: Task) -> tuple[ImageU8, ImageU8]:
    """A true picture and what the task starts from."""
    truth = true_picture(data, index, task.high)
    return truth, box_average(truth, task.high // task.low)


def true_picture(data: Dataset, index: int, size: int) -> ImageU8:
    """A rendering at any size that divides what was kept of it."""
    found = data.picture(index, 256)
    if len(found) < size:
        found = data.picture(index, 1024)
    return box_average(found, len(found) // size)


def methods(cascade: LocalCascade, folder: Path, task: Task) -> dict[str, Enlarge]:
    """The ways to do a task: ours, Lanczos, and the regression where it was trained.

    A true picture needs no noise to hide the faults of the stage before: ours takes the lowest
    augmentation here, and the default one apart where it is another.
    """

    def ours(*, lowest: bool) -> Enlarge:
        def enlarge(low: ImageU8, caption: str) -> ImageU8:
            for number in task.stages:
                found = cascade.specs[number].augmentation
                options = DiffusionOptions(augmentation=found.lowest if found and lowest else None)
                low = cascade.picture(number, caption, image=low, options=options)
            return low

        return enlarge

    found: dict[str, Enlarge] = {"ours": ours(lowest=True)}
    ranges = [cascade.specs[number].augmentation for number in task.stages]
    if any(known and known.default != known.lowest for known in ranges):
        found["ours_default"] = ours(lowest=False)
    found["lanczos"] = lambda low, _: lanczos(low, task.high)
    names = [cascade.specs[number].name for number in task.stages]
    steps = [regression(cascade, folder, name) for name in names]
    if all(steps):

        def chained(low: ImageU8, caption: str) -> ImageU8:
            for step in steps:
                if step is not None:
                    low = step(low, caption)
            return low

        found["regression"] = chained
    return found


def regression(cascade: LocalCascade, folder: Path, stage: str) -> Enlarge | None:
    """The plain regression of a stage; None where it was not trained."""
    checkpoint = folder / f"{stage}.{REGRESSION}"
    preset = PRESETS.get(stage)
    if preset is None or preset.low_resolution is None or not has_checkpoint(checkpoint):
        return None
    network, objective = load_network(preset, checkpoint), preset_objective(preset)
    factor = preset.resolution // preset.low_resolution
    return lambda low, caption: regressed(network, objective, low, cascade.context(caption), factor)


def continued_figures(
    cascade: LocalCascade, data: Dataset, asked: Sequence[PromptQuestion]
) -> dict[str, Any]:
    """After the base stage's own pictures: sharpness beside Lanczos and the truth, consistency.

    Args:
        cascade: the bundle's stages.
        data: for the true pictures of the same captions.
        asked: trained captions whose pictures were kept at every size.
    """
    places = {(e.icon, e.style): i for i, e in enumerate(data.examples)}
    found: dict[str, list[float]] = defaultdict(list)
    for number, question in enumerate(asked):
        pictures = cascade.pictures(question.prompt, seed=number)
        index = places[(question.icon, question.style)]
        for before, picture in zip([None, *pictures], pictures, strict=False):
            size = len(picture)
            found[f"sharpness {size}"].append(sharpness(picture))
            found[f"sharpness {size} true"].append(sharpness(true_picture(data, index, size)))
            if before is not None:
                enlarged = lanczos(pictures[0], size)
                found[f"sharpness {size} lanczos"].append(sharpness(enlarged))
                agreement = consistency_db(picture, before)
                found[f"consistency {size} to {len(before)} db"].append(min(EQUAL_DB, agreement))
    return {"pictures": len(asked), **{k: round(float(np.mean(v)), 2) for k, v in found.items()}}
