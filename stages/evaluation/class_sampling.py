"""Batches of pictures from the class-conditional cascade, with the product's own samplers.

Truncated conditioning ends the base stage's run at a level and shows the upscaler what is there;
without truncation the finished picture, rounded to 8 bits as it crosses a cut, is given noise of
that level. Knows trained networks; not checkpoints, and not how they will be exported.

References:
    Ho et al. 2021 (arXiv 2106.15282), section 4.2: truncated and non-truncated conditioning
    augmentation; Saharia et al. 2021 (arXiv 2104.07636), algorithm 2, for the variance of a step.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.codecs.image import from_network, to_network
from cascade.diffusion.conditioning import augment, upsample
from cascade.diffusion.denoiser import Denoiser, EngineDenoiser
from cascade.diffusion.samplers.choice import SamplerInputs, sample
from cascade.diffusion.schedule import CosineSchedule
from cascade.diffusion.spec import SamplerKind, ThresholdSpec
from cascade.diffusion.thresholding import thresholded
from cascade.numerics.noise import AUGMENTATION, START, normals
from cascade.types import Array, Batch, ImageU8
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.refinement import RefinementNetwork, TimedRefinement
from stages.refinement_presets import CLASS8, REFINE32

SCHEDULE = CosineSchedule()
BASE_POSITION, UPSCALER_POSITION = 1, 2
"""Places in the cascade; 0 is the label encoder."""
SMALL = CLASS8.resolution
FACTOR = REFINE32.resolution // CLASS8.resolution


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRun:
    """How both networks are sampled."""

    steps: int = 16
    sampler: SamplerKind = "ddpm"
    gamma: float = 1.0
    """The upper variance, as repeated refinement takes it."""
    batch: int = 64


@dataclass(frozen=True, slots=True)
class AskedClass:
    """One picture that is asked for.

    Attributes:
        label: number of the class; None asks for none.
        seed: of its noise.
    """

    label: int | None
    seed: int


def base_pictures(
    network: RefinementNetwork, asked: Sequence[AskedClass], run: ClassRun, *, ends_at: float = 0.0
) -> Batch:
    """Small pictures from noise, `[N, 3, h, w]` float32.

    Args:
        network: of the base stage.
        asked: the classes.
        run: of the sampler.
        ends_at: level at which a run is truncated; 0 ends at pictures, which are rounded to 8 bits.
    """
    found = sampled(network, asked, run, {}, (SMALL, BASE_POSITION, ends_at))
    return found if ends_at else as_bytes(found)


def refined(
    network: RefinementNetwork,
    small: Batch,
    asked: Sequence[AskedClass],
    run: ClassRun,
    *,
    level: float = 0.0,
    truncated: bool = False,
) -> list[ImageU8]:
    """Pictures `FACTOR` times as large, `[FACTOR h, FACTOR w, 3]` uint8 each.

    Args:
        network: of the upscaler.
        small: `[N, 3, h, w]` float32.
        asked: their classes, and seeds.
        run: of the sampler.
        level: of the augmentation that the network is told.
        truncated: whether the noise of that level is in `small` already.
    """
    if level and not truncated:
        noise = drawn(small.shape[1:], asked, UPSCALER_POSITION, AUGMENTATION)
        small = augment(small, level, noise)
    shown = {
        "low_res": upsample(small, FACTOR),
        "aug_level": np.full(len(small), level, np.float32),
    }
    found = sampled(network, asked, run, shown, (FACTOR * small.shape[-1], UPSCALER_POSITION, 0.0))
    return [from_network(found[i : i + 1]) for i in range(len(found))]


def sampled(
    network: RefinementNetwork,
    asked: Sequence[AskedClass],
    run: ClassRun,
    shown: dict[str, Array],
    place: tuple[int, int, float],
) -> Batch:
    """The end of every run, `[N, 3, H, W]` float32.

    Args:
        network: of the stage.
        asked: classes and seeds.
        run: of the sampler.
        shown: further inputs of the network, `N` rows each.
        place: side of the pictures, position in the cascade, and time at which a run ends.
    """
    side, position, ends_at = place
    engine = TorchEngine(TimedRefinement(network), "prediction")
    classes = network.unet.config.context_width
    parts = []
    for first in range(0, len(asked), run.batch):
        some = asked[first : first + run.batch]
        rows = slice(first, first + len(some))
        inputs = {**{name: rows_of[rows] for name, rows_of in shown.items()},
                  **told(some, classes)}  # fmt: skip
        denoiser = thresholded(
            EngineDenoiser(engine, SCHEDULE, "epsilon", inputs), ThresholdSpec(kind="static")
        )
        parts.append(last_state(denoiser, some, run, (side, position, ends_at)))
    return np.concatenate(parts)


def last_state(
    denoiser: Denoiser, asked: Sequence[AskedClass], run: ClassRun, place: tuple[int, int, float]
) -> Batch:
    """One batch from noise to the end of its run; see `sampled` for the arguments and shapes."""
    side, position, ends_at = place
    shape = (3, side, side)
    steps = sample(
        run.sampler,
        SamplerInputs(
            denoise=lambda _: denoiser,
            start=drawn(shape, asked, position, START),
            schedule=SCHEDULE,
            times=ends_at + (1 - ends_at) * SCHEDULE.timesteps(run.steps),
            noise=lambda step: drawn(shape, asked, position, step),
            gamma=run.gamma,
        ),
    )
    (end,) = deque(steps, maxlen=1)
    return end.x_t


def told(asked: Sequence[AskedClass], classes: int) -> dict[str, Array]:
    """Context `[N, 1, classes]` and mask `[N, 1]` of classes, float32; no class masks it out."""
    context = np.zeros((len(asked), 1, classes), np.float32)
    mask = np.zeros((len(asked), 1), np.float32)
    for row, one in enumerate(asked):
        if one.label is not None:
            context[row, 0, one.label] = mask[row, 0] = 1
    return {"context": context, "context_mask": mask}


def drawn(shape: tuple[int, ...], asked: Sequence[AskedClass], position: int, step: int) -> Batch:
    """Each picture's own noise, `[N, *shape]` float32."""
    return np.stack(
        [normals(shape, seed=one.seed, image=0, stage=position, step=step) for one in asked]
    )


def as_bytes(pictures: Batch) -> Batch:
    """Pictures `[N, 3, h, w]` as they are after they crossed a cut: rounded to 8 bits."""
    return np.concatenate(
        [to_network(from_network(pictures[i : i + 1])) for i in range(len(pictures))]
    )
