"""Percentiles with an upper bound that holds with 99 % confidence, whatever the distribution.

Order statistics alone: of `n` independent samples, the k-th smallest lies above the true quantile
`q` unless at least `k` of them fell below it, which has the probability `P(Bin(n, q) >= k)`. The
bound is the smallest such k with a probability of at most 1 %. The largest sample is never taken: a
bound must survive one outlier. This gives the least number of samples for each percentile: 64 for
p90, 662 for p99. Knows numbers; not what was measured.

References:
    W. J. Conover, Practical Nonparametric Statistics, 3.2 (confidence intervals of quantiles);
    MLPerf Inference rules, early stopping (`t` >= 1 discarded sample).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.99
"""Not a setting: a lower one weakens every claim."""
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentile:
    """One percentile of a sample."""

    value: float | None
    """The sample of rank `ceil(q n)`; None below the floor, and where it is a failure."""
    upper: float | None
    """Above the true quantile with 99 % confidence; None in the same cases."""
    floor: int
    """The least number of samples for a bound."""


def binomial_tail(n: int, k: int, q: float) -> float:
    """`P(Bin(n, q) >= k)`, summed from the largest outcome downwards.

    Args:
        n: trials.
        k: successes, 0 to n + 1.
        q: chance of each, inside (0, 1).
    """
    if k <= 0:
        return 1.0
    logs = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        + i * math.log(q) + (n - i) * math.log1p(-q)
        for i in range(k, n + 1)
    ]  # fmt: skip
    return math.fsum(math.exp(log) for log in logs)


@cache
def upper_rank(n: int, percent: int) -> int | None:
    """The rank, from 1, of the sample that bounds a percentile; None where `n` is too small.

    Args:
        n: samples.
        percent: 1 to 99.
    """
    q, allowed = percent / 100, 1 - CONFIDENCE
    low, high = 1, n
    # P(Bin >= k) falls with k: the smallest k that is allowed, by halving.
    while low < high:
        middle = (low + high) // 2
        if binomial_tail(n, middle, q) <= allowed:
            high = middle
        else:
            low = middle + 1
    found = low if n and binomial_tail(n, low, q) <= allowed else None
    return found if found is not None and found < n else None


@cache
def floor_of(percent: int) -> int:
    """The least number of samples with a bound: the second largest is one then."""
    n = 2
    while upper_rank(n, percent) is None:
        n += 1
    return n


def percentile(sorted_samples: Sequence[float], percent: int) -> Percentile:
    """One percentile.

    Args:
        sorted_samples: in ascending order; what never came to an end is infinity.
        percent: 1 to 99.
    """
    n, floor = len(sorted_samples), floor_of(percent)
    rank = upper_rank(n, percent) if n >= floor else None
    if rank is None:
        return Percentile(value=None, upper=None, floor=floor)
    # In whole numbers: 0.9 * 70 is a little more than 63 in binary.
    value = sorted_samples[-(-percent * n // 100) - 1]
    return Percentile(value=finite(value), upper=finite(sorted_samples[rank - 1]), floor=floor)


def finite(value: float) -> float | None:
    """The number, or None where it is none that JSON has."""
    return value if math.isfinite(value) else None
