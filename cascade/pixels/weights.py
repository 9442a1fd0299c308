"""From logits to a choice in integers: a hashed table, exact weights, one 32-bit word.

Logits are whole numbers in sixteenths of a nat. A weight is a number of a table by the distance to
the largest logit; a choice is the first whose running sum exceeds the word's share of the total.
Nothing is rounded after the table, so every machine chooses alike, and an arithmetic coder can use
the same weights. Knows columns of numbers; not pixels.
"""

from functools import lru_cache
from itertools import pairwise

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
LARGEST_LOGIT = 1 << 15
"""In sixteenths of a nat: far beyond what a weight can tell."""
FARTHEST = 2 * LARGEST_LOGIT
"""Of two logits from each other."""
NEVER = -(1 << 24)
"""Added to a logit it is below all that heads may answer: of what may not be chosen."""
LOW, SHIFT, FOUR_BITS = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(4)

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


@lru_cache(maxsize=4)
def table_at(temperature_16: int) -> Weights:
    """`weight_table` by the distance before the temperature, `[FARTHEST + 2]` uint64; read-only.

    All distances of logits that heads may answer are in it; its last entry is the 0 of those that
    are ruled out.

    Args:
        temperature_16: as `weights_of` takes it.
    """
    last = len(weight_table()) - 1
    stretched = np.arange(FARTHEST + 2) * UNIT_SIXTEENTHS // temperature_16
    table: Weights = weight_table()[np.minimum(stretched, last)]
    table[-1] = 0
    table.flags.writeable = False
    return table


def weights_of(logits: Array, temperature_16: int = UNIT_SIXTEENTHS) -> Weights:
    """The weight of every choice.

    Args:
        logits: `[choices, n]`, whole numbers of any dtype; lowered by `NEVER` where a choice is
            ruled out, but of every column one is not.
        temperature_16: in sixteenths, from 1; below 16 prefers the likely.

    Returns:
        `[choices, n]`, 1 to `LARGEST_WEIGHT`, or 0 if ruled out; the largest of a column is that.
    """
    distance = (logits.max(axis=0) - logits).astype(np.intp)
    weights: Weights = table_at(temperature_16).take(distance, mode="clip")
    return weights


def with_floor(weights: Weights, floor_16: int) -> Weights:
    """The weights with the small ones ruled out.

    Args:
        weights: `[choices, n]`.
        floor_16: weights below so many sixteenths of the largest become 0; 0 keeps all.
    """
    if floor_16 == 0:
        return weights
    least = (weights.max(axis=0) >> FOUR_BITS) * np.uint64(floor_16)
    kept: Weights = weights * (weights >= least)
    return kept


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
        weights: `[choices, n]`, at least one above 0 in each column, less than 2^64 together;
            overwritten by their running sums.
        word: `[n]` uint32.

    Returns:
        `[n]` uint8, the first choice whose running sum exceeds the word's share.
    """
    # Row by row: numpy's running sum along the first axis takes six times as long.
    rows = list(weights)
    for before, row in pairwise(rows):
        np.add(before, row, row)
    share = share_of(word.astype(np.uint64), rows[-1])
    place: Array = (weights <= share).view(np.uint8).sum(axis=0, dtype=np.uint8)
    return place
