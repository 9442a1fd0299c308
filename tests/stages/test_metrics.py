"""Picture metrics: closed forms, and what each must and must not notice."""

import math

import numpy as np
import pytest

from cascade.types import ImageU8
from stages.data.dataset import box_average
from stages.evaluation.metrics import (
    consistency_db,
    distance,
    diversity,
    nearest,
    psnr_db,
    sharpness,
    ssim,
)
from tests.support.tiny_training import smooth_picture


def flat(value: int, size: int = 32) -> ImageU8:
    """One grey."""
    return np.full((size, size, 3), value, np.uint8)


def test_a_picture_is_like_itself() -> None:
    """SSIM 1, PSNR infinite, distance 0."""
    picture = smooth_picture(32, 1)
    assert ssim(picture, picture) == pytest.approx(1.0, abs=1e-6)
    assert psnr_db(picture, picture) == math.inf
    assert distance(picture, picture) == 0


def test_ssim_of_two_greys_is_the_luminance_term() -> None:
    """Without structure only the means count: `(2ab + c1) / (a^2 + b^2 + c1)`."""
    a, b, c1 = 100 / 255, 150 / 255, 0.01**2
    assert ssim(flat(100), flat(150)) == pytest.approx(
        (2 * a * b + c1) / (a * a + b * b + c1), 1e-4
    )


def test_ssim_of_a_negative() -> None:
    """The same structure with the sign turned is unlike, though every mean is equal."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-60, 61, (64, 64, 3))
    one, other = (np.asarray(128 + s * noise, np.uint8) for s in (1, -1))
    assert ssim(one, other) < -0.8


def test_blur_lowers_sharpness_and_a_checkerboard_has_the_most() -> None:
    """Neighbours that differ by the whole range give 255."""
    board = np.asarray(255 * (np.indices((16, 16)).sum(0) % 2), np.uint8)
    assert sharpness(np.repeat(board[..., None], 3, axis=2)) == pytest.approx(255)
    assert sharpness(flat(7)) == 0


def test_consistency_ignores_what_averages_out() -> None:
    """Detail that vanishes in the average costs nothing; a change of colour does."""
    large = smooth_picture(64, 2)
    small = box_average(large, 4)
    assert consistency_db(large, small) == math.inf
    assert consistency_db(flat(110, 64), flat(100, 16)) == pytest.approx(
        20 * math.log10(255 / 10), abs=1e-6
    )


def test_diversity_is_the_mean_over_pairs() -> None:
    """Of greys 0, 10 and 40 the pairs are 10, 40 and 30 apart."""
    assert diversity([flat(0), flat(10), flat(40)]) == pytest.approx(80 / 3)


def test_the_nearest_of_several() -> None:
    """Index and distance of the closest."""
    index, far = nearest(flat(33), [flat(0), flat(30), flat(60)])
    assert (index, far) == (1, pytest.approx(3.0))
