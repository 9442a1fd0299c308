"""Exponential, logarithm, sine and cosine in double precision: the same bits on every machine.

The last place of what numpy and the C library return follows the processor, the library and its
version. Here a result is made of additions, multiplications, divisions and scalings by powers of
two alone, each rounded as IEEE 754 says, in an order that is written down: an implementation in
another language gets the same numbers. Within 4 units in the last place of the true values.
Elsewhere: a correctly specified libm, as CORE-MATH is. Knows numbers only.

Every function here takes numbers of any shape and returns float64 of the same shape.

References:
    Muller, "Elementary Functions" (2016), chapters 10 and 11: the argument reduced with a constant
    in two pieces, then a polynomial. Taylor's coefficients: they need no table.
"""

from collections.abc import Callable
from math import factorial, frexp, inf, ldexp
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cascade.types import Times

LN2 = (float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33"))
"""The logarithm of 2 in two pieces; the first times a whole number under 2048 is exact."""
HALF_PI = (float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54"))
"""Half of pi: the nearest number, and what it lacks."""
SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")

EXP_TERMS = tuple(1 / factorial(n) for n in range(1, 15))
LOG_TERMS = tuple(1 / (2 * n + 1) for n in range(12))
SIN_TERMS = tuple((-1) ** n / factorial(2 * n + 1) for n in range(9))
COS_TERMS = tuple((-1) ** n / factorial(2 * n) for n in range(10))
FARTHEST = 1100.0
"""Beyond it an exponential is 0 or infinite."""


def exponential(x: ArrayLike) -> Times:
    """`e^x`; for whole pictures too.

    Args:
        x: any shape; beyond `FARTHEST` as that.

    Returns:
        float64 of that shape, 0 to infinity.
    """
    rest, twos = reduce_argument(x)
    # Overflow to infinity and underflow to 0 are the right answers here, not accidents.
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(1 + rest * polynomial(EXP_TERMS, rest), twos))


def exponential_minus_1(x: ArrayLike) -> Times:
    """`e^x - 1`, also where that is small.

    Args:
        x: any shape; beyond `FARTHEST` as that.

    Returns:
        float64 of that shape, -1 to infinity.
    """
    rest, twos = reduce_argument(x)
    with np.errstate(over="ignore", under="ignore"):
        power = np.ldexp(1.0, twos)
        return np.asarray(power * (rest * polynomial(EXP_TERMS, rest)) + (power - 1))


def logarithm(x: ArrayLike) -> Times:
    """The natural logarithm.

    Args:
        x: any shape, 0 or more.

    Returns:
        float64 of that shape; of 0 it is minus infinity.
    """
    return each(logarithm_of, x)


def logarithm_of_1_plus(x: ArrayLike) -> Times:
    """`log(1 + x)`, also where it is small.

    Args:
        x: any shape, -1 or more.

    Returns:
        float64 of that shape; of -1 it is minus infinity.
    """

    def of(value: float) -> float:
        small = SQRT_HALF - 1 < value < 1 / SQRT_HALF - 1
        return logarithm_near_1(value) if small else logarithm_of(1 + value)

    return each(of, x)


def sine(x: ArrayLike) -> Times:
    """The sine.

    Args:
        x: angles in radians, any shape, 0 to half of pi.

    Returns:
        float64 of that shape, 0 to 1.
    """

    def of(angle: float) -> float:
        # The smaller of the two angles: the series are short only up to a quarter of pi.
        other = (HALF_PI[0] - angle) + HALF_PI[1]
        return sine_to_quarter(angle) if angle < other else cosine_to_quarter(other)

    return each(of, x)


def cosine(x: ArrayLike) -> Times:
    """The cosine.

    Args:
        x: angles in radians, any shape, 0 to half of pi.

    Returns:
        float64 of that shape, 0 to 1.
    """

    def of(angle: float) -> float:
        other = (HALF_PI[0] - angle) + HALF_PI[1]
        return cosine_to_quarter(angle) if angle < other else sine_to_quarter(other)

    return each(of, x)


def each(function: Callable[[float], float], x: ArrayLike) -> Times:
    """A function of one number, of every number of an array: for the few times of a run.

    Python's own numbers take a microsecond where an array of one takes fifty.

    Args:
        function: of one number.
        x: any shape.

    Returns:
        float64 of that shape.
    """
    x = np.asarray(x, np.float64)
    values = np.array([function(value) for value in x.reshape(-1).tolist()], np.float64)
    return values.reshape(x.shape)


def reduce_argument(x: ArrayLike) -> tuple[Times, Times]:
    """Argument reduction: `x` as a multiple of log 2 and a rest.

    Args:
        x: any shape.

    Returns:
        The rest, float64, at most half of log 2 either way; then the multiples, whole numbers. Both
        of the shape of `x`.
    """
    x = np.clip(np.asarray(x, np.float64), -FARTHEST, FARTHEST)
    # In this order: the first product is exact, so that only the small second one is rounded.
    twos = np.rint(x / LN2[0])
    return np.asarray((x - twos * LN2[0]) - twos * LN2[1]), twos.astype(int)


def logarithm_of(x: float) -> float:
    """The natural logarithm of one number."""
    if x == 0:
        return -inf
    # A mantissa around 1, so that the series below converges within its twelve terms.
    mantissa, twos = frexp(x)
    if mantissa < SQRT_HALF:
        mantissa, twos = ldexp(mantissa, 1), twos - 1
    return twos * LN2[0] + (logarithm_near_1(mantissa - 1) + twos * LN2[1])


def logarithm_near_1(x: float) -> float:
    """`log(1 + x)` where `1 + x` lies between the roots of 1/2 and of 2: the series of artanh."""
    part = x / (2 + x)
    value: float = 2 * part * polynomial(LOG_TERMS, part * part)
    return value


def sine_to_quarter(x: float) -> float:
    """The sine of an angle up to a quarter of pi."""
    value: float = x * polynomial(SIN_TERMS, x * x)
    return value


def cosine_to_quarter(x: float) -> float:
    """The cosine of an angle up to a quarter of pi."""
    value: float = polynomial(COS_TERMS, x * x)
    return value


def polynomial(terms: tuple[float, ...], x: Any) -> Any:
    """`terms[0] + terms[1] x + ...`, from the highest power down."""
    total = terms[-1] * x
    for term in terms[-2:0:-1]:
        total = (total + term) * x
    return total + terms[0]
