"""The guess of a value from what is known around it, in integers: what symbols are distances from.

Knows pictures in the making; not how a value is decided.
"""

from typing import Literal

import numpy as np

from cascade.types import Array

HIGHEST = 255
GuessRule = Literal["zero", "parent", "cell"]
"""`zero`: 0. `parent`: the pixel of the parent. `cell`: what the unknown pixels of a cell must be
on average for the cell's mean to be the parent's pixel."""


def guess_of(
    rule: GuessRule, targets: Array, canvas: Array, known: Array, parent: Array | None
) -> Array:
    """The guesses of one pass, from what is known before it.

    Args:
        rule: of the stage.
        targets: `[B, n]` int64, flat positions.
        canvas: `[B, H, W, 3]` uint8, values where they are known.
        known: `[B, H, W, 3]` bool; false at targets that matter.
        parent: `[B, h, w, 3]` uint8; None where the rule needs none.

    Returns:
        `[B, n, 3]` uint8.
    """
    if rule == "zero" or parent is None:
        return np.zeros((*targets.shape, 3), np.uint8)
    cells = cell_of(targets, canvas.shape[1:3], parent.shape[1:3])
    if rule == "parent":
        return taken(parent, cells)
    planes = (np.moveaxis(array, 3, 0) for array in (canvas, known, parent))
    return taken(np.moveaxis(cell_guess(*planes), 0, 3), cells)


def cell_guess(canvas: Array, known: Array, parent: Array) -> Array:
    """What the unknown pixels of every cell must be on average, by the rule `cell`.

    Args:
        canvas: `[..., H, W]` uint8.
        known: bool, of a shape that broadcasts against it.
        parent: `[..., h, w]` uint8, the means.

    Returns:
        `[..., h, w]` uint8.
    """
    factor = canvas.shape[-2] // parent.shape[-2]
    area = factor * factor
    total = sums_of_cells(canvas * known, factor)
    left = np.maximum(area - sums_of_cells(known, factor), 1)
    found = (2 * (area * parent.astype(np.int32) - total) + left) // (2 * left)
    guessed: Array = np.clip(found, 0, HIGHEST).astype(np.uint8)
    return guessed


def cell_of(targets: Array, size: tuple[int, ...], small: tuple[int, ...]) -> Array:
    """Flat positions on the parent's grid of the cells that pixels are in.

    Args:
        targets: any shape, int64 flat positions in a picture.
        size: height and width of the picture.
        small: height and width of the parent.
    """
    down, along = np.divmod(targets, size[1])
    cells: Array = down // (size[0] // small[0]) * small[1] + along // (size[1] // small[1])
    return cells


def cell_sums(values: Array, factor: int) -> Array:
    """Sums over the cells of a picture, `[B, H, W, 3]` to `[B, H / f, W / f, 3]` int32."""
    return np.moveaxis(sums_of_cells(np.moveaxis(values, 3, 0), factor), 0, 3)


def sums_of_cells(values: Array, factor: int) -> Array:
    """Sums over the cells of a picture, `[..., H, W]` to `[..., H / f, W / f]` int32."""
    sums: Array = values[..., ::factor, ::factor].astype(np.int32)
    for at in range(1, factor * factor):
        sums += values[..., at // factor :: factor, at % factor :: factor]
    return sums


def taken(values: Array, places: Array) -> Array:
    """Any dtype, `[B, H, W, C]` at flat places `[B, n]`: `[B, n, C]`."""
    flat = values.reshape(len(values), -1, values.shape[-1])
    rows = np.arange(len(values)).reshape(-1, *[1] * (places.ndim - 1))
    found: Array = flat[rows, places]
    return found
