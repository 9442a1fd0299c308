"""What a super-resolution stage is shown of the smaller image: enlarged, then noise-augmented.

Knows images and noise; not networks, steps or where the image came from.

References:
    Ho et al. 2021 (arXiv 2106.15282), section 4; Saharia et al. 2022 (arXiv 2205.11487), 2.4.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cascade.schedule import CosineSchedule
from cascade.types import Batch

AUGMENTATION = CosineSchedule()
"""An augmentation of level `s` is this schedule's forward process at time `s`."""

KEYS = -0.5
"""Free parameter of the cubic kernel; -1/2 reproduces quadratics (Keys 1981, eq. 15)."""


def cubic_kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel at those distances, in pixels of the smaller image."""
    d = np.abs(distance)
    near = ((KEYS + 2) * d - (KEYS + 3)) * d * d + 1
    far = ((KEYS * d - 5 * KEYS) * d + 8 * KEYS) * d - 4 * KEYS
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@lru_cache(maxsize=16)
def enlarging_matrix(size: int, factor: int) -> NDArray[np.float32]:
    """`[size * factor, size]`: one axis of cubic enlargement, centres aligned, edges repeated."""
    centres = (np.arange(size * factor) + 0.5) / factor - 0.5
    matrix = np.zeros((size * factor, size))
    base = np.floor(centres).astype(int)
    for tap in range(-1, 3):
        column = np.clip(base + tap, 0, size - 1)
        np.add.at(matrix, (np.arange(size * factor), column), cubic_kernel(centres - base - tap))
    narrow = matrix.astype(np.float32)
    narrow.flags.writeable = False
    return narrow


def enlarge(images: Batch, factor: int) -> Batch:
    """Images `factor` times larger by cubic convolution.

    Args:
        images: `[B, 3, H, W]` float32.
        factor: whole number.

    Returns:
        `[B, 3, H * factor, W * factor]` float32.
    """
    height, width = images.shape[-2:]
    wide = images @ enlarging_matrix(width, factor).T
    return np.asarray(enlarging_matrix(height, factor) @ wide, np.float32)


def augment(images: Batch, level: float, noise: Batch) -> Batch:
    """Images corrupted by the forward process at time `level` in [0, 1]; 0 returns them as is.

    The schedule's own tiny noise at time 0 is left out, so that level 0 needs no draw.
    """
    if level == 0.0:
        return images
    time = np.float64(level)
    alpha, sigma = AUGMENTATION.alpha(time), AUGMENTATION.sigma(time)
    return np.float32(alpha) * images + np.float32(sigma) * noise
