"""DDIM: the deterministic sampler.

References:
    Song et al. 2021 (arXiv 2010.02502), eq. 12 with eta = 0.
"""

from collections.abc import Generator, Iterator
from dataclasses import replace

from cascade.diffusion.samplers.sampling import DenoiserAt, SamplerStep, times_of
from cascade.diffusion.schedule import Schedule
from cascade.numerics.chunked import weighted_sum
from cascade.types import Batch, Time, Times


def ddim_step(schedule: Schedule, x_t: Batch, x0: Batch, t: Time, s: Time) -> Batch:
    """Move `x_t` from time `t` to the earlier time `s` along the line through the estimate `x0`.

    Args:
        schedule: what the times mean.
        x_t: `[B, 3, H, W]` float32.
        x0: the estimate of the clean images, of the shape of `x_t`, float32.
        t: present time in (0, 1], a scalar.
        s: earlier time, a scalar.

    Returns:
        The images at time `s`, `[B, 3, H, W]` float32.
    """
    # alpha_s x0 + sigma_s epsilon, with epsilon = (x_t - alpha_t x0) / sigma_t put in: half the
    # passes over the pictures, and no small difference divided by a small sigma.
    kept = float(schedule.sigma(s)) / float(schedule.sigma(t))
    return weighted_sum(
        (kept, x_t), (float(schedule.alpha(s)) - kept * float(schedule.alpha(t)), x0)
    )


def ddim(
    denoise: DenoiserAt, x: Batch, schedule: Schedule, times: Times
) -> Generator[SamplerStep, None, None]:
    """Sample deterministically from noise.

    Args:
        denoise: step index to denoiser.
        x: noise at `times[0]`, `[B, 3, H, W]`.
        schedule: what the times mean.
        times: `[total + 1]`, decreasing, the last one 0; one step between each two.
    """
    total = len(times) - 1
    for index in range(total):
        t, s = times[index], times[index + 1]
        x0 = denoise(index)(x, times_of(x, t)).x0
        # At time 0 the estimate is the result; the schedule's own floor of noise is dropped.
        x = ddim_step(schedule, x, x0, t, s) if s > 0 else x0
        yield SamplerStep(index + 1, total, x, x0)


def final_step(
    steps: Iterator[SamplerStep], schedule: Schedule, times: Times, start: Batch
) -> Generator[SamplerStep, None, None]:
    """The steps of `ddim`, the last one a step like the others rather than the estimate itself.

    It ends with the noise that a schedule keeps at time 0.

    Args:
        steps: of `ddim`.
        schedule: what the times mean; at time 0 its signal power is below 1.
        times: as `ddim` was given them, `[total + 1]`.
        start: as `ddim` was given it, `[B, 3, H, W]`.
    """
    before = start
    for step in steps:
        if step.index < step.total:
            before = step.x_t
            yield step
        else:
            x = ddim_step(schedule, before, step.x0, times[-2], times[-1])
            yield replace(step, x_t=x)
