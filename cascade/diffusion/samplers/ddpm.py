"""DDPM: ancestral sampling with a variance between the two bounds, chosen or learned.

References:
    Ho et al. 2020 (arXiv 2006.11239), eq. 7; the interpolation of the log variance and the
    stochasticity gamma as in US 11978141 and Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 15.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from cascade.diffusion.samplers.sampling import DenoiserAt, NoiseAt, SamplerStep, times_of
from cascade.diffusion.schedule import Schedule
from cascade.numerics.chunked import chunks, weighted_sum
from cascade.numerics.elementary import exponential, exponential_minus_1, logarithm
from cascade.types import Array, Batch, Time, Times


@dataclass(frozen=True, slots=True)
class Posterior:
    """Mean weights and variance of `q(x_s | x_t, x_0)`, s earlier than t.

    Attributes:
        from_x0: weight of the clean estimate in the mean.
        from_x_t: weight of the noisy image in the mean.
        log_variance: log of the variance, interpolated; per pixel where gamma is.
    """

    from_x0: float
    from_x_t: float
    log_variance: float | Array


def posterior(schedule: Schedule, t: Time, s: Time, gamma: float | Array) -> Posterior:
    """The ancestral step from `t` to `s`.

    Args:
        schedule: what the times mean.
        t: present time in (0, 1], a scalar.
        s: earlier time, above 0, a scalar.
        gamma: 0 takes the lower bound of the variance (the posterior of one image), 1 the upper
            bound (`1 - alpha_t^2 / alpha_s^2`); between them the logarithm is interpolated. One
            number, or one per pixel, `[B, 3, H, W]` float32.
    """
    sigma_t, sigma_s = float(schedule.sigma(t)), float(schedule.sigma(s))
    mean = posterior_mean(schedule, t, s)
    upper = sigma_t**2 * mean.added
    lower = sigma_s**2 * mean.added
    return Posterior(
        from_x0=mean.from_x0,
        from_x_t=mean.from_x_t,
        log_variance=gamma * logarithm(upper) + (1 - gamma) * logarithm(lower),
    )


@dataclass(frozen=True, slots=True)
class PosteriorMean:
    """The mean of `q(x_s | x_t, x_0)`.

    Attributes:
        from_x0: weight of the clean estimate.
        from_x_t: weight of the noisy image.
        added: share of the noise at t that was added since s.
    """

    from_x0: float
    from_x_t: float
    added: float


def posterior_mean(schedule: Schedule, t: Time, s: Time) -> PosteriorMean:
    """The mean of the ancestral step between two scalar times, the later first; each is `[]`."""
    alpha_t, alpha_s = float(schedule.alpha(t)), float(schedule.alpha(s))
    # 1 - exp(log-SNR(t) - log-SNR(s)): the share of the noise at t that was added since s.
    added = -float(exponential_minus_1(float(schedule.log_snr(t)) - float(schedule.log_snr(s))))
    ratio = alpha_t / alpha_s
    # Where no signal is left at t, nothing of it says what the picture was.
    return PosteriorMean(alpha_s * added, (1 - added) / ratio if ratio > 0 else 0.0, added)


def ancestral_step(step: Posterior, x0: Batch, x_t: Batch, noise: Batch) -> Batch:
    """The step taken: the mean, and noise of the variance around it.

    Args:
        step: from the present time to the earlier one.
        x0: the estimate of the clean images, `[B, 3, H, W]` float32.
        x_t: the noisy images, of the same shape, float32.
        noise: standard normal, of the same shape, float32.

    Returns:
        The images at the earlier time, `[B, 3, H, W]` float32.
    """
    log_variance = np.broadcast_to(step.log_variance, x_t.shape).reshape(-1)
    out = np.empty(x_t.shape, np.float32)
    lines = [images.reshape(-1) for images in (out, x0, x_t, noise)]
    # Without a learned variance one deviation serves all pixels; it is the first one's.
    one = exponential(0.5 * log_variance[:1]).astype(np.float32)
    for part in chunks(x_t.size):
        total, estimate, noisy, draws = (line[part] for line in lines)
        deviation = one
        if np.ndim(step.log_variance):
            deviation = exponential(0.5 * log_variance[part]).astype(np.float32)
        np.multiply(estimate, np.float32(step.from_x0), out=total)
        total += np.float32(step.from_x_t) * noisy
        total += deviation * draws
    return out


def ddpm(
    denoise: DenoiserAt,
    x: Batch,
    schedule: Schedule,
    times: Times,
    noise: NoiseAt,
    gamma: float = 0.0,
) -> Generator[SamplerStep, None, None]:
    """Sample with fresh noise at every step but the last.

    Args:
        denoise: step index to denoiser.
        x: noise at `times[0]`, `[B, 3, H, W]`.
        schedule: what the times mean.
        times: `[total + 1]`, decreasing, the last one 0; one step between each two.
        noise: step index to standard normal noise.
        gamma: where between the lower (0) and the upper (1) variance; a learned variance, where
            the denoiser gives one, takes its place.
    """
    total = len(times) - 1
    for index in range(total):
        t, s = times[index], times[index + 1]
        estimate = denoise(index)(x, times_of(x, t))
        x0 = estimate.x0
        if s > 0:
            # A learned variance goes from -1 at the lower bound to 1 at the upper.
            share = gamma if estimate.variance is None else (estimate.variance + 1) / 2
            step = posterior(schedule, t, s, share)
            x = ancestral_step(step, x0, x, noise(index))
        else:
            x = x0
        yield SamplerStep(index + 1, total, x, x0)


def final_noise(
    steps: Iterator[SamplerStep],
    schedule: Schedule,
    times: Times,
    noise: NoiseAt,
    first_time: Time,
) -> Generator[SamplerStep, None, None]:
    """The steps of `ddpm` with gamma 1, the last one with noise of its upper variance as well.

    The lower variance of a step to the clean image is 0, the upper one `sigma_t^2`. Ancestral
    samplers that ask whether the training step is above 0, rather than whether a step follows, add
    it to the finished picture.

    Args:
        steps: of `ddpm`.
        schedule: what the times mean.
        times: as `ddpm` was given them, `[total + 1]`.
        noise: step index to standard normal noise.
        first_time: time of training step 0: a run that ends there ends without noise.
    """
    t = times[-2]
    for step in steps:
        if step.index < step.total or t <= first_time:
            yield step
        else:
            deviation = float(schedule.sigma(t))
            drawn = (deviation, noise(step.index - 1))
            yield replace(step, x_t=weighted_sum((1.0, step.x_t), drawn))


def final_mean(
    steps: Iterator[SamplerStep], schedule: Schedule, times: Times, start: Batch
) -> Generator[SamplerStep, None, None]:
    """The steps of `ddpm`, the last one to the mean of the posterior rather than to the estimate.

    Where time 0 keeps a little noise, that mean is a little of the noisy image too: with a
    thousand steps most of it. Noise is not added.

    Args:
        steps: of `ddpm`.
        schedule: what the times mean; at time 0 its signal power is below 1.
        times: as `ddpm` was given them, `[total + 1]`.
        start: as `ddpm` was given it, `[B, 3, H, W]`.
    """
    before = start
    for step in steps:
        if step.index < step.total:
            before = step.x_t
            yield step
        else:
            mean = posterior_mean(schedule, times[-2], times[-1])
            weights = (mean.from_x0, step.x0), (mean.from_x_t, before)
            yield replace(step, x_t=weighted_sum(*weights))
