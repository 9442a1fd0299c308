"""Parity: is the exported graph still its original?

Compares a torch network with its graph on real inputs at several times, and two whole cascades on
the same request. Knows arrays and engines; not how graphs are made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cascade.codecs.image import to_network
from cascade.diffusion.conditioning import augment, upsample
from cascade.diffusion.schedule import make_schedule
from cascade.engine import Engine
from cascade.errors import ParityError
from cascade.events import StageFinished
from cascade.generate import generate
from cascade.graph_spec import ParityRecord
from cascade.numerics.noise import normals
from cascade.request import GenerateRequest
from cascade.stage import Stage
from cascade.types import Array, ImageU8
from stages.data.dataset import Dataset, box_average
from stages.evaluation.metrics import psnr_db
from stages.presets import GUIDANCE_WEIGHTS, StagePreset

TIMES = (0.02, 0.25, 0.5, 0.75, 0.98)
TOLERANCE_ABS = 5e-3
"""Largest difference of one output value. Float32 sums in another order over some dozen layers give
1e-5 to 1e-4; super-resolution sees the residual enlarged by up to 1 / `UNetConfig.detail` = 20 and
reached 2e-3 in single values at the cleanest times, where v hardly matters to the picture."""


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """Two cascades on the same requests.

    Attributes:
        psnr_db: worst PSNR per stage over the prompts, 8-bit pictures; infinite when identical.
        differing: share of 8-bit samples that differ at the last stage.
    """

    psnr_db: Mapping[str, float]
    differing: float


def compare_engines(
    original: Engine,
    exported: Engine,
    cases: Sequence[Mapping[str, Array]],
    output: str,
    *,
    tolerance_abs: float = TOLERANCE_ABS,
) -> ParityRecord:
    """Measure one component.

    Raises:
        ParityError: a value is not finite, or further off than `tolerance_abs`.
    """
    worst, squares, count, peak = 0.0, 0.0, 0, 0.0
    for case in cases:
        reference = original.run(case)[output]
        value = exported.run(case)[output]
        finite = np.isfinite(value).all() and np.isfinite(reference).all()
        if value.shape != reference.shape or not finite:
            raise ParityError(f"{output}: shape {value.shape} or values that are not finite")
        difference = np.abs(value.astype(np.float64) - reference)
        worst = max(worst, float(difference.max()))
        squares += float((difference**2).sum())
        count += difference.size
        peak = max(peak, float(np.abs(reference).max()))
    noise = max(squares / count, 1e-20)
    record = ParityRecord(
        max_abs_error=worst,
        psnr_db=round(float(10 * np.log10((2 * peak) ** 2 / noise)), 1),
        tolerance_abs=tolerance_abs,
        samples=len(cases),
    )
    if worst > tolerance_abs:
        raise ParityError(
            f"{output}: max abs error {worst:.2e} is over the tolerance {tolerance_abs:.0e}"
        )
    return record


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


def compare_cascades(
    original: Sequence[Stage], exported: Sequence[Stage], prompts: Sequence[str]
) -> EndToEnd:
    """Run both cascades on the same prompts, seeds and noise and compare their pictures."""
    worst: dict[str, float] = {}
    differing = 0.0
    for seed, prompt in enumerate(prompts):
        request = GenerateRequest(prompt=prompt, seed=seed)
        reference, result = pictures(original, request), pictures(exported, request)
        for name, image in result.items():
            worst[name] = min(worst.get(name, np.inf), psnr_db(image, reference[name]))
        last = list(result)[-1]
        differing = max(differing, float(np.mean(result[last] != reference[last])))
    return EndToEnd(worst, differing)


def pictures(stages: Sequence[Stage], request: GenerateRequest) -> dict[str, ImageU8]:
    """The picture of every stage by name."""
    return {
        event.stage: event.handoff.image
        for event in generate(stages, request)
        if isinstance(event, StageFinished) and event.handoff.image is not None
    }
