"""The exact percentile of many magnitudes, without sorting or even ordering most of them.

Dynamic thresholding asks for the 99.5th percentile of three million magnitudes at every step. A
sample of them tells where the largest per cent begins; only what lies above is collected and
ordered. The sample decides what is collected, never the answer: where it misleads, everything is
ordered instead. Knows numbers only.
"""

import numpy as np

from cascade.numerics.chunked import chunks
from cascade.types import Array

STRIDE = 61
"""Every so many values one is sampled; a prime, so that rows of pixels do not line up with it."""

FEW = 1 << 16
"""Up to so many values are ordered as they are: there is nothing to save."""

SPARE = 64
"""Sampled values that may lie above the mark beyond twice the expected number."""


def magnitude_percentile(values: Array, share: float) -> tuple[float, float]:
    """A percentile of `|values|`, and the largest magnitude.

    Args:
        values: `[n]` float32, at least one.
        share: 0 to 1; between two neighbours in order, linear in the rank, in double precision.

    Returns:
        The percentile, then the largest magnitude.
    """
    rank = share * (len(values) - 1)
    below = int(rank)
    top = len(values) - below
    found = largest_magnitudes(values, top)
    # Ascending order has values[below] at `place`, and everything later above it.
    place = len(found) - top
    found.partition(place)
    low = float(found[place])
    if top == 1:
        return low, low
    later = found[place + 1 :]
    return low + (rank - below) * (float(later.min()) - low), float(later.max())


def largest_magnitudes(values: Array, top: int) -> Array:
    """At least the `top` largest of `|values|`.

    Args:
        values: `[n]` float32.
        top: 1 to n.

    Returns:
        `[m]` float32, `m` from `top` to `n`, in no order: a new array.
    """
    if len(values) <= FEW:
        return np.abs(values)
    sample = np.abs(values[::STRIDE])
    aim = len(sample) - 1 - (2 * top // STRIDE + SPARE)
    if aim <= 0:
        return np.abs(values)
    # Twice as many as are wanted lie above the mark, by what the sample says.
    mark = np.partition(sample, aim)[aim]

    found: list[Array] = []
    for part in chunks(len(values)):
        piece = values[part]
        far = piece >= mark
        far |= piece <= -mark
        found.append(np.abs(piece[far]))
    most = np.concatenate(found)
    # The sample misled: the answer must not follow from it.
    return most if len(most) >= top else np.abs(values)
