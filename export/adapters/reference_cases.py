"""What the reference cascade is measured on: its prepared data, the held-out part for parity.

Parity takes pictures that no training saw; calibration and proof of int8 take starts spread over
all concepts and styles.
"""

from collections.abc import Sequence

import numpy as np

from cascade.codecs.image import to_network
from cascade.diffusion.conditioning import augment, upsample
from cascade.diffusion.schedule import make_schedule
from cascade.numerics.noise import normals
from cascade.request import Handoff
from cascade.types import Array, ImageU8
from stages.data.dataset import Dataset, box_average
from stages.reference import GUIDANCE_WEIGHTS, StagePreset

TIMES = (0.02, 0.25, 0.5, 0.75, 0.98)


def stage_cases(
    preset: StagePreset, data: Dataset, times: Sequence[float]
) -> list[dict[str, Array]]:
    """Graph inputs from held-out pictures noised to each time; two rows of different times."""
    schedule = make_schedule(preset.schedule)
    held_out = [i for i, e in enumerate(data.examples) if e.held_out]
    cases = []
    for number, time in enumerate(times):
        index = held_out[number % len(held_out)]
        pixels = data.picture(index, preset.resolution)
        x0 = to_network(pixels)
        noise = normals(x0.shape, seed=number, image=0, stage=0, step=0)
        alpha, sigma = np.float32(schedule.alpha(time)), np.float32(schedule.sigma(time))
        context = data.embeddings[data.examples[index].captions[0]].astype(np.float32)[None]
        case: dict[str, Array] = {
            "x_t": alpha * x0 + sigma * noise,
            "t": np.array([time], np.float32),
            "context": context,
            "context_mask": np.ones(context.shape[:2], np.float32),
        }
        if preset.low_resolution is not None:
            level = preset.aug_range[1] * number / len(times)
            case["low_res"] = low_resolution(preset, pixels, level)
            case["aug_level"] = np.array([level], np.float32)
        if preset.unet.guided:
            low, high = GUIDANCE_WEIGHTS
            weight = low + (high - low) * number / max(1, len(times) - 1)
            case["guidance"] = np.array([weight], np.float32)
        # The second row asks the unconditional question at another time: rows are independent.
        second = dict(case)
        second["t"] = np.array([1 - time], np.float32)
        second["context_mask"] = np.zeros_like(case["context_mask"])
        rows = 2 if preset.resolution < 1024 else 1
        cases.append(
            {k: np.concatenate([v, second[k]][:rows]).astype(np.float32) for k, v in case.items()}
        )
    return cases


def low_resolution(preset: StagePreset, pixels: ImageU8, level: float) -> Array:
    """The stage's low-resolution input made from its true picture."""
    factor = preset.resolution // (preset.low_resolution or 1)
    low = upsample(to_network(box_average(pixels, factor)), factor)
    return augment(low, level, normals(low.shape, seed=9, image=0, stage=0, step=1))


def true_starts(preset: StagePreset, data: Dataset, count: int, *, offset: float) -> list[Handoff]:
    """Contexts of the data, and the true small pictures, spread over concepts and styles.

    Args:
        preset: the stage.
        data: prepared data.
        count: how many.
        offset: 0 to 1, shifts which examples are taken, so that two uses share none.
    """
    usable = [
        i for i in range(len(data.examples)) if preset.resolution < 1024 or data.pictures_1024[i]
    ]
    picked = ((np.arange(count) + offset) * len(usable) / count).astype(int) % len(usable)
    starts = []
    for index in (usable[i] for i in picked):
        context = data.embeddings[data.examples[index].captions[0]].astype(np.float16)
        image: ImageU8 | None = None
        if preset.low_resolution is not None:
            large = data.picture(index, preset.resolution)
            image = box_average(large, preset.resolution // preset.low_resolution)
        starts.append(Handoff(context=context, image=image))
    return starts
