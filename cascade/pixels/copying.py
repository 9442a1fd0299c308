"""Pixels that a new one may be a copy of: neighbours on the parent's grid and in the picture.

Knows positions and pictures in the making; not what is copied in the end.
"""

from functools import lru_cache

import numpy as np

from cascade.pixels.guess import cell_of
from cascade.types import Array

Offsets = tuple[tuple[int, ...], ...]
"""Neighbours as (rows down, columns to the right)."""
MAX_OFFSET = 8
"""Rows or columns that a neighbour may be away."""


def candidates_of(
    copies: tuple[Offsets, Offsets],
    targets: Array,
    canvas: Array,
    known: Array,
    parent: Array | None,
) -> tuple[Array, Array]:
    """The candidates of one pass, from what is known before it.

    Args:
        copies: those on the parent's grid, from the cell that a target is in; then those in the
            picture, from the target itself.
        targets: `[B, n]` int64, flat positions.
        canvas: `[B, H, W, 3]` uint8.
        known: `[B, H, W, 3]` bool; a pixel may be copied where all its channels are.
        parent: `[B, h, w, 3]` uint8, or None.

    Returns:
        Values `[B, K, n, 3]` uint8, and whether each is inside the picture and known, `[B, K, n]`
        bool: candidates before targets, those of the parent first.
    """
    values, usable = [], []
    if parent is not None and copies[0]:
        cells = cell_of(targets, canvas.shape[1:3], parent.shape[1:3])
        places, inside = neighbours(copies[0], parent.shape[1:3])
        near = across(places, cells)
        values.append(picked(parent, near))
        usable.append(across(inside, cells))
    if copies[1]:
        places, inside = neighbours(copies[1], canvas.shape[1:3])
        near = across(places, targets)
        values.append(picked(canvas, near))
        whole = np.asarray(known.all(axis=3))[..., None]
        usable.append(picked(whole, near)[..., 0] & across(inside, targets))
    if not values:
        none = np.zeros((len(targets), 0, targets.shape[1], 3), np.uint8)
        return none, none[..., 0].astype(bool)
    return np.concatenate(values, axis=1), np.concatenate(usable, axis=1)


@lru_cache(maxsize=32)
def neighbours(offsets: Offsets, size: tuple[int, int]) -> tuple[Array, Array]:
    """Where the neighbours of every pixel of a picture lie.

    Args:
        offsets: `K` of them.
        size: height and width.

    Returns:
        Flat positions `[K, H * W]` int64, 0 for those outside, and `[K, H * W]` bool: inside.
    """
    height, width = size
    down, along = np.divmod(np.arange(height * width), width)
    there = np.array(offsets, np.int64).reshape(-1, 2)
    down, along = down + there[:, :1], along + there[:, 1:]
    inside = (down >= 0) & (down < height) & (along >= 0) & (along < width)
    places = np.where(inside, down * width + along, 0)
    places.flags.writeable = inside.flags.writeable = False
    return places, inside


def across(values: Array, targets: Array) -> Array:
    """Any dtype, `[K, N]` at targets `[B, n]`: `[B, K, n]`."""
    return np.stack([values[:, row] for row in targets])


def picked(pictures: Array, places: Array) -> Array:
    """Any dtype, `[B, H, W, C]` at flat places `[B, K, n]`: `[B, K, n, C]`."""
    rows = pictures.reshape(len(pictures), -1, pictures.shape[-1])
    return np.stack([np.take(row, near, axis=0) for row, near in zip(rows, places, strict=True)])
