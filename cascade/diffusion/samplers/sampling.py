"""What every sampler takes and yields.

A sampler is a generator function `(denoise, x, schedule, times, noise, ...)`: it yields after every
step, and closing it is cancelling. Knows arrays; not networks, text or images on disk.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cascade.diffusion.denoiser import Denoiser
from cascade.types import Batch, PerSample, Time

DenoiserAt = Callable[[int], Denoiser]
"""The denoiser of each step: guidance may change from one step to the next."""

NoiseAt = Callable[[int], Batch]
"""Fresh standard normal noise of each step, `[B, 3, H, W]`."""


@dataclass(frozen=True, slots=True)
class SamplerStep:
    """State after one step.

    Attributes:
        index: steps done, from 1 to `total`.
        total: steps of the run.
        x_t: the image at the step's end time, `[B, 3, H, W]`; at the last step the result.
        x0: the estimate of the clean image that the step used.
    """

    index: int
    total: int
    x_t: Batch
    x0: Batch


def times_of(x: Batch, t: Time) -> PerSample:
    """One time for every image of a batch.

    Args:
        x: `[B, 3, H, W]` float32.
        t: in [0, 1], a scalar.

    Returns:
        `[B]` float32.
    """
    return np.full(len(x), t, np.float32)
