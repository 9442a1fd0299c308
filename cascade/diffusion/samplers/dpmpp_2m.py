"""DPM-Solver++ (2M): second order for one evaluation a step, for it remembers the last estimate.

A step of DDIM towards an estimate that is carried on in a straight line over log-SNR. The first
step has no estimate before it and is DDIM's own, as is one from pure noise. Knows what
`cascade.diffusion.samplers.sampling` knows.

References:
    Lu et al. 2022, "DPM-Solver++" (arXiv 2211.01095), algorithm 2; in diffusers:
    `solver_order=2, solver_type="midpoint", final_sigmas_type="zero"`.
"""

from collections.abc import Generator

from cascade.diffusion.samplers.ddim import ddim_step
from cascade.diffusion.samplers.sampling import DenoiserAt, SamplerStep, times_of
from cascade.diffusion.schedule import Schedule
from cascade.numerics.chunked import weighted_sum
from cascade.types import Batch, Time, Times


def dpmpp_2m(
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
    before: Batch | None = None
    for index in range(total):
        t, s = times[index], times[index + 1]
        x0 = denoise(index)(x, times_of(x, t)).x0
        if s == 0:
            x = x0
        elif before is None:
            x = ddim_step(schedule, x, x0, t, s)
        else:
            x = second_order_step(schedule, x, (before, x0), (times[index - 1], t, s))
        before = x0
        yield SamplerStep(index + 1, total, x, x0)


def second_order_step(
    schedule: Schedule, x: Batch, estimates: tuple[Batch, Batch], times: tuple[Time, Time, Time]
) -> Batch:
    """Move `x` to an earlier time along two estimates.

    Args:
        schedule: what the times mean.
        x: `[B, 3, H, W]` float32, at the second time.
        estimates: of the clean images at the first time and at the second, of that shape.
        times: of the step before, of this one, and the earlier time, above 0; scalars.

    Returns:
        `[B, 3, H, W]` float32.
    """
    first, t, s = (float(schedule.log_snr(time)) for time in times)
    # From pure noise the way before was endless, and its estimate tells nothing of this step.
    ahead = 0.5 * (s - t) / (t - first)
    kept = float(schedule.sigma(times[2])) / float(schedule.sigma(times[1]))
    toward = float(schedule.alpha(times[2])) - kept * float(schedule.alpha(times[1]))
    before, x0 = estimates
    return weighted_sum((kept, x), (toward * (1 + ahead), x0), (-toward * ahead, before))
