"""Where the tiles along one side of a picture lie, and how a tile is joined to those before it.

Knows lengths and arrays; not what makes a tile.
"""

from dataclasses import dataclass

import numpy as np

from cascade.types import Array


@dataclass(frozen=True, slots=True)
class TiledSide:
    """One side of a canvas: its length, and where its tiles lie."""

    length: int
    tile: int
    starts: tuple[int, ...]
    """The first pixel of every tile, rising; the last tile ends with the canvas."""


def side(size: int, tile: int, grain: int, unit: int = 1) -> TiledSide:
    """The tiles along one side.

    Args:
        size: of the picture, in pixels.
        tile: of a tile.
        grain: what every start is a multiple of, as far as a tile has room: a network that halves
            its pictures sees the same pixels together in every tile.
        unit: what every start and length is a multiple of in any case, as `tile` and `grain` are:
            `shown_factor`.
    """
    if unit > 1:
        small = side(-(-size // unit), tile // unit, grain // unit)
        starts = tuple(start * unit for start in small.starts)
        return TiledSide(small.length * unit, tile, starts)
    if size <= tile:
        return TiledSide(tile, tile, (0,))
    step = max(1, min(grain, tile // 2))
    last = -(-(size - tile) // step) * step
    overlap = max(step, -(-(tile // 4) // step) * step)
    starts = (*range(0, last, max(1, tile - overlap)), last)
    return TiledSide(last + tile, tile, starts)


def put(out: Array, part: Array, start: int, end: int) -> None:
    """Put a tile below what is there, across the rows.

    Of the overlap the first quarter is the old tile's, the last one the new tile's, and between
    them one fades into the other: each tile's rim, where the network saw the end of the world, is
    left out.

    Args:
        out: `[B, C, H, W]` float32, filled down to row `end`.
        part: `[B, C, h, W]` float32.
        start: row of `out` where it belongs.
        end: first row of `out` that is not filled.
    """
    shared = end - start
    if shared > 0:
        fade = shared // 2
        first = (shared - fade) // 2
        rows = np.arange(fade, dtype=np.float32)[:, None]
        weights = (rows + np.float32(0.5)) / np.float32(max(1, fade))
        old = out[:, :, start + first : start + first + fade]
        # In this form two tiles that agree give what they agree on, to the bit.
        old += weights * (part[:, :, first : first + fade] - old)
        part = part[:, :, first + fade :]
        start += first + fade
    out[:, :, start : start + part.shape[2]] = part
