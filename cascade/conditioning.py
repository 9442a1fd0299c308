"""What a super-resolution stage is shown of the smaller image: enlarged, then noise-augmented.

Knows images and noise; not networks, steps or where the image came from.

References:
    Ho et al. 2021 (arXiv 2106.15282), section 4; Saharia et al. 2022 (arXiv 2205.11487), 2.4.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cascade.pieces import weighted_sum
from cascade.schedule import CosineSchedule, Schedule
from cascade.types import Batch

AUGMENTATION = CosineSchedule()
"""An augmentation of level `s` is a schedule's forward process at time `s`: this one unless the
manifest names another."""

EnlargeKind = Literal["cubic", "bilinear_corners"]
"""How the smaller image is enlarged: by cubic convolution, or linearly between corner pixels."""

BAND = 64
"""Rows of an enlarging matrix worked on at a time."""

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


@lru_cache(maxsize=16)
def corner_matrix(size: int, factor: int) -> NDArray[np.float32]:
    """`[size * factor, size]`: one axis of linear enlargement, corner pixels on corner pixels."""
    places = np.arange(size * factor) * ((size - 1) / max(size * factor - 1, 1))
    below = np.clip(np.floor(places).astype(int), 0, max(size - 2, 0))
    matrix = np.zeros((size * factor, size))
    rows = np.arange(size * factor)
    matrix[rows, below] = 1 - (places - below)
    matrix[rows, np.minimum(below + 1, size - 1)] += places - below
    narrow = matrix.astype(np.float32)
    narrow.flags.writeable = False
    return narrow


MATRICES = {"cubic": enlarging_matrix, "bilinear_corners": corner_matrix}


def enlarge(images: Batch, factor: int, kind: EnlargeKind = "cubic") -> Batch:
    """Images `factor` times larger.

    Args:
        images: `[B, 3, H, W]` float32.
        factor: whole number.
        kind: how the pixels between are made.

    Returns:
        `[B, 3, H * factor, W * factor]` float32.
    """
    batch, channels, height, width = images.shape
    rows, columns = MATRICES[kind](height, factor), MATRICES[kind](width, factor)
    wide = np.empty((batch, channels, height, width * factor), np.float32)
    for large, small in bands(columns):
        np.matmul(images[..., small], columns[large, small].T, out=wide[..., large])
    out = np.empty((batch, channels, height * factor, width * factor), np.float32)
    for large, small in bands(rows):
        np.matmul(rows[large, small], wide[..., small, :], out=out[..., large, :])
    return out


def bands(matrix: NDArray[np.float32]) -> list[tuple[slice, slice]]:
    """The blocks of an enlarging matrix that are not zero throughout: slices of rows and columns.

    A row has four entries of hundreds: with the blocks alone a twelfth of the products is left.
    """
    blocks = []
    for begin in range(0, len(matrix), BAND):
        used = np.flatnonzero(matrix[begin : begin + BAND].any(axis=0))
        large = slice(begin, min(begin + BAND, len(matrix)))
        blocks.append((large, slice(int(used[0]), int(used[-1]) + 1)))
    return blocks


def augment(images: Batch, level: float, noise: Batch, schedule: Schedule = AUGMENTATION) -> Batch:
    """Images corrupted by a schedule's forward process at time `level` in [0, 1]; 0 leaves them.

    The schedule's own tiny noise at time 0 is left out, so that level 0 needs no draw.
    """
    if level == 0.0:
        return images
    time = np.float64(level)
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    return weighted_sum((float(alpha), images), (float(sigma), noise))
