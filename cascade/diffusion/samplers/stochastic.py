"""The stochastic N-step sampler for distilled models: two steps forward, one back.

Each step denoises deterministically over twice the step size, then adds fresh noise to come back by
one. With few steps this spends the randomness that deterministic sampling of a student lacks.

References:
    US 11978141 (sampling of progressively distilled models); Karras et al. 2022 (arXiv 2206.00364)
    for the idea of noise added back between deterministic steps.
"""

import math
from collections.abc import Generator

from cascade.diffusion.samplers.ddim import ddim_step
from cascade.diffusion.samplers.sampling import DenoiserAt, NoiseAt, SamplerStep, times_of
from cascade.diffusion.schedule import Schedule
from cascade.numerics.chunked import weighted_sum
from cascade.numerics.elementary import exponential_minus_1
from cascade.types import Batch, Time, Times


def add_noise(schedule: Schedule, x_s: Batch, s: Time, t: Time, noise: Batch) -> Batch:
    """Move `x_s` from time `s` forward to the later time `t` by the diffusion process.

    Args:
        schedule: what the times mean.
        x_s: `[B, 3, H, W]` float32.
        s: present time in (0, 1], a scalar.
        t: later time, a scalar.
        noise: standard normal, of the shape of `x_s`, float32.

    Returns:
        The images at time `t`, `[B, 3, H, W]` float32.
    """
    ratio = float(schedule.alpha(t)) / float(schedule.alpha(s))
    # The share of the noise at t that was not there at s, from log-SNRs: no small difference of
    # two numbers near 1.
    added = -exponential_minus_1(float(schedule.log_snr(t)) - float(schedule.log_snr(s)))
    scale = float(schedule.sigma(t)) * math.sqrt(added)
    return weighted_sum((ratio, x_s), (scale, noise))


def stochastic(
    denoise: DenoiserAt, x: Batch, schedule: Schedule, times: Times, noise: NoiseAt
) -> Generator[SamplerStep, None, None]:
    """Sample with one DDIM step of twice the size and one noisy step back, N times.

    Args:
        denoise: step index to denoiser.
        x: noise at `times[0]`, `[B, 3, H, W]`.
        schedule: what the times mean.
        times: `[total + 1]`, decreasing, the last one 0; one step between each two.
        noise: step index to standard normal noise.
    """
    total = len(times) - 1
    for index in range(total):
        t, back = times[index], times[index + 1]
        x0 = denoise(index)(x, times_of(x, t)).x0
        if back == 0:
            x = x0
        else:
            ahead = times[min(index + 2, total)]
            reached = ddim_step(schedule, x, x0, t, ahead) if ahead > 0 else x0
            x = add_noise(schedule, reached, ahead, back, noise(index))
        yield SamplerStep(index + 1, total, x, x0)
