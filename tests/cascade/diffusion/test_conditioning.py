"""Enlargement by cubic convolution and noise augmentation, against what each reproduces exactly."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from cascade.diffusion.conditioning import (
    AUGMENTATION,
    TAPPED,
    UpsampleKind,
    augment,
    cubic_kernel,
    cubic_phases,
    upsample,
)
from cascade.numerics.noise import normals
from cascade.types import Array, Batch
from tests.cascade.diffusion.resize_matrices import enlarged_by_matrices

FACTORS = pytest.mark.parametrize("factor", [2, 3, 4])


def picture(shape: tuple[int, ...], seed: int = 0) -> Batch:
    """Normal pictures, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def centres(size: int, factor: int) -> Array:
    """Where the enlarged pixels' centres lie, in pixels of the smaller image."""
    return (np.arange(size * factor) + 0.5) / factor - 0.5


def test_kernel_interpolates() -> None:
    """The kernel is 1 at its centre and 0 at every other pixel, and beyond two pixels."""
    np.testing.assert_array_equal(
        cubic_kernel(np.array([0.0, 1.0, -1.0, 2.0, -2.0, 2.5, -7.0])), [1, 0, 0, 0, 0, 0, 0]
    )


@pytest.mark.parametrize(("distance", "weight"), [(0.5, 9 / 16), (1.5, -1 / 16), (-0.5, 9 / 16)])
def test_kernel_half_way(distance: float, weight: float) -> None:
    """Half way between pixels the weights are Keys' -1/16, 9/16, 9/16, -1/16."""
    assert cubic_kernel(np.array([distance]))[0] == weight


def test_kernel_weights_sum_to_one() -> None:
    """At any place the weights of all pixels sum to one."""
    places = np.linspace(0.0, 1.0, 33)[:, None]
    np.testing.assert_allclose(cubic_kernel(places - np.arange(-2, 4)).sum(axis=1), 1, atol=1e-14)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8])
def test_weights_of_every_phase_sum_to_one(factor: int) -> None:
    """Every enlarged pixel is an average of four small ones; phases mirror each other."""
    phases = cubic_phases(factor)
    assert len(phases) == factor
    for phase, mirrored in zip(phases, reversed(phases), strict=True):
        assert sum(map(float, phase.weights)) == pytest.approx(1, abs=1e-7)
        assert len(phase.weights) == 4
        if phase is not mirrored:
            assert phase.weights == tuple(reversed(mirrored.weights))


@pytest.mark.parametrize("value", [-1.0, 0.0, 0.7])
@FACTORS
def test_constant_pictures_stay_constant(factor: int, value: float) -> None:
    """A picture of one colour is enlarged to the same colour everywhere."""
    result = upsample(np.full((1, 3, 6, 5), value, np.float32), factor)
    np.testing.assert_allclose(result, value, atol=1e-6)


@FACTORS
@pytest.mark.parametrize(
    "curve",
    [lambda x: 0.5 * x - 2, lambda x: 0.03 * x**2 - 0.2 * x + 1],
    ids=["line", "parabola"],
)
@pytest.mark.parametrize("axis", [2, 3])
def test_ramps_and_parabolas_are_reproduced_inside(
    axis: int, curve: Callable[[Array], Array], factor: int
) -> None:
    """Where all four taps are inside, a polynomial up to the second degree is continued exactly."""
    size = 9
    small = np.ones((1, 3, size, size), np.float32)
    along = [1, 1, 1, 1]
    along[axis] = size
    result = upsample(small * curve(np.arange(size)).reshape(along).astype(np.float32), factor)
    places = centres(size, factor)
    inside = (places >= 1) & (places <= size - 2)
    lines = np.moveaxis(result, axis, -1)[..., inside]
    np.testing.assert_allclose(
        lines, np.broadcast_to(curve(places[inside]), lines.shape), atol=3e-6
    )


