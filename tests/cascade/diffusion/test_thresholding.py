"""Static and dynamic thresholding against percentiles taken by hand."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from cascade.diffusion.denoiser import Denoiser, Estimate
from cascade.diffusion.thresholding import DynamicThreshold, StaticThreshold
from cascade.types import Batch, PerSample

TIMES = np.array([0.5], np.float32)


@dataclass
class FakeDenoiser:
    """Estimates the same images whatever it sees."""

    x0: Batch

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """The fixed estimate, in memory of its own."""
        del x_t, t
        return Estimate(self.x0.copy())


def draw(scale: float, seed: int = 0) -> Batch:
    """One normal image `[1, 3, 4, 7]` of that standard deviation."""
    values = np.random.default_rng(seed).standard_normal((1, 3, 4, 7))
    return (scale * values).astype(np.float32)


def dynamic(x0: Batch, percentile: float = 0.995, cap: float | None = None) -> Batch:
    """The dynamic threshold of a fixed estimate."""
    denoise = DynamicThreshold(FakeDenoiser(x0), percentile, cap)
    return denoise(x0, np.repeat(TIMES, len(x0))).x0


def quantile_by_hand(values: Batch, share: float) -> float:
    """Linear interpolation between the two nearest order statistics, in plain Python."""
    ordered = sorted(float(value) for value in values.reshape(-1))
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def test_static_threshold_clips_to_the_range_of_images() -> None:
    """Values beyond -1 and 1 become -1 and 1, all others stay."""
    x0 = np.array([-3.0, -1.0, -0.25, 0.5, 1.0, 1.5], np.float32).reshape(1, 3, 1, 2)
    clipped = StaticThreshold(FakeDenoiser(x0))(x0, TIMES).x0
    half = StaticThreshold(FakeDenoiser(x0), 0.5)(x0, TIMES).x0
    np.testing.assert_array_equal(half, np.clip(x0, -0.5, 0.5))
    np.testing.assert_array_equal(clipped.reshape(-1), [-1.0, -1.0, -0.25, 0.5, 1.0, 1.0])


@pytest.mark.parametrize("percentile", [0.5, 0.995, 1.0])
def test_dynamic_threshold_leaves_images_in_range_alone(percentile: float) -> None:
    """An estimate within [-1, 1] comes back to the bit: small pictures are not stretched."""
    x0 = np.linspace(-1.0, 1.0, 42, dtype=np.float32).reshape(1, 3, 2, 7)
    np.testing.assert_array_equal(dynamic(x0, percentile), x0)


@pytest.mark.parametrize("percentile", [0.8, 0.9, 0.995, 1.0])
def test_dynamic_threshold_divides_by_the_percentile_of_magnitudes(percentile: float) -> None:
    """The result is clip(x0, -k, k) / k, k the percentile of |x0| taken by hand."""
    x0 = draw(3.0)
    k = quantile_by_hand(np.abs(x0), percentile)
    assert k > 1
    np.testing.assert_allclose(dynamic(x0, percentile), np.clip(x0, -k, k) / k, rtol=1e-6)


def test_dynamic_threshold_counts_all_channels_together() -> None:
    """Magnitudes 1 to 21 over three channels: the 95th percentile is the 20th of them."""
    x0 = np.arange(1, 22, dtype=np.float32).reshape(1, 3, 1, 7)
    expected = np.minimum(np.arange(1, 22), 20) / 20
    np.testing.assert_allclose(dynamic(x0, 0.95).reshape(-1), expected, rtol=1e-6)


def test_dynamic_threshold_at_percentile_one_only_scales() -> None:
    """With the largest magnitude as k nothing is clipped: ratios between pixels survive."""
    x0 = draw(2.5)
    np.testing.assert_allclose(dynamic(x0, 1.0), x0 / np.abs(x0).max(), rtol=1e-6)


@pytest.mark.parametrize("percentile", [0.7, 0.995])
def test_dynamic_threshold_is_odd_and_bounded(percentile: float) -> None:
    """A negative picture gives the negative result, and no value leaves [-1, 1]."""
    x0 = draw(4.0)
    result = dynamic(x0, percentile)
    np.testing.assert_array_equal(dynamic(-x0, percentile), -result)
    assert np.abs(result).max() == 1.0


def test_cap_of_one_is_the_static_threshold() -> None:
    """With k held at 1 the dynamic form only clips."""
    x0 = draw(3.0)
    np.testing.assert_array_equal(dynamic(x0, 0.9, cap=1.0), np.clip(x0, -1.0, 1.0))


def test_cap_bounds_the_divisor() -> None:
    """Where the percentile is above the cap, the cap takes its place; below, it changes nothing."""
    x0 = draw(3.0)
    assert quantile_by_hand(np.abs(x0), 0.9) > 1.5
    np.testing.assert_allclose(dynamic(x0, 0.9, cap=1.5), np.clip(x0, -1.5, 1.5) / 1.5, rtol=1e-6)
    np.testing.assert_array_equal(dynamic(x0, 0.9, cap=99.0), dynamic(x0, 0.9))


def test_each_image_is_thresholded_by_itself() -> None:
    """In a batch the quiet image stays as it is and the loud one equals itself alone."""
    quiet, loud = draw(0.1), draw(5.0, seed=1)
    result = dynamic(np.concatenate([quiet, loud]), 0.9)
    np.testing.assert_array_equal(result[:1], quiet)
    np.testing.assert_array_equal(result[1:], dynamic(loud, 0.9))


@pytest.mark.parametrize("wrapper", [StaticThreshold, DynamicThreshold])
def test_thresholds_wrap_denoisers_and_are_denoisers(
    wrapper: type[StaticThreshold] | type[DynamicThreshold],
) -> None:
    """A wrapped estimate is a denoiser of its own, and keeps shape and float32."""
    denoise = wrapper(FakeDenoiser(draw(3.0)))
    result = denoise(draw(1.0), TIMES).x0
    assert isinstance(denoise, Denoiser)
    assert (result.shape, result.dtype) == ((1, 3, 4, 7), np.float32)


@pytest.mark.parametrize(("scale", "shift"), [(0.02, 1.0), (0.6, 0.0), (0.001, 0.5)])
def test_a_large_picture_is_thresholded_by_the_percentile_numpy_gives(
    scale: float, shift: float
) -> None:
    """At sizes where the percentile takes its short way: noisy white, loud noise, all in range."""
    noise = np.random.default_rng(4).standard_normal((1, 3, 300, 310))
    x0 = (shift + scale * noise).astype(np.float32)
    k = np.float32(max(1.0, np.quantile(np.abs(x0).astype(np.float64), 0.995)))
    np.testing.assert_array_equal(dynamic(x0), np.clip(x0, -k, k) / k)


def test_an_estimate_in_another_memory_order_is_thresholded_too() -> None:
    """Planes that lie transposed in memory count by their values."""
    x0 = draw(3.0).swapaxes(2, 3)
    k = quantile_by_hand(np.abs(x0), 0.9)
    np.testing.assert_allclose(dynamic(x0, 0.9), np.clip(x0, -k, k) / k, rtol=1e-6)
