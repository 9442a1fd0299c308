"""Pixels that a new one may be a copy of: neighbours on the parent's grid and in the picture.

Knows positions; neither values nor what is copied in the end.
"""

from functools import lru_cache

import numpy as np

from cascade.pixels.guess import cell_of
from cascade.pixels.slots import Slots
from cascade.types import Array

Offsets = tuple[tuple[int, ...], ...]
"""Neighbours as (rows down, columns to the right)."""
MAX_OFFSET = 8
"""Rows or columns that a neighbour may be away."""


@lru_cache(maxsize=32)
def candidate_slots(copies: tuple[Offsets, Offsets], slots: Slots) -> Array:
    """Where the candidates of every pixel lie.

    Args:
        copies: those on the parent's grid, from the cell that a pixel is in; then those in the
            picture, from the pixel itself.
        slots: of a row.

    Returns:
        `[K, H * W]` int64, the parent's first; `slots.outside` for those outside.
    """
    every = np.arange(slots.size[0] * slots.size[1])
    found = [np.zeros((0, len(every)), np.int64)]
    if slots.small is not None and copies[0]:
        cells = cell_of(every, slots.size, slots.small)
        places, inside = neighbours(copies[0], slots.small)
        found.append(np.where(inside, places, slots.outside)[:, cells])
    if copies[1]:
        places, inside = neighbours(copies[1], slots.size)
        found.append(np.where(inside, places + slots.cells, slots.outside))
    joined = np.concatenate(found)
    joined.flags.writeable = False
    return joined


def neighbours(offsets: Offsets, size: tuple[int, int]) -> tuple[Array, Array]:
    """Where the neighbours of every pixel of a picture lie.

    Args:
        offsets: `K` of them.
        size: height and width.

    Returns:
        Flat positions `[K, H * W]` int64, and `[K, H * W]` bool: inside the picture.
    """
    height, width = size
    down, along = np.divmod(np.arange(height * width), width)
    there = np.array(offsets, np.int64).reshape(-1, 2)
    down, along = down + there[:, :1], along + there[:, 1:]
    inside = (down >= 0) & (down < height) & (along >= 0) & (along < width)
    return down * width + along, inside
