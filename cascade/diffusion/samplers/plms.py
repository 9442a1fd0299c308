"""PLMS: a linear multistep method over the last four noise estimates, one evaluation a step.

The first step is taken twice: towards the first noise estimate, then again towards the mean of it
and of the one at the step's end. Later steps weight the last two, three, four noise estimates as
Adams and Bashforth do. The last step is a step like the others, to what the schedule keeps at time
0. Knows what `cascade.diffusion.samplers.sampling` knows.

References:
    Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds" (arXiv
    2202.09778), eq. 11 and 12; in diffusers: `PNDMScheduler` with `skip_prk_steps`.
"""

from collections.abc import Generator, Sequence

from cascade.diffusion.samplers.ddim import ddim_step
from cascade.diffusion.samplers.sampling import DenoiserAt, SamplerStep, times_of
from cascade.diffusion.schedule import Schedule
from cascade.diffusion.spec import evaluations
from cascade.numerics.chunked import weighted_sum
from cascade.types import Batch, Time, Times

WEIGHTS: tuple[tuple[float, ...], ...] = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Of the last noise estimates, the latest first, by how many there are."""


def plms(
    denoise: DenoiserAt, x: Batch, schedule: Schedule, times: Times
) -> Generator[SamplerStep, None, None]:
    """Sample deterministically from noise.

    Args:
        denoise: step index to denoiser; both evaluations of the first step ask with its index.
        x: noise at `times[0]`, `[B, 3, H, W]`.
        schedule: what the times mean; it keeps some signal at each.
        times: `[n + 1]`, decreasing, the last one 0; one step between each two.

    Yields:
        `n + 1` evaluations, or one where `n` is 1; the first one holds DDIM's images.
    """
    steps = len(times) - 1
    total = evaluations("plms", steps)
    known: list[Batch] = []
    for index in range(steps):
        t, s = times[index], times[index + 1]
        start, x0 = x, denoise(index)(x, times_of(x, t)).x0
        known = [noise_of(schedule, x, x0, t), *known[:3]]
        if index > 0:
            x = step_along(schedule, x, WEIGHTS[len(known) - 1], known, (t, s))
            yield SamplerStep(index + 2, total, x, x0)
            continue
        # Without the way by the noise, which divides by a signal that is hardly there.
        x = ddim_step(schedule, x, x0, t, s)
        yield SamplerStep(1, total, x, x0)
        if steps > 1:
            x0 = denoise(index)(x, times_of(x, s)).x0
            both = (known[0], noise_of(schedule, x, x0, s))
            x = step_along(schedule, start, (0.5, 0.5), both, (t, s))
            yield SamplerStep(2, total, x, x0)


def noise_of(schedule: Schedule, x: Batch, x0: Batch, t: Time) -> Batch:
    """The noise that an estimate leaves of noisy images.

    Args:
        schedule: what the time means.
        x: `[B, 3, H, W]` float32.
        x0: the estimate of the clean images, of that shape.
        t: above 0, a scalar.

    Returns:
        `[B, 3, H, W]` float32.
    """
    sigma = float(schedule.sigma(t))
    return weighted_sum((1 / sigma, x), (-float(schedule.alpha(t)) / sigma, x0))


def step_along(
    schedule: Schedule,
    x: Batch,
    weights: Sequence[float],
    known: Sequence[Batch],
    times: tuple[Time, Time],
) -> Batch:
    """Move `x` to an earlier time along weighted noise estimates.

    Args:
        schedule: what the times mean.
        x: `[B, 3, H, W]` float32, at the first time.
        weights: one for each estimate; together 1.
        known: noise estimates, of the shape of `x`.
        times: the present one and the earlier one, scalars.

    Returns:
        `[B, 3, H, W]` float32.
    """
    t, s = times
    noise = weighted_sum(*zip(weights, known, strict=True))
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    return ddim_step(schedule, x, weighted_sum((1 / alpha, x), (-sigma / alpha, noise)), t, s)
