"""Eight-bit grids: found exactly, chosen near, and safe for 16-bit sums of pairs."""

import numpy as np
import pytest
from numpy.typing import NDArray

from export.weights.weight_grid import (
    LEVELS,
    PAIR_LEVELS,
    STEP_BITS,
    choose_grid,
    few_bits,
    find_grid,
)

Floats = NDArray[np.float32]


def random(*shape: int, seed: int = 0) -> Floats:
    """Numbers on no grid."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 16), (8, 12, 3, 3), (6, 5, 2, 2)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_chosen_grid_is_found_again(shape: tuple[int, ...], axis: int) -> None:
    """The very same levels and steps come out of the float32 weight."""
    chosen = choose_grid(random(*shape), axis)
    found = find_grid(chosen.value, axis)
    assert found is not None
    assert found.axis == axis
    np.testing.assert_array_equal(found.value, chosen.value)
    np.testing.assert_array_equal(found.levels, chosen.levels)
    np.testing.assert_array_equal(found.steps, chosen.steps)


def test_a_part_of_a_weight_keeps_its_grid() -> None:
    """Input channels cut off, as graph passes do, need not hold the channel's largest weight."""
    chosen = choose_grid(random(16, 40, 3, 3), 0)
    part = chosen.value[:, 10:14]
    found = find_grid(part, 0)
    assert found is not None
    np.testing.assert_array_equal(found.value, part)


def test_numbers_on_no_grid_have_none() -> None:
    """Random numbers, and a weight with one number moved off its grid."""
    assert find_grid(random(32, 16), 0) is None
    value = choose_grid(random(32, 16), 0).value
    value[5, 3] *= np.float32(1.001)
    assert find_grid(value, 0) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_masks_of_infinities_have_no_grid(value: float) -> None:
    """A causal mask is a constant too."""
    mask = np.zeros((16, 16), np.float32)
    mask[np.triu_indices(16, 1)] = value
    assert find_grid(mask, 0) is None


@pytest.mark.parametrize("axis", [0, 1])
def test_neighbours_never_overflow(axis: int) -> None:
    """Two neighbouring input channels of one sign stay below 2^15 / 255 together."""
    value = np.abs(random(24, 30, 3, 3)) + np.float32(0.5)
    levels = np.moveaxis(choose_grid(value, axis).levels, axis, 0).astype(int)
    pairs = levels[:, 0:-1:2] + levels[:, 1::2]
    assert np.abs(pairs).max() <= PAIR_LEVELS
    assert PAIR_LEVELS * 255 < 2**15
    assert np.abs(levels).max() <= LEVELS


def test_a_grid_is_near() -> None:
    """Normal weights lose less than 0.04 % of their power."""
    gaussian = random(16, 64, 3, 3)
    relative = np.square(choose_grid(gaussian, 0).value - gaussian).mean() / gaussian.var()
    assert relative < 4e-4


@pytest.mark.parametrize("shape", [(64, 64, 1, 1), (8, 8, 1, 1), (16, 3, 3, 3)])
def test_neighbours_that_are_both_large_are_not_cut(shape: tuple[int, ...]) -> None:
    """Uniform weights have such pairs in every channel: 1 % of their spread is lost, not 3 to 8 %.

    Rounding alone costs step / sqrt(12) with a step of largest x 2 / 128; uniform numbers spread
    by largest / sqrt(3).
    """
    value = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    missed = np.sqrt(np.square(choose_grid(value, 0).value - value).mean() / value.var())
    assert missed < 1.1 / 128


def test_an_outlier_costs_little() -> None:
    """A channel with one large weight is as near as a grid of largest / 127 allows."""
    value = random(16, 64, 3, 3)
    value[:, 0, 0, 0] = 12.0
    step = np.float32(12.0 / LEVELS)
    plain = np.square(np.rint(value / step) * step - value).mean()
    assert np.square(choose_grid(value, 0).value - value).mean() <= 1.1 * plain


def test_zero_channels_stay_zero() -> None:
    """A silent channel is on every grid."""
    value = random(4, 8)
    value[2] = 0
    grid = choose_grid(value, 0)
    assert not grid.levels[2].any()
    assert np.isfinite(grid.steps).all()
    assert find_grid(grid.value, 0) is not None


def test_steps_have_few_bits() -> None:
    """A level times a step is exact in float32."""
    steps = few_bits(np.abs(random(1000)))
    fraction = np.frexp(steps)[0] * 2**STEP_BITS
    np.testing.assert_array_equal(fraction, np.rint(fraction))
    exact = steps.astype(np.float64) * LEVELS
    np.testing.assert_array_equal(exact, exact.astype(np.float32))
