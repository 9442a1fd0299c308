"""Everything that is computed with pictures outside an engine, as hashes: a child process's work.

Run as a module it prints one JSON object: the name of each part and the sha256 of its numbers.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from cascade.codecs.image import ImageFormat, decode_image, encode_image, from_network, to_network
from cascade.diffusion.betas import BetaSpec
from cascade.diffusion.conditioning import augment, upsample
from cascade.diffusion.continuous import FlowSpec, SigmaSpec
from cascade.diffusion.denoiser import Denoiser, Estimate, x0_of
from cascade.diffusion.enlarging import enlarge
from cascade.diffusion.guidance import GuidedDenoiser, Projected
from cascade.diffusion.parametrization import Prediction
from cascade.diffusion.samplers.choice import SAMPLERS, SamplerInputs, sample
from cascade.diffusion.schedule import (
    CosineSchedule,
    LinearSchedule,
    Schedule,
    ScheduleSpec,
    TableSpec,
    make_schedule,
)
from cascade.diffusion.spec import EnlargeKind, SamplerKind
from cascade.diffusion.thresholding import DynamicThreshold, StaticThreshold
from cascade.diffusion.unconditional import with_null_half
from cascade.numerics.noise import AUGMENTATION, START, normal_table, normals
from cascade.types import Array, Batch, ImageU8, PerSample

SIZE = 160
"""Of the small picture; enlarged it has more values than are worked on at a time."""
SMALL = 64
TABLE = TableSpec(alpha_bar=tuple(0.999 - 0.99 * n / 50 for n in range(50)))
SCHEDULES: tuple[Schedule, ...] = (CosineSchedule(), LinearSchedule(), make_schedule(TABLE))
BETAS = BetaSpec(kind="betas", rule="squared_cosine", train_steps=60, spacing="linspace_inside")
EDM = SigmaSpec(kind="sigmas", rule="karras", lowest=0.002, highest=80.0)
FORMULAS: tuple[ScheduleSpec, ...] = (
    BETAS,
    replace(BETAS, rule="scaled_linear", zero_terminal_snr=True),
    replace(BETAS, rule="sigmoid", ramp="karras"),
    EDM,
    replace(EDM, rule="exponential"),
    FlowSpec(kind="flow", shift=3.0),
)
FIRST_SAMPLERS: tuple[SamplerKind, ...] = ("ddim", "ddpm", "ddpm_final_noise", "stochastic")
"""Those whose bits were written down before there were others."""
LAST_MEAN: SamplerKind = "ddpm_final_mean"
LATER_SAMPLERS: tuple[SamplerKind, ...] = ("plms", "ddim_final_step")


def picture() -> ImageU8:
    """A picture as a stage hands it on: bytes without order."""
    values = np.arange(SIZE * SIZE * 3, dtype=np.uint64) * np.uint64(2654435761)
    return ((values >> np.uint64(11)) & np.uint64(255)).astype(np.uint8).reshape(SIZE, SIZE, 3)


def noise(step: int) -> Batch:
    """A small draw."""
    return normals((1, 3, SMALL, SMALL), seed=9, image=2, stage=1, step=step)


def denoiser(schedule: Schedule, kind: Prediction, variance: Batch | None) -> Denoiser:
    """A denoiser without a network: its prediction is a polynomial of the noisy image."""

    def denoise(x_t: Batch, t: PerSample) -> Estimate:
        prediction = np.float32(0.3) * x_t * x_t - np.float32(0.8) * x_t
        times = np.asarray(t, np.float64)
        alpha, sigma = schedule.alpha(times), schedule.sigma(times)
        learned = None if variance is None else np.repeat(variance, len(x_t), axis=0)
        return Estimate(x0_of(kind, prediction, x_t, alpha, sigma), learned)

    return denoise


def draws() -> Iterator[Array]:
    """Noise and its table."""
    yield normal_table()
    yield normals((1, 3, 300, 300), seed=2**64 - 1, image=1, stage=3, step=AUGMENTATION)


def schedules() -> Iterator[Array]:
    """What every schedule says at many times, and the weights in float32 that pictures meet."""
    times = np.linspace(0, 1, 2001)
    for schedule in SCHEDULES:
        for values in (schedule.alpha(times), schedule.sigma(times), schedule.log_snr(times[1:])):
            yield from (values, values.astype(np.float32))
        yield from (schedule.timesteps(steps) for steps in (1, 2, 7, 50))


def conditioning() -> Iterator[Array]:
    """Enlarged pictures, whole and odd factors, both kinds; then augmented."""
    small = to_network(picture())
    for factor in (2, 3, 4):
        yield upsample(small, factor)
        yield upsample(small[..., :50], factor, "bilinear_corners")
    draw = normals(small.shape, seed=9, image=2, stage=1, step=AUGMENTATION)
    for schedule in SCHEDULES:
        yield from (augment(small, level, draw, schedule) for level in (0.03, 0.1, 0.5, 0.97))


def sampled() -> Iterator[Array]:
    """Every sampler under every schedule and prediction, guided, thresholded; learned variances."""
    weight = np.array([2.5], np.float32)
    for schedule in SCHEDULES:
        for kind in FIRST_SAMPLERS:
            for prediction, variance in (("v", None), ("epsilon", noise(77)), ("x0", None)):
                inner = denoiser(schedule, prediction, variance)  # type: ignore[arg-type]
                guided = DynamicThreshold(GuidedDenoiser(inner, weight), 0.9)
                inputs = SamplerInputs(
                    denoise=lambda _, guided=guided: guided,  # type: ignore[misc]
                    start=noise(START),
                    schedule=schedule,
                    times=schedule.timesteps(5),
                    noise=noise,
                    gamma=0.3,
                )
                yield from (step.x_t for step in sample(kind, inputs))


def solved() -> Iterator[Array]:
    """Solvers under every schedule by formula, guided without the parallel part."""
    known = {*FIRST_SAMPLERS, LAST_MEAN, *LATER_SAMPLERS}
    return by_formula(sorted(set(SAMPLERS) - known))


def last_means() -> Iterator[Array]:
    """The sampler that ends with the mean of the posterior, as `solved`."""
    return by_formula([LAST_MEAN])


def ending_noisy() -> Iterator[Array]:
    """Samplers that may end at a training step's noise, on a table that keeps some at time 0."""
    schedule = make_schedule(replace(TABLE, at_zero=TABLE.alpha_bar[0]))
    for kind in LATER_SAMPLERS:
        inner = denoiser(schedule, "epsilon", None)
        inputs = SamplerInputs(
            denoise=lambda _, inner=inner: StaticThreshold(inner),  # type: ignore[misc]
            start=noise(START),
            schedule=schedule,
            times=schedule.timesteps(6),
            noise=noise,
            gamma=0.0,
        )
        yield from (step.x_t for step in sample(kind, inputs))