def test_edges_are_repeated() -> None:
    """The borders behave as if the outermost pixels went on for ever."""
    small = picture((1, 3, 4, 5))
    padded = np.pad(small, ((0, 0), (0, 0), (3, 3), (3, 3)), mode="edge")
    np.testing.assert_allclose(upsample(small, 2), upsample(padded, 2)[..., 6:-6, 6:-6], atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_shape_grows_by_the_factor(factor: int) -> None:
    """Height and width grow by the factor, batch and channels stay, the result is float32."""
    result = upsample(picture((2, 3, 4, 7)), factor)
    assert result.shape == (2, 3, 4 * factor, 7 * factor)
    assert result.dtype == np.float32


def test_factor_one_is_the_identity() -> None:
    """A picture enlarged by 1 is itself, to the bit."""
    small = picture((2, 3, 5, 6))
    np.testing.assert_array_equal(upsample(small, 1), small)


def test_odd_factors_keep_the_original_pixels() -> None:
    """With an odd factor the centre of every small pixel is sampled, and keeps its value."""
    small = picture((1, 3, 5, 6))
    np.testing.assert_allclose(upsample(small, 3)[..., 1::3, 1::3], small, atol=1e-6)


@FACTORS
@pytest.mark.parametrize("axis", [2, 3])
def test_enlarging_commutes_with_flips(axis: int, factor: int) -> None:
    """Flipping before or after gives the same picture: no direction is preferred."""
    small = picture((1, 3, 6, 5))
    np.testing.assert_allclose(
        upsample(np.flip(small, axis), factor), np.flip(upsample(small, factor), axis), atol=1e-6
    )


def test_enlarging_treats_both_axes_alike() -> None:
    """Swapping height and width before or after gives the same picture."""
    small = picture((1, 3, 6, 5))
    np.testing.assert_allclose(
        upsample(small.swapaxes(2, 3), 4), upsample(small, 4).swapaxes(2, 3), atol=1e-6
    )


def test_pictures_and_channels_do_not_mix() -> None:
    """Only the channel that has light before has light after."""
    small = np.zeros((2, 3, 4, 4), np.float32)
    small[1, 2] = picture((4, 4))
    result = upsample(small, 2)
    assert np.abs(result[1, 2]).max() > 0
    result[1, 2] = 0
    assert not result.any()


def test_level_zero_leaves_the_picture() -> None:
    """Augmentation level 0 is the identity, to the bit, whatever the noise."""
    images = picture((1, 3, 4, 4))
    np.testing.assert_array_equal(augment(images, 0.0, np.full_like(images, 1e9)), images)


@pytest.mark.parametrize("level", [0.001, 0.25, 0.5, 1.0])
def test_augmentation_scales_signal_and_noise(level: float) -> None:
    """Level s weighs the picture by alpha(s) and the noise by sigma(s)."""
    ones = np.ones((1, 3, 2, 2), np.float32)
    signal, noise = augment(ones, level, 0 * ones), augment(0 * ones, level, ones)
    assert signal.dtype == noise.dtype == np.float32
    np.testing.assert_allclose(signal, AUGMENTATION.alpha(np.float64(level)), rtol=1e-6)
    np.testing.assert_allclose(noise, AUGMENTATION.sigma(np.float64(level)), rtol=1e-6)


@pytest.mark.parametrize(
    ("level", "alpha", "sigma"), [(0.5, math.sqrt(0.5), math.sqrt(0.5)), (1.0, math.exp(-10), 1.0)]
)
def test_augmentation_by_hand(level: float, alpha: float, sigma: float) -> None:
    """Half way signal and noise weigh the same; at level 1 of the signal e^-10 is left."""
    ones = np.ones((1, 3, 1, 1), np.float32)
    np.testing.assert_allclose(augment(ones, level, 0 * ones), alpha, rtol=1e-6)
    np.testing.assert_allclose(augment(0 * ones, level, ones), sigma, rtol=1e-6)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_augmentation_of_a_flat_picture_has_the_variance_of_its_level(level: float) -> None:
    """Mean alpha(s) times the colour and variance sigma(s)^2, for noise of unit variance."""
    shape = (1, 3, 128, 128)
    noise = normals(shape, seed=1, image=0, stage=0, step=0)
    result = augment(np.full(shape, 0.5, np.float32), level, noise).astype(np.float64)
    alpha, sigma = (f(np.float64(level)) for f in (AUGMENTATION.alpha, AUGMENTATION.sigma))
    # Five standard errors of the mean and of the variance of n normal values.
    assert result.mean() == pytest.approx(0.5 * alpha, abs=5 * sigma / math.sqrt(noise.size))
    assert result.var() == pytest.approx(sigma**2, rel=5 * math.sqrt(2 / noise.size))


SIZES = ((64, 48), 4), ((100, 37), 3), ((5, 200), 2), ((1, 1), 4), ((2, 3), 4), ((1, 9), 3)


@pytest.mark.parametrize("kind", ["cubic", "bilinear_corners"])
@pytest.mark.parametrize(("size", "factor"), [*SIZES, ((256, 256), 4)])
def test_enlarging_is_the_product_with_both_matrices(
    size: tuple[int, int], factor: int, kind: UpsampleKind
) -> None:
    """As a product with every weight, zeros included, in double precision would have it."""
    small = picture((2, 3, *size)).clip(-1, 1)
    whole = enlarged_by_matrices(small, factor, kind)
    np.testing.assert_allclose(upsample(small, factor, kind), whole, rtol=0, atol=1e-6)


def test_pieces_change_no_bit() -> None:
    """A picture worked on in several pieces holds one that was worked on in a single piece."""
    small = picture((1, 3, TAPPED // 512, 64))
    height = small.shape[2]
    long = upsample(np.concatenate([small] * 3, axis=2), 4)
    inside = slice(4 * 2, 4 * (height - 2))
    middle = long[:, :, 4 * height : 8 * height]
    np.testing.assert_array_equal(middle[:, :, inside], upsample(small, 4)[:, :, inside])


def by_hand(pixels: list[float], place: int) -> np.float32:
    """One of four times as many pixels of a row: four products and three sums in float32."""
    centre = (place + 0.5) / 4 - 0.5
    base = math.floor(centre)
    total = np.float32(0)
    for tap in range(-1, 3):
        weight = np.float32(cubic_kernel(np.array([centre - base - tap]))[0])
        pixel = np.float32(pixels[min(max(base + tap, 0), len(pixels) - 1)])
        total = weight * pixel if tap == -1 else total + weight * pixel
    return total


def test_the_order_of_the_sums_is_written_down() -> None:
    """Left to right, every product and sum rounded by itself: by hand the same bits come out."""
    row = picture((7,)).tolist()
    wide = upsample(np.array(row, np.float32).reshape(1, 1, 1, 7), 1)
    np.testing.assert_array_equal(wide.reshape(-1), np.array(row, np.float32))
    # A picture of one row, repeated: the vertical weights see equal values.
    tall = upsample(np.array(row, np.float32).reshape(1, 1, 1, 7), 4)
    horizontal = [by_hand(row, place) for place in range(28)]
    for phase in range(4):
        expected = [by_hand([value], phase) for value in horizontal]
        np.testing.assert_array_equal(tall[0, 0, phase], np.array(expected))
