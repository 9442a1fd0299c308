"""Percentiles and their bounds against exact fractions."""

from fractions import Fraction
from math import comb, inf

import pytest

from bench.quantiles import binomial_tail, floor_of, percentile, upper_rank

ONE_PERCENT = Fraction(1, 100)


def exact_tail(n: int, k: int, percent: int) -> Fraction:
    """`P(Bin(n, percent %) >= k)` without rounding."""
    q = Fraction(percent, 100)
    return sum((comb(n, i) * q**i * (1 - q) ** (n - i) for i in range(k, n + 1)), Fraction(0))


@pytest.mark.parametrize(("percent", "floor"), [(50, 11), (90, 64), (95, 130), (99, 662)])
def test_the_floor_is_the_least_number_of_samples(percent: int, floor: int) -> None:
    """The second largest of so many is a bound, of one fewer it is not: MLPerf's 64 and 662."""
    assert floor_of(percent) == floor
    assert exact_tail(floor, floor - 1, percent) <= ONE_PERCENT
    assert exact_tail(floor - 1, floor - 2, percent) > ONE_PERCENT


@pytest.mark.parametrize("percent", [50, 90, 95])
@pytest.mark.parametrize("n", [64, 131, 200])
def test_the_bound_is_the_smallest_that_holds(percent: int, n: int) -> None:
    """Its chance to lie below the true quantile is at most 1 %, that of the one before is more."""
    rank = upper_rank(n, percent)
    if n < floor_of(percent):
        assert rank is None
        return
    assert rank is not None
    assert exact_tail(n, rank, percent) <= ONE_PERCENT < exact_tail(n, rank - 1, percent)


@pytest.mark.parametrize("k", [0, 1, 90, 99, 100, 101])
def test_the_tail_is_that_of_the_binomial(k: int) -> None:
    """From certain to impossible."""
    assert binomial_tail(100, k, 0.9) == pytest.approx(float(exact_tail(100, k, 90)), rel=1e-9)


def test_percentiles_are_samples() -> None:
    """Of 1 to 100, p90 is the 90th; its bound is a later one; p99 is below its floor."""
    samples = [float(i) for i in range(1, 101)]
    p90 = percentile(samples, 90)
    assert (p90.value, p90.upper) == (90.0, float(upper_rank(100, 90) or 0))
    assert p90.upper is not None
    assert 90 < p90.upper < 100
    assert percentile(samples, 99).value is None
    assert percentile([], 50).upper is None


def test_a_failure_is_later_than_everything() -> None:
    """Percentiles that reach into failures are not known; others keep their rank."""
    samples = [*(float(i) for i in range(1, 81)), *([inf] * 20)]
    assert percentile(samples, 50).value == 50.0
    assert (percentile(samples, 90).value, percentile(samples, 90).upper) == (None, None)
