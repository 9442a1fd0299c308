"""Known pixels: a denoiser whose pictures are known in part, and are put back at every step.

The network sees what is known, noised to the time of the step, beside what it makes; the estimate
of what is known is what is known. So a sampler needs to know nothing of it. Wraps a denoiser and is
one; knows neither masks' files nor steps.

References:
    Lugmayr et al. 2022, "RePaint" (arXiv 2201.09865), eq. 8.
"""

from dataclasses import dataclass, replace

import numpy as np

from cascade.diffusion.denoiser import Denoiser, Estimate
from cascade.diffusion.schedule import Schedule
from cascade.numerics.chunked import weighted_sum
from cascade.types import Batch, Flags, PerSample, Time


def noised(schedule: Schedule, pictures: Batch, time: Time, noise: Batch) -> Batch:
    """Pictures at a time of a schedule.

    Args:
        schedule: what the time means.
        pictures: `[B, 3, H, W]` float32 in [-1, 1].
        time: in [0, 1], a scalar.
        noise: standard normal, of the shape of `pictures`, float32.

    Returns:
        `[B, 3, H, W]` float32.
    """
    return weighted_sum(
        (float(schedule.alpha(time)), pictures), (float(schedule.sigma(time)), noise)
    )


@dataclass(frozen=True, slots=True)
class KnownPixels:
    """A denoiser of pictures that are known in part.

    Attributes:
        inner: the denoiser to wrap.
        schedule: what times mean.
        pictures: what is known, `[1, 3, H, W]` float32.
        made: `[H, W]`, true where nothing is known.
        noise: standard normal, `[1, 3, H, W]` float32: what the known is noised with.
    """

    inner: Denoiser
    schedule: Schedule
    pictures: Batch
    made: Flags
    noise: Batch

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """The inner estimate of what is not known, and what is known."""
        known = noised(self.schedule, self.pictures, np.float64(t[0]), self.noise)
        estimate = self.inner(np.where(self.made, x_t, known), t)
        return replace(estimate, x0=np.where(self.made, estimate.x0, self.pictures))
