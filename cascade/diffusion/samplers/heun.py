"""Heun: two evaluations a step, and an error that falls with the square of the steps.

An Euler step of the equation in `sigma / alpha` (`euler`, which is DDIM's step), then the mean of
the slopes at both of its ends. Yields after every evaluation, so that progress and cost count what
takes the time. Knows what `cascade.diffusion.samplers.sampling` knows.

References:
    Karras et al. 2022 (arXiv 2206.00364), algorithm 1.
"""

from collections.abc import Generator

from cascade.diffusion.samplers.ddim import ddim_step
from cascade.diffusion.samplers.sampling import DenoiserAt, SamplerStep, times_of
from cascade.diffusion.schedule import Schedule
from cascade.numerics.chunked import weighted_sum
from cascade.types import Batch, Time, Times


def correction(schedule: Schedule, t: Time, s: Time) -> float:
    """Weight of the later estimate less the earlier one, added to a step between two scalar times.

    Both times are of shape `[]`. Half of `alpha(s) (r - 1)` with `r` the quotient of
    `sigma / alpha` at `t` and at `s`. Nothing where no signal is left at `t`: that one step stays
    Euler's.
    """
    alpha_t, alpha_s = float(schedule.alpha(t)), float(schedule.alpha(s))
    if alpha_t == 0:
        return 0.0
    ratio = (float(schedule.sigma(t)) * alpha_s) / (alpha_t * float(schedule.sigma(s)))
    return 0.5 * alpha_s * (ratio - 1)


def heun(
    denoise: DenoiserAt, x: Batch, schedule: Schedule, times: Times
) -> Generator[SamplerStep, None, None]:
    """Sample deterministically from noise, with two evaluations at every step but the last.

    Args:
        denoise: step index to denoiser; both evaluations of a step ask with its index.
        x: noise at `times[0]`, `[B, 3, H, W]`.
        schedule: what the times mean.
        times: `[n + 1]`, decreasing, the last one 0; one step between each two.

    Yields:
        `2 n - 1` evaluations; the first of a step holds Euler's images.
    """
    total = 2 * (len(times) - 1) - 1
    for index in range(len(times) - 1):
        t, s = times[index], times[index + 1]
        x0 = denoise(index)(x, times_of(x, t)).x0
        if s == 0:
            yield SamplerStep(total, total, x0, x0)
            return
        x = ddim_step(schedule, x, x0, t, s)
        yield SamplerStep(2 * index + 1, total, x, x0)
        later = denoise(index)(x, times_of(x, s)).x0
        weight = correction(schedule, t, s)
        x = weighted_sum((1.0, x), (weight, later), (-weight, x0))
        yield SamplerStep(2 * index + 2, total, x, later)
