"""From logits to a choice in integers: a hashed table, exact weights, one 32-bit word.

Logits are whole numbers in sixteenths of a nat. A weight is a number of a table by the distance to
the largest logit; a choice is the first whose running sum exceeds the word's share of the total.
Nothing is rounded after the table, so every machine chooses alike, and an arithmetic coder can use
the same weights. Knows columns of numbers; not pixels.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cascade.numerics.elementary import exponential
from cascade.types import Array

LOGIT_UNIT = 16
"""Logits per nat."""
LARGEST_WEIGHT = 1 << 16
"""Of the largest logit."""
UNIT_SIXTEENTHS = 16
"""Temperatures, guidance weights and floors are counted in sixteenths."""
WEIGHT_TABLE_SHA256 = "5808aa7f25fc030b6b059868db6d84a3621af4258f29577bc9e8b716ca4e5ab3"
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)

Weights = NDArray[np.uint64]
"""Choices along the first axis, one column per value."""


@lru_cache(maxsize=1)
def weight_table() -> Weights:
    """Weights by distance, `[189]` uint64, falling from 65,536 to 1: `round(2^16 e^(-d / 16))`.

    Its last entry stands for all greater distances, so that nothing is impossible. As little-endian
    64-bit numbers its sha256 is `WEIGHT_TABLE_SHA256`.
    """
    # Beyond 188 the rounded weight is 0.
    distances = np.arange(189) / LOGIT_UNIT
    table = np.rint(LARGEST_WEIGHT * exponential(-distances)).astype(np.uint64)
    table.flags.writeable = False
    return table


def weights_of(logits: Array, temperature_16: int = UNIT_SIXTEENTHS) -> Weights:
    """The weight of every choice.

    Args:
        logits: `[choices, n]` int32.
        temperature_16: in sixteenths, from 1; below 16 prefers the likely.

    Returns:
        `[choices, n]`, 1 to `LARGEST_WEIGHT`; the largest of every column is that.
    """
    distance = logits.max(axis=0) - logits
    if temperature_16 != UNIT_SIXTEENTHS:
        distance = distance * UNIT_SIXTEENTHS // temperature_16
    weights: Weights = np.take(weight_table(), distance, mode="clip")
    return weights


def with_floor(weights: Weights, floor_16: int) -> Weights:
    """The weights with the small ones ruled out.

    Args:
        weights: `[choices, n]`.
        floor_16: weights below so many sixteenths of the largest become 0; 0 keeps all.
    """
    if floor_16 == 0:
        return weights
    least = (weights.max(axis=0) >> np.uint64(4)) * np.uint64(floor_16)
    return np.where(weights < least, np.uint64(0), weights)


def share_of(word: Array, total: Weights) -> Weights:
    """`floor(word * total / 2^32)` without loss, of any shape.

    Args:
        word: 0 to 2^32 - 1, uint64.
        total: any uint64.
    """
    share: Weights = word * (total >> SHIFT) + (word * (total & LOW) >> SHIFT)
    return share


def chosen(weights: Weights, word: Array) -> Array:
    """The choice of every column.

    Args:
        weights: `[choices, n]`, at least one above 0 in each column, less than 2^64 together.
        word: `[n]` uint32.

    Returns:
        `[n]` uint8, the first choice whose running sum exceeds the word's share.
    """
    share = share_of(word.astype(np.uint64), weights.sum(axis=0))
    # Row by row: numpy's running sum along the first axis takes six times as long.
    running = np.zeros_like(share)
    place = np.zeros(len(share), np.uint8)
    for row in weights:
        running += row
        place += running <= share
    return place