def by_formula(kinds: Sequence[SamplerKind]) -> Iterator[Array]:
    """Every step of samplers under every schedule by formula."""
    weight = np.array([2.5], np.float32)
    predictions: tuple[Prediction, ...] = ("v", "flow")
    for spec in FORMULAS:
        schedule = make_schedule(spec)
        times = np.linspace(0, 1, 501)
        yield from (schedule.alpha(times), schedule.sigma(times), schedule.log_snr(times[1:-1]))
        yield from (schedule.timesteps(steps) for steps in (1, 2, 7))
        for kind in kinds:
            for prediction in predictions:
                combine = Projected(schedule, prediction)
                inner = denoiser(schedule, prediction, None)
                guided = StaticThreshold(GuidedDenoiser(inner, weight, combine))
                inputs = SamplerInputs(
                    denoise=lambda _, guided=guided: guided,  # type: ignore[misc]
                    start=noise(START),
                    schedule=schedule,
                    times=schedule.timesteps(4),
                    noise=noise,
                    gamma=0.0,
                )
                yield from (step.x_t for step in sample(kind, inputs))


def enlarged() -> Iterator[Array]:
    """The kinds of enlarging that take bytes."""
    kinds: tuple[EnlargeKind, ...] = ("nearest", "bilinear", "bicubic_pil")
    for size in ((2 * SIZE, 2 * SIZE), (SIZE + 7, SIZE + 3)):
        yield from (enlarge(picture(), size, kind) for kind in kinds)


def thresholds() -> Iterator[Array]:
    """Percentiles of many magnitudes and of few, with a cap and without; clipping."""

    def wide(x_t: Batch, _: PerSample) -> Estimate:
        return Estimate(np.float32(1.7) * x_t)

    large = normals((1, 3, 256, 256), seed=4, image=0, stage=2, step=0)
    for x_t in (large, large[..., :9, :9]):
        for share in (0.5, 0.9, 0.995):
            yield DynamicThreshold(wide, share)(x_t, np.ones(1, np.float32)).x0
        yield DynamicThreshold(wide, 0.99, 1.5)(x_t, np.ones(1, np.float32)).x0
        yield StaticThreshold(wide)(x_t, np.ones(1, np.float32)).x0


def codecs() -> Iterator[Array]:
    """Pictures to network values and back, and through every format that loses nothing."""
    yield to_network(picture())
    yield from_network(np.float32(1.1) * noise(3))
    yield from (through("raw"), through("png"), through("webp"))


def jpeg() -> Iterator[Array]:
    """Through the format that loses something: what, is the library's choice."""
    yield through("jpeg")


def through(format_: ImageFormat) -> ImageU8:
    """The picture, encoded and decoded."""
    data = encode_image(picture(), format_)
    return decode_image(data, format_, (SIZE, SIZE), field="image")


def contexts() -> Iterator[Array]:
    """Embeddings to half precision and back, the null half beside them."""
    context = noise(5).reshape(1, -1, SMALL)[:, :21].astype(np.float16)
    inputs = {"context": context.astype(np.float32), "context_mask": np.ones((1, 21), np.float32)}
    yield from (context, *with_null_half(inputs, context[0, :9]).values())


PARTS: tuple[Callable[[], Iterator[Array]], ...] = (
    draws,
    schedules,
    conditioning,
    sampled,
    solved,
    last_means,
    ending_noisy,
    enlarged,
    thresholds,
    codecs,
    jpeg,
    contexts,
)


def hashes() -> dict[str, str]:
    """The name of every part and the sha256 of its arrays."""
    found = {}
    for part in PARTS:
        digest = hashlib.sha256()
        for values in part():
            digest.update(f"{values.shape}{values.dtype.str}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        found[part.__name__] = digest.hexdigest()
    return found


if __name__ == "__main__":
    json.dump(hashes(), sys.stdout)
