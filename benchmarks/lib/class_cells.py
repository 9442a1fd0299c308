"""Cells of the augmentation table: one upscaler at one level, judged by the probe and by eye.

Knows trained networks, the probe and true renderings; not how the networks were trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.codecs.image import from_network, to_network
from cascade.diffusion.conditioning import upsample
from cascade.types import Batch, ImageU8
from stages.data.class_loader import class_names, shrunk, sized
from stages.data.dataset import Dataset
from stages.evaluation.class_sampling import (
    FACTOR,
    AskedClass,
    ClassRun,
    base_pictures,
    refined,
)
from stages.evaluation.metrics import psnr_db, sharpness
from stages.evaluation.probe import Probe, judge
from stages.networks.refinement import RefinementNetwork
from stages.refinement_presets import CLASS8, REFINE32


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One upscaler, one level, one way of conditioning."""

    upscaler: str
    """Checkpoint folder."""
    level: float = 0.0
    truncated: bool = False

    @property
    def title(self) -> str:
        """For sheets."""
        way = " truncated" if self.truncated else ""
        return f"{self.upscaler.removeprefix('refine32.')} {self.level:g}{way}"


@dataclass(frozen=True, slots=True)
class TrueRenderings:
    """What pictures are held against.

    Attributes:
        names: of the classes.
        large: `[32, 32, 3]` uint8 each, renderings of the classes in turn.
        labels: their classes.
        unseen: `[32, 32, 3]` uint8 each, of concepts that nothing was trained on.
    """

    names: tuple[str, ...]
    large: tuple[ImageU8, ...]
    labels: tuple[int, ...]
    unseen: tuple[ImageU8, ...]


def true_renderings(data: Dataset) -> TrueRenderings:
    """The renderings of the classes, and of the held-out concepts."""
    names = class_names(data, CLASS8.classes)
    shown = [i for i, e in enumerate(data.examples) if e.icon in names]
    held = [i for i, e in enumerate(data.examples) if e.held_out]
    side = REFINE32.resolution
    return TrueRenderings(
        names=names,
        large=tuple(sized(data, i, side) for i in shown),
        labels=tuple(names.index(data.examples[i].icon) for i in shown),
        unseen=tuple(sized(data, i, side) for i in held),
    )


@dataclass(frozen=True, slots=True)
class Judging:
    """The probe, the renderings, and what every picture is asked for.

    Attributes:
        probe: names concepts.
        known: the concepts it knows, in the order of its answers.
        true: renderings.
        asked: the pictures of every cell.
        run: of the samplers.
    """

    probe: Probe
    known: tuple[str, ...]
    true: TrueRenderings
    asked: tuple[AskedClass, ...]
    run: ClassRun

    def named(self, pictures: Sequence[ImageU8], labels: Sequence[int]) -> dict[str, float]:
        """How often the probe names the class, and how sharp pictures `[H, W, 3]` uint8 are."""
        concepts = [self.known.index(self.true.names[label]) for label in labels]
        verdict = judge(self.probe, pictures, concepts, [None] * len(pictures))
        return {
            "top1": round(100 * verdict.top1, 1),
            "top5": round(100 * verdict.top5, 1),
            "sharpness": round(float(np.mean([sharpness(picture) for picture in pictures])), 1),
        }

    @property
    def labels(self) -> list[int]:
        """The classes that are asked for."""
        return [one.label or 0 for one in self.asked]


def asked_classes(classes: int, count: int) -> tuple[AskedClass, ...]:
    """So many pictures, the classes in turn, each with a seed of its own."""
    return tuple(AskedClass(number % classes, number) for number in range(count))


def small_of(cell: Cell, base: RefinementNetwork, judging: Judging) -> Batch:
    """What the base stage hands on in a cell, `[N, 3, 8, 8]` float32."""
    ends_at = cell.level if cell.truncated else 0.0
    return base_pictures(base, judging.asked, judging.run, ends_at=ends_at)


def drawn_cell(
    cell: Cell, small: Batch, upscaler: RefinementNetwork, judging: Judging
) -> list[ImageU8]:
    """The pictures `[32, 32, 3]` uint8 of a cell, of small ones `[N, 3, 8, 8]` float32."""
    return refined(
        upscaler,
        small,
        judging.asked,
        judging.run,
        level=cell.level,
        truncated=cell.truncated,
    )


def restored_db(cell: Cell, upscaler: RefinementNetwork, judging: Judging) -> float:
    """Mean PSNR of true small pictures of unseen concepts, refined without a class, dB."""
    truth = judging.true.unseen
    asked = [AskedClass(None, number) for number in range(len(truth))]
    small = small_pictures(truth)
    found = refined(upscaler, small, asked, judging.run, level=cell.level)
    return mean_db(found, truth)


def small_pictures(large: Sequence[ImageU8]) -> Batch:
    """Renderings `[32, 32, 3]` uint8 at the size of the base stage, `[N, 3, 8, 8]` float32."""
    return np.concatenate([to_network(shrunk(pixels, CLASS8.resolution)) for pixels in large])


def cubic(small: Batch) -> list[ImageU8]:
    """Small pictures `[N, 3, 8, 8]` enlarged and no more, `[32, 32, 3]` uint8 each."""
    large = upsample(small, FACTOR)
    return [from_network(large[number : number + 1]) for number in range(len(large))]


def mean_db(found: Sequence[ImageU8], truth: Sequence[ImageU8]) -> float:
    """Mean PSNR of pictures `[H, W, 3]` uint8, dB."""
    pairs = zip(found, truth, strict=True)
    return round(float(np.mean([psnr_db(picture, true) for picture, true in pairs])), 2)
