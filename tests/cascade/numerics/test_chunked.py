"""Work in chunks: nothing shows where an array was cut."""

import numpy as np
import pytest

from cascade.numerics.chunked import CHUNK, chunks, weighted_sum
from cascade.types import Array


def draw(seed: int, shape: tuple[int, ...]) -> Array:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize(("size", "piece"), [(0, 4), (1, 4), (4, 4), (9, 4), (12, 4)])
def test_pieces_cover_everything_once_in_order(size: int, piece: int) -> None:
    """The slices, put together, are the whole range; none is longer than a piece."""
    parts = list(chunks(size, piece))
    assert [i for part in parts for i in range(size)[part]] == list(range(size))
    assert all(0 < part.stop - part.start <= piece for part in parts)


@pytest.mark.parametrize("size", [1, 1000, CHUNK, CHUNK + 1, 2 * CHUNK + 77])
def test_a_weighted_sum_is_the_plain_expression_to_the_bit(size: int) -> None:
    """Around the borders of chunks too, `w0 a + w1 b + w2 c` in float32, left to right."""
    a, b, c = (draw(seed, (1, size)) for seed in range(3))
    w = [np.float32(value) for value in (0.8, -0.6, 1.7)]
    result = weighted_sum((w[0], a), (w[1], b), (w[2], c))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, w[0] * a + w[1] * b + w[2] * c)


def test_each_image_has_its_own_weight() -> None:
    """A weight `[B]` scales image by image, beside a weight that all share."""
    a, b = draw(1, (3, 2, 4, 5)), draw(2, (3, 2, 4, 5))
    weights = np.array([0.0, 0.5, -2.0])
    result = weighted_sum((weights, a), (3.0, b))
    for index, weight in enumerate(weights):
        expected = np.float32(weight) * a[index] + np.float32(3) * b[index]
        np.testing.assert_array_equal(result[index], expected)


def test_arguments_are_left_alone_and_may_be_views() -> None:
    """What comes in stays; transposed images count by their values, not their memory."""
    a = draw(1, (2, 3, 4, 5))
    before = a.copy()
    result = weighted_sum((2.0, a.swapaxes(2, 3)), (1.0, a.swapaxes(2, 3)))
    np.testing.assert_array_equal(a, before)
    np.testing.assert_allclose(result, 3 * before.swapaxes(2, 3), rtol=1e-6)
