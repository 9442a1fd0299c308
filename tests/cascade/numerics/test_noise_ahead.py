"""Noise drawn early: the same bits, each draw once, and nothing kept for ever."""

from collections.abc import Iterator

import numpy as np
import pytest

from cascade.errors import InvalidRequest
from cascade.numerics.noise import START, normals
from cascade.numerics.noise_ahead import KEPT, WORTH_VALUES, NoiseAhead

SHAPE = (1, 1, WORTH_VALUES)
ADDRESS = {"seed": 7, "image": 1, "stage": 3, "step": START}


@pytest.fixture
def ahead() -> Iterator[NoiseAhead]:
    """Closed at the end."""
    made = NoiseAhead()
    yield made
    made.close()


def test_noise_drawn_early_is_the_noise(ahead: NoiseAhead) -> None:
    """To the bit, whether it was begun, begun twice, or never; what is taken is not kept."""
    expected = normals(SHAPE, **ADDRESS)
    ahead.begin(SHAPE, **ADDRESS)
    ahead.begin(SHAPE, **ADDRESS)
    for _ in range(2):
        np.testing.assert_array_equal(ahead.normals(SHAPE, **ADDRESS), expected)
    small = ahead.normals((5,), **ADDRESS)
    np.testing.assert_array_equal(small, expected.ravel()[:5])


def test_draws_that_nobody_takes_are_forgotten(ahead: NoiseAhead) -> None:
    """Requests that were cancelled in between leave at most so many pictures of noise behind."""
    for seed in range(KEPT + 3):
        ahead.begin(SHAPE, **{**ADDRESS, "seed": seed})
    assert ahead.waiting == KEPT
    found = ahead.normals(SHAPE, **{**ADDRESS, "seed": 0})
    np.testing.assert_array_equal(found, normals(SHAPE, **{**ADDRESS, "seed": 0}))


def test_what_is_too_small_or_too_late_is_drawn_when_it_is_needed(ahead: NoiseAhead) -> None:
    """No thread for a few values, nor after the end; a wrong seed fails as ever."""
    ahead.begin((8,), **ADDRESS)
    assert ahead.waiting == 0
    ahead.begin(SHAPE, **{**ADDRESS, "seed": -1})
    with pytest.raises(InvalidRequest, match="seed"):
        ahead.normals(SHAPE, **{**ADDRESS, "seed": -1})
    ahead.close()
    ahead.begin(SHAPE, **ADDRESS)
    assert ahead.waiting == 0
