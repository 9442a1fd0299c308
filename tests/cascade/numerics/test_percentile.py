"""The fast percentile against numpy's on the same magnitudes, in double precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.numerics.percentile import FEW, STRIDE, largest_magnitudes, magnitude_percentile
from cascade.types import Array

LARGE = 3 * 256 * 256 + 5
"""More than `FEW`, and no multiple of anything: the sampled way."""


def white(size: int) -> Array:
    """An estimate of a picture on white: most values near 1, half of those beyond it."""
    rng = np.random.default_rng(3)
    values = np.where(rng.random(size) < 0.7, 1.0, 0.2) + 0.02 * rng.standard_normal(size)
    return values.astype(np.float32)


def hidden(size: int) -> Array:
    """The largest values exactly where no sample is taken: the sample is wrong about the top."""
    values = np.full(size, 5.0, np.float32)
    values[::STRIDE] = 0.1
    return values


def backwards(size: int) -> Array:
    """The largest values lie first: nothing is found by chance at the end."""
    return np.linspace(-4, 0, size, dtype=np.float32)


def shouting(size: int) -> Array:
    """Samples are larger than all else: the mark is too high, and fewer lie above than asked."""
    values = np.linspace(0, 1, size, dtype=np.float32)
    values[::STRIDE] += 9
    return values


KINDS = {
    "normal": lambda n: np.random.default_rng(1).standard_normal(n).astype(np.float32),
    "white": white,
    "hidden": hidden,
    "backwards": backwards,
    "shouting": shouting,
    "flat": lambda n: np.full(n, -0.5, np.float32),
    "zero": lambda n: np.zeros(n, np.float32),
}


def expected(values: Array, share: float) -> float:
    """Numpy's percentile with the rank in double precision."""
    return float(np.quantile(np.abs(values).astype(np.float64), share))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.99, 0.995, 0.9999, 1.0])
@pytest.mark.parametrize("size", [1, 2, 7, 1000, FEW, FEW + 1, LARGE])
@pytest.mark.parametrize("kind", KINDS)
def test_percentile_is_numpys(kind: str, size: int, share: float) -> None:
    """Whatever the values, their order and how many, to double precision; and the largest."""
    values = KINDS[kind](size)
    before = values.copy()
    percentile, largest = magnitude_percentile(values, share)
    assert percentile == pytest.approx(expected(values, share), rel=1e-12, abs=1e-12)
    assert largest == np.abs(values).max()
    np.testing.assert_array_equal(values, before)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60),
    st.floats(0, 1),
)
def test_percentile_of_any_few_values(values: list[float], share: float) -> None:
    """Short lists with ties and zeros, any share."""
    array = np.array(values, np.float32)
    percentile, _ = magnitude_percentile(array, share)
    assert percentile == pytest.approx(expected(array, share), rel=1e-9, abs=1e-9)


def test_most_of_a_large_picture_is_never_collected() -> None:
    """For the 99.5th percentile less than a twentieth of the values is looked at twice."""
    values = KINDS["normal"](LARGE)
    top = LARGE // 200
    assert top <= len(largest_magnitudes(values, top)) < LARGE // 20


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_are_among_those_collected(kind: str) -> None:
    """Nothing that counts is missing, even where the sample misleads."""
    values = KINDS[kind](LARGE)
    top = LARGE // 200
    found = np.sort(largest_magnitudes(values, top))[-top:]
    np.testing.assert_array_equal(found, np.sort(np.abs(values))[-top:])
