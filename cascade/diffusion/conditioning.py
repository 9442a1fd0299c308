"""What a super-resolution stage is shown of the smaller image: enlarged, then noise-augmented.

Knows images and noise; not networks, steps or where the image came from.

References:
    Ho et al. 2021 (arXiv 2106.15282), section 4; Saharia et al. 2022 (arXiv 2205.11487), 2.4.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cascade.diffusion.schedule import CosineSchedule, Schedule
from cascade.numerics.chunked import chunks, weighted_sum
from cascade.types import Array, Batch

AUGMENTATION = CosineSchedule()
"""An augmentation of level `s` is a schedule's forward process at time `s`: this one unless the
manifest names another."""

UpsampleKind = Literal["cubic", "bilinear_corners"]
"""How values are enlarged by a whole factor: by cubic convolution, or linearly between corners."""

EDGE = 2
"""Pixels by which a picture is continued at every side, so that all taps of a cubic fall inside."""

TAPPED = 1 << 16
"""Enlarged pixels worked on at a time: with fewer numpy's calls cost more than the work, with more
they leave the processor's cache."""

KEYS = -0.5
"""Free parameter of the cubic kernel; -1/2 reproduces quadratics (Keys 1981, eq. 15)."""


def cubic_kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel (bicubic interpolation).

    Args:
        distance: in pixels of the smaller image, any shape, float64.

    Returns:
        Weights, float64 of that shape; 0 from a distance of 2 on.
    """
    d = np.abs(distance)
    near = ((KEYS + 2) * d - (KEYS + 3)) * d * d + 1
    far = ((KEYS * d - 5 * KEYS) * d + 8 * KEYS) * d - 4 * KEYS
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@dataclass(frozen=True, slots=True)
class Phase:
    """How one of every `factor` enlarged pixels is made of the small ones.

    Attributes:
        first: the small pixel of the first tap, counted from the one that the phase belongs to.
        weights: of that pixel and of those that follow it.
    """

    first: int
    weights: tuple[np.float32, ...]


@lru_cache(maxsize=16)
def cubic_phases(factor: int) -> tuple[Phase, ...]:
    """The phases of cubic enlargement, centres aligned: four taps each."""
    found = []
    for phase in range(factor):
        centre = (phase + 0.5) / factor - 0.5
        base = math.floor(centre)
        distances = np.array([centre - base - tap for tap in range(-1, 3)])
        weights = cubic_kernel(distances).astype(np.float32)
        found.append(Phase(base - 1, tuple(weights)))
    return tuple(found)


def upsample(images: Batch, factor: int, kind: UpsampleKind = "cubic") -> Batch:
    """Images `factor` times larger: the same bits on every machine.

    Columns first, then rows. Every product and every sum is rounded to float32 by itself, in the
    order of the taps: a matrix product would be shorter to write, but the order of its sums is the
    library's, and follows the processor and the number of its cores.

    Args:
        images: `[B, 3, H, W]` float32.
        factor: whole number.
        kind: how the pixels between are made.

    Returns:
        `[B, 3, H * factor, W * factor]` float32.
    """
    if kind == "bilinear_corners":
        height, width = images.shape[2:]
        turned = upsample_height_between(images.swapaxes(2, 3), corners(width, factor))
        wide = np.ascontiguousarray(turned.swapaxes(2, 3))
        return upsample_height_between(wide, corners(height, factor))
    batch, channels, height, width = images.shape
    planes = images.reshape(batch * channels, height, width)
    planes = np.pad(planes, ((0, 0), (EDGE, EDGE), (EDGE, EDGE)), mode="edge")
    wide = upsample_width(planes.reshape(-1, width + 2 * EDGE), factor)
    tall = np.empty((batch * channels, height * factor, width * factor), np.float32)
    for plane, out in zip(wide.reshape(len(tall), -1, width * factor), tall, strict=True):
        upsample_height(plane, factor, out)
    return tall.reshape(batch, channels, height * factor, width * factor)


def upsample_width(rows: Array, factor: int) -> Array:
    """Rows of pixels enlarged along the row.

    Args:
        rows: `[N, EDGE + W + EDGE]` float32, contiguous.
        factor: whole number.

    Returns:
        `[N, W * factor]` float32.
    """
    padded = rows.shape[1]
    width = padded - 2 * EDGE
    wide = np.empty((len(rows), width, factor), np.float32)
    some = min(len(rows), max(1, TAPPED // padded))
    scratch = np.empty((2, some * padded), np.float32)
    for part in chunks(len(rows), some):
        # Rows lie one behind the other and are worked on as one line: fewer and longer calls. What
        # comes out between two rows mixes both and is left behind.
        line = rows[part].reshape(-1)
        sums = scratch[:, : len(line)]
        for index, phase in enumerate(cubic_phases(factor)):
            before, last = sums[:, : len(line) - 2 * EDGE]
            begin = EDGE + phase.first
            sum_taps(line[begin : begin + len(before) + 3], 1, phase.weights, before, last)
            one, other = (half.reshape(-1, padded)[:, :width] for half in sums)
            np.add(one, other, out=wide[part, :, index])
    return wide.reshape(len(rows), width * factor)


def upsample_height(rows: Array, factor: int, out: Array) -> None:
    """Rows of pixels enlarged across the rows.

    Args:
        rows: `[EDGE + H + EDGE, W]` float32, contiguous.
        factor: whole number.
        out: `[H * factor, W]` float32, filled.
    """
    width = rows.shape[1]
    height = len(rows) - 2 * EDGE
    phased = out.reshape(height, factor, width)
    some = min(height, max(1, TAPPED // width))
    scratch = np.empty((2, some, width), np.float32)
    for part in chunks(height, some):
        sums = scratch[:, : part.stop - part.start]
        before, last = (half.reshape(-1) for half in sums)
        for index, phase in enumerate(cubic_phases(factor)):
            begin = part.start + EDGE + phase.first
            line = rows[begin : begin + sums.shape[1] + 3].reshape(-1)
            sum_taps(line, width, phase.weights, before, last)
            np.add(sums[0], sums[1], out=phased[part, index])


def sum_taps(
    line: Array, stride: int, weights: tuple[np.float32, ...], before: Array, last: Array
) -> None:
    """Weighted values of a line that lie `stride` apart, all but the last of them added.

    Args:
        line: `[n + 3 * stride]` float32.
        stride: between two taps.
        weights: of the four taps.
        before: `[n]` float32, filled: the sum of the first three, from left to right.
        last: `[n]` float32, filled: the fourth, left for the caller to add into its place.
    """
    count = len(before)
    np.multiply(line[:count], weights[0], out=before)
    for tap in (1, 2, 3):
        begin = tap * stride
        np.multiply(line[begin : begin + count], weights[tap], out=last)
        if tap < 3:
            np.add(before, last, out=before)


def corners(small: int, factor: int) -> Array:
    """Where `factor` times as many pixels lie among `small` ones, corner pixels on corner pixels.

    Elsewhere: bilinear resizing with `align_corners`.

    Returns:
        `[small * factor]` float64, 0 to `small - 1`.
    """
    return np.arange(small * factor) * ((small - 1) / max(small * factor - 1, 1))


def upsample_height_between(images: Batch, places: Array) -> Batch:
    """Images enlarged across their rows, linearly between two rows each.

    Args:
        images: `[B, C, H, W]` float32.
        places: where the new rows lie among the old ones, `[n]` float64, 0 to `H - 1`.

    Returns:
        `[B, C, n, W]` float32.
    """
    # In double precision and rounded once: the places are shared by all rows, and cheap.
    batch, channels, height, width = images.shape
    above = np.clip(np.floor(places).astype(int), 0, max(height - 2, 0))
    share = (places - above)[:, None]
    tall = np.empty((batch, channels, len(places), width), np.float32)
    for part in chunks(len(places), max(1, TAPPED // width)):
        near, far = (
            np.take(images, np.minimum(above[part] + row, height - 1), 2) for row in (0, 1)
        )
        near *= (1 - share[part]).astype(np.float32)
        far *= share[part].astype(np.float32)
        np.add(near, far, out=tall[:, :, part])
    return tall


def augment(images: Batch, level: float, noise: Batch, schedule: Schedule = AUGMENTATION) -> Batch:
    """Images corrupted by a schedule's forward process at time `level`; 0 leaves them.

    The schedule's own tiny noise at time 0 is left out, so that level 0 needs no draw. Elsewhere:
    noise conditioning augmentation.

    Args:
        images: `[B, 3, H, W]` float32 in [-1, 1].
        level: 0 to 1.
        noise: standard normal, of the shape of `images`, float32.
        schedule: of the corruption.

    Returns:
        `[B, 3, H, W]` float32; the images themselves at level 0.
    """
    if level == 0.0:
        return images
    time = np.float64(level)
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    return weighted_sum((float(alpha), images), (float(sigma), noise))
