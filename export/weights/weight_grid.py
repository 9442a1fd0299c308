"""Weights on symmetric eight-bit grids, one per output channel: finding the grid, moving onto it.

A grid is one step per channel; a weight on it is a whole number of steps, -127 to 127. A chosen
grid is also safe on processors without VNNI: they add the products of two neighbouring input
channels in 16 bits and cut what does not fit, so two neighbours of one sign together stay within
`PAIR_LEVELS`. Knows arrays; not graphs, networks or where a weight is used.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 127
"""Largest level; -128 stays unused, so that the grid is symmetric."""

PAIR_LEVELS = 128
"""Largest sum of two neighbouring levels: 128 x 255, the largest activation, is below 2^15."""

STEP_BITS = 16
"""Significant bits of a chosen step. With the 7 of a level they fit the 24 of a float32: level
times step is exact, and so is finding the step again by division."""

STRETCHES = np.linspace(0.7, 2.1, 57)
"""Steps that are tried, as multiples of largest weight / 127. At 2 x 127 / 128 two neighbours that
are both the largest weight fit into `PAIR_LEVELS`: beyond that nothing is cut any more."""

Floats = NDArray[np.float32]
Levels = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class GridWeight:
    """A weight as whole numbers of steps.

    Attributes:
        levels: int8, the weight's shape.
        steps: float32, `[channels]`.
        axis: the axis of `levels` that is the channel.
    """

    levels: Levels
    steps: Floats
    axis: int

    @property
    def value(self) -> Floats:
        """The weight as float32."""
        return np.asarray(self.levels * along(self.steps, self.axis, self.levels.ndim), np.float32)


def along(values: Floats, axis: int, rank: int) -> Floats:
    """`[channels]` shaped to broadcast along one axis of an array of `rank` axes."""
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def find_grid(value: Floats, axis: int) -> GridWeight | None:
    """The coarsest grid that a weight lies on exactly, if there is one.

    A channel's largest weight may have any level: the weight may have been cut out of a larger one.
    """
    if not np.isfinite(value).all():
        return None
    rows = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
    largest = np.abs(rows).max(axis=1).astype(np.float32)
    steps = np.ones(len(rows), np.float32)
    left = np.flatnonzero(largest > 0)
    # A few columns tell the hopeless levels from the others before whole channels are compared.
    probe = np.unique(np.linspace(0, rows.shape[1] - 1, 16).astype(int))
    for level in range(1, LEVELS + 1):
        tried = (largest[left] / np.float32(level)).astype(np.float32)
        fits = on_grid(rows[np.ix_(left, probe)], tried)
        fits[fits] = on_grid(rows[left[fits]], tried[fits])
        steps[left[fits]] = tried[fits]
        left = left[~fits]
    if left.size:
        return None
    levels = np.rint(value / along(steps, axis, value.ndim)).astype(np.int8)
    return GridWeight(levels, steps, axis)


def on_grid(rows: Floats, steps: Floats) -> NDArray[np.bool_]:
    """Which rows are whole numbers of their steps, exactly."""
    levels = np.rint(rows / steps[:, None])
    return np.asarray(((levels * steps[:, None]).astype(np.float32) == rows).all(axis=1))


def choose_grid(value: Floats, axis: int) -> GridWeight:
    """The nearest safe grid: per channel, the step with the least squared error of those tried.

    Args:
        value: a weight of two or more axes, the first two being input and output channels.
        axis: 0 or 1, the output channel's.
    """
    # [channels, inputs, rest]: neighbours along `inputs` are the pairs.
    rows = np.moveaxis(value, axis, 0).astype(np.float64)
    rows = rows.reshape(len(rows), rows.shape[1], -1)
    largest = np.maximum(np.abs(rows).max(axis=(1, 2)), 1e-12)
    error = np.full(len(rows), np.inf)
    steps = np.ones(len(rows), np.float32)
    levels = np.zeros(rows.shape, np.int8)
    for stretch in STRETCHES:
        tried = few_bits((largest * stretch / LEVELS).astype(np.float32))
        found = safe_levels(rows / tried[:, None, None])
        missed = ((found * tried[:, None, None].astype(np.float64) - rows) ** 2).sum(axis=(1, 2))
        better = missed < error
        error[better], steps[better], levels[better] = missed[better], tried[better], found[better]
    moved = np.moveaxis(levels.reshape(np.moveaxis(value, axis, 0).shape), 0, axis)
    return GridWeight(np.ascontiguousarray(moved), steps, axis)


def safe_levels(scaled: NDArray[np.float64]) -> Levels:
    """The nearest levels `[channels, inputs, rest]` whose neighbouring pairs cannot overflow."""
    levels = np.clip(np.rint(scaled), -LEVELS, LEVELS)
    even = scaled.shape[1] // 2 * 2
    first, second = levels[:, 0:even:2], levels[:, 1:even:2]
    excess = np.maximum(np.abs(first + second) - PAIR_LEVELS, 0)
    sign = np.sign(first + second)
    # Each gives half of what is too much; the first one the odd level.
    first -= sign * np.ceil(excess / 2)
    second -= sign * np.floor(excess / 2)
    return levels.astype(np.int8)


def few_bits(steps: Floats) -> Floats:
    """Steps with at most `STEP_BITS` significant bits."""
    fraction, exponent = np.frexp(steps)
    whole = np.rint(np.ldexp(fraction, STEP_BITS))
    return np.asarray(np.ldexp(whole, exponent - STEP_BITS), np.float32)
