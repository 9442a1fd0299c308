"""Elementary functions against the C library's, within the last places, and bit for bit by hash."""

import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest

from cascade.numerics.elementary import (
    cosine,
    exponential,
    exponential_minus_1,
    logarithm,
    logarithm_of_1_plus,
    sine,
)
from cascade.types import Array

ULPS = 4
TINY = 10.0 ** np.linspace(-12, 0, 500)
SIGNED = np.concatenate([np.linspace(-40, 40, 1001), TINY, -TINY])
ANGLES = np.concatenate([np.linspace(0, math.pi / 2, 1001), TINY, math.pi / 2 - TINY[:400]])

CASES: list[tuple[Callable[[Array], Array], Callable[[float], float], Array]] = [
    (exponential, math.exp, SIGNED),
    (exponential_minus_1, math.expm1, SIGNED),
    (logarithm, math.log, np.concatenate([np.exp(SIGNED), 1 + TINY, 1 - TINY[:-1]])),
    (logarithm_of_1_plus, math.log1p, np.concatenate([TINY, -TINY[:-1], TINY[:-1] - 1])),
    (sine, math.sin, ANGLES),
    (cosine, math.cos, ANGLES),
]
BITS = "a9a036814ad5b71625586052893836dcfc1ed73f7cd6e41a9159a78b81ff7401"


@pytest.mark.parametrize(
    ("ours", "theirs", "values"), CASES, ids=[ours.__name__ for ours, _, _ in CASES]
)
def test_functions_are_right_to_the_last_places(
    ours: Callable[[Array], Array], theirs: Callable[[float], float], values: Array
) -> None:
    """Within four units in the last place of the C library, which is within one of the truth."""
    expected = np.array([theirs(value) for value in values.tolist()])
    places = np.abs(ours(values) - expected) / np.spacing(np.abs(expected))
    assert places.max() <= ULPS


def test_the_ends_are_right() -> None:
    """Zero, infinity and what is beyond a double."""
    assert exponential(-math.inf) == exponential(-1e9) == 0
    assert exponential(710.0) == exponential(math.inf) == math.inf
    assert (exponential(0.0), exponential_minus_1(0.0), sine(0.0), cosine(0.0)) == (1, 0, 0, 1)
    assert exponential_minus_1(-math.inf) == -1
    assert logarithm(0.0) == logarithm_of_1_plus(-1.0) == -math.inf
    assert logarithm(1.0) == logarithm_of_1_plus(0.0) == 0


@pytest.mark.parametrize("function", [exponential, exponential_minus_1, logarithm, sine])
def test_one_number_and_many_are_the_same(function: Callable[[object], Array]) -> None:
    """The shape of what is asked changes no bit, and is the shape of the answer."""
    values = np.linspace(0.1, 1.5, 24).reshape(2, 3, 4)
    together = function(values)
    assert together.shape == values.shape
    alone = [float(function(value)) for value in values.reshape(-1).tolist()]
    np.testing.assert_array_equal(together.reshape(-1), alone)


def test_bits_are_the_same_on_every_machine() -> None:
    """The hash of every result: it was computed once, and holds for any processor and library."""
    digest = hashlib.sha256()
    for ours, _, _ in CASES:
        digest.update(ours(np.arange(1, 1500) / 1024).astype("<f8").tobytes())
    assert digest.hexdigest() == BITS
