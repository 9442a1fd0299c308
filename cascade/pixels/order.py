"""Orders of pixels as data: in which pass each pixel of a picture is made.

An order is one square of numbers that repeats over the picture; every family of parallel
autoregressive pictures is such a square. Knows positions; not values or networks.

References:
    Reed et al. 2017 (arXiv 1703.03664): columns, then rows; groups of a 2x2 cell.
    Menick and Kalchbrenner 2018 (arXiv 1812.01608): subscale slices.
    Eigen 2026 (arXiv 2602.03811): progressive checkerboards, balanced at every prefix.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cascade.errors import ManifestError
from cascade.types import Array

GIVEN = -1
"""In place of a group: the parent gives this pixel."""
MAX_PERIOD = 64
"""A manifest lists every number of the square."""

ParentKind = Literal["none", "subsample", "box"]
"""Of what a picture's parent consists: nothing, the corner pixel of each cell, or its mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderSpec:
    """The group of every pixel of a square that repeats over the picture."""

    period: int
    """Height and width of the square."""
    groups: tuple[int, ...]
    """`period * period` numbers row by row, each from 0 without a gap, or `GIVEN`."""

    @property
    def count(self) -> int:
        """Number of groups."""
        return max(self.groups) + 1

    def check(self, path: str) -> None:
        """Refuse what is no order.

        Raises:
            ManifestError: naming the field under `path`.
        """
        if not 1 <= self.period <= MAX_PERIOD or len(self.groups) != self.period**2:
            raise ManifestError(
                f"{path}.groups: expected the square of a period of 1 to {MAX_PERIOD}, got "
                f"{len(self.groups)} numbers for a period of {self.period}",
                field=f"{path}.groups",
            )
        found = set(self.groups) - {GIVEN}
        if found != set(range(len(found))) or not found:
            raise ManifestError(
                f"{path}.groups: expected every group from 0 without a gap, and {GIVEN} where the "
                f"parent gives the pixel; got {sorted(set(self.groups))[:8]}",
                field=f"{path}.groups",
            )


def order_of(rows: Array) -> OrderSpec:
    """The order of a square `[period, period]` of groups, int64."""
    return OrderSpec(period=len(rows), groups=tuple(int(group) for group in rows.reshape(-1)))


def at_once(parent: ParentKind) -> OrderSpec:
    """Every pixel in one pass: the independent baseline."""
    if parent == "subsample":
        return OrderSpec(period=2, groups=(GIVEN, 0, 0, 0))
    return OrderSpec(period=1, groups=(0,))


def columns_rows(parent: ParentKind) -> OrderSpec:
    """The new columns, then all of the new rows; beside a subsampled parent two passes."""
    groups = (GIVEN, 0, 1, 1) if parent == "subsample" else (0, 1, 2, 2)
    return OrderSpec(period=2, groups=groups)


def rows_columns(parent: ParentKind) -> OrderSpec:
    """The new rows, then all of the new columns."""
    groups = (GIVEN, 1, 0, 1) if parent == "subsample" else (0, 2, 1, 2)
    return OrderSpec(period=2, groups=groups)


def squares(parent: ParentKind) -> OrderSpec:
    """The four pixels of a 2x2 cell, one pass each: the corner, the diagonal, then the others."""
    groups = (GIVEN, 1, 2, 0) if parent == "subsample" else (0, 2, 3, 1)
    return OrderSpec(period=2, groups=groups)


def checkerboard(period: int, groups: int) -> OrderSpec:
    """A progressive checkerboard: every prefix is spread evenly over the square.

    Args:
        period: 1 to `MAX_PERIOD`; where it is no power of two, part of the next one is taken.
        groups: 1 to `period * period`; their sizes differ by one at most.
    """
    ranks = checkerboard_ranks(period)
    return order_of(ranks * groups // ranks.size)


def checkerboard_ranks(period: int) -> Array:
    """The place of each pixel of a square in the checkerboard's order, `[period, period]` int64.

    Quadrants in the order top left, bottom right, top right, bottom left, taken in turns at every
    level: the digits of the finest level count most.
    """
    digit = np.array([[0, 2], [3, 1]])
    whole = 1
    while whole < period:
        whole *= 2
    down, along = np.mgrid[:whole, :whole]
    ranks = np.zeros((whole, whole), np.int64)
    level = whole
    while level > 1:
        level //= 2
        # `level` is the side of a quadrant here: the coarsest quadrants are the lowest digit.
        bit = whole // (2 * level)
        ranks += digit[down // level % 2, along // level % 2] * bit * bit
    kept = ranks[:period, :period].reshape(-1)
    again = np.empty(kept.size, np.int64)
    again[np.argsort(kept, kind="stable")] = np.arange(kept.size)
    return again.reshape(period, period)


def subscale(period: int) -> OrderSpec:
    """Slices of every `period`-th pixel both ways, one pass each, row by row."""
    return order_of(np.arange(period * period).reshape(period, period))


def subscale_raster(size: int, period: int, parent: ParentKind = "none") -> OrderSpec:
    """The same slices, and inside each one pixel after another: the order of the paper.

    Args:
        size: height and width of the picture, a multiple of `period`.
        period: of the slices.
        parent: a subsampled one gives the first slice.
    """
    side = size // period
    down, along = np.mgrid[:size, :size]
    slices = down % period * period + along % period
    places = slices * side * side + down // period * side + along // period
    return order_of(np.maximum(places - side * side, GIVEN) if parent == "subsample" else places)


def group_map(order: OrderSpec, height: int, width: int) -> Array:
    """The group of every pixel, `[height, width]` int64; both are multiples of the period."""
    square = np.array(order.groups, np.int64).reshape(order.period, order.period)
    return np.tile(square, (height // order.period, width // order.period))


def group_targets(order: OrderSpec, height: int, width: int) -> tuple[Array, ...]:
    """The pixels of each group as flat positions, rising, `[n]` int64 each."""
    flat = group_map(order, height, width).reshape(-1)
    return tuple(np.flatnonzero(flat == group) for group in range(order.count))


def targets_of(order: OrderSpec, height: int, width: int) -> Array:
    """`group_targets` as one array `[groups, n]` int64: a short group repeats its last pixel."""
    found = group_targets(order, height, width)
    most = largest(found)
    return np.stack([filled(positions, most) for positions in found])


def largest(groups: Iterable[Array]) -> int:
    """Pixels of the largest group, of groups `[n]` int64 each."""
    return max(len(positions) for positions in groups)


def filled(values: Array, count: int, axis: int = 0) -> Array:
    """Values of any shape and dtype, the last one repeated up to `count` along an axis."""
    lacking = count - values.shape[axis]
    if lacking == 0:
        return values
    last = np.take(values, [-1], axis=axis)
    return np.concatenate([values, np.repeat(last, lacking, axis=axis)], axis=axis)


def distinct(targets: Array) -> Array:
    """Of positions `[..., n]` int64, False where one repeats the one before it, bool."""
    first = np.ones((*targets.shape[:-1], 1), bool)
    return np.concatenate([first, targets[..., 1:] != targets[..., :-1]], axis=-1)
