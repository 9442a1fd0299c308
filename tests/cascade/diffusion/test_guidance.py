"""Classifier-free guidance: its ends, its line, and its sameness on every kind of prediction."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from cascade.diffusion.denoiser import Denoiser, Estimate
from cascade.diffusion.guidance import (
    ConstantGuidance,
    GuidanceWeight,
    GuidedDenoiser,
    OscillatingGuidance,
)
from cascade.diffusion.parametrization import Prediction, to_x0
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest
from cascade.types import Array, Batch, PerSample

SHAPE = (2, 3, 4, 5)
TIMES = np.array([0.25, 0.75], np.float32)


def draw(seed: int) -> Batch:
    """Whole numbers of sixteenths, so that sums and small products of them are exact."""
    integers = np.random.default_rng(seed).integers(-32, 33, SHAPE)
    return (integers / 16).astype(np.float32)


CONDITIONAL, UNCONDITIONAL, X_T = draw(1), draw(2), draw(3)


@dataclass
class FakeBoth:
    """Answers with fixed estimates for the two halves and keeps what it was asked."""

    estimates: Array
    asked: list[tuple[Batch, PerSample]] = field(default_factory=list)

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """The fixed estimates."""
        self.asked.append((x_t, t))
        return Estimate(self.estimates)


def guided(weights: list[float]) -> Batch:
    """Guidance of the two fixed estimates with one weight per image."""
    both = FakeBoth(np.concatenate([CONDITIONAL, UNCONDITIONAL]))
    return GuidedDenoiser(both, np.array(weights, np.float32))(X_T, TIMES).x0


def test_weight_one_is_the_conditional_estimate() -> None:
    """Weight 1 means no guidance."""
    np.testing.assert_array_equal(guided([1.0, 1.0]), CONDITIONAL)


def test_weight_zero_is_the_unconditional_estimate() -> None:
    """Weight 0 means that the text does not count."""
    np.testing.assert_array_equal(guided([0.0, 0.0]), UNCONDITIONAL)


@pytest.mark.parametrize("weight", [0.5, 2.0, 7.5])
def test_other_weights_lie_on_the_line_through_both(weight: float) -> None:
    """Weight w is (1 - w) unconditional + w conditional, also far beyond the two."""
    expected = (1 - weight) * UNCONDITIONAL + weight * CONDITIONAL
    np.testing.assert_array_equal(guided([weight, weight]), expected)


def test_each_image_has_its_own_weight() -> None:
    """The weights belong to the images of the batch in their order."""
    result = guided([0.0, 1.0])
    np.testing.assert_array_equal(result[0], UNCONDITIONAL[0])
    np.testing.assert_array_equal(result[1], CONDITIONAL[1])


def test_both_halves_see_the_same_images_and_times_in_one_call() -> None:
    """The inner denoiser runs once, on the batch twice over; the result keeps type and shape."""
    both = FakeBoth(np.concatenate([CONDITIONAL, UNCONDITIONAL]))
    denoise = GuidedDenoiser(both, np.array([3.0, 3.0], np.float32))
    result = denoise(X_T, TIMES).x0
    ((x_t, t),) = both.asked
    np.testing.assert_array_equal(x_t, np.concatenate([X_T, X_T]))
    np.testing.assert_array_equal(t, np.concatenate([TIMES, TIMES]))
    assert isinstance(denoise, Denoiser)
    assert (result.shape, result.dtype) == (SHAPE, np.float32)


@pytest.mark.parametrize("kind", ["epsilon", "v", "x0"])
def test_guidance_of_estimates_equals_guidance_of_predictions(kind: Prediction) -> None:
    """Combining epsilon or v and then converting gives what combining the estimates gives."""
    alpha, sigma, weight = 0.6, 0.8, 4.0
    with_text, without = CONDITIONAL.astype(np.float64), UNCONDITIONAL.astype(np.float64)
    combined = to_x0(kind, without + weight * (with_text - without), X_T, alpha, sigma)
    estimates = [to_x0(kind, half, X_T, alpha, sigma) for half in (with_text, without)]
    both = FakeBoth(np.concatenate(estimates))
    result = GuidedDenoiser(both, np.array([weight, weight], np.float32))(X_T, TIMES).x0
    np.testing.assert_allclose(result, combined, atol=1e-12)


@pytest.mark.parametrize("step", [0, 1, 99])
def test_constant_guidance_is_constant(step: int) -> None:
    """The constant weight does not look at the step."""
    assert ConstantGuidance(7.5).at(step) == 7.5


@pytest.mark.parametrize(
    ("first_steps", "pattern"),
    [(0, "LHLHLH"), (1, "HLHLHL"), (3, "HHHLHL"), (6, "HHHHHH")],
)
def test_oscillating_guidance_alternates_after_the_first_steps(
    first_steps: int, pattern: str
) -> None:
    """High during the first steps, then low and high in turn, beginning low."""
    weight = OscillatingGuidance(high=15.0, low=2.0, first_steps=first_steps)
    assert "".join({15.0: "H", 2.0: "L"}[weight.at(step)] for step in range(6)) == pattern


def test_oscillating_guidance_is_off_when_low_by_default() -> None:
    """Unless told otherwise, the low weight is 1: no guidance."""
    assert OscillatingGuidance(high=15.0, first_steps=2).at(2) == 1.0


@pytest.mark.parametrize(
    "weight", [ConstantGuidance(1.0), OscillatingGuidance(high=2.0, first_steps=0)], ids=str
)
def test_guidance_weights_fulfil_the_protocol(weight: object) -> None:
    """Both forms can stand where a weight per step is asked."""
    assert isinstance(weight, GuidanceWeight)


@pytest.mark.parametrize("weight", [0, 1.0, 7.5, 100.0])
def test_weights_in_range_pass(weight: float) -> None:
    """A weight from 0 to 100 may be asked for, the ends included."""
    DiffusionOptions(guidance=weight).check("options.base")


@pytest.mark.parametrize("weight", [-0.001, 100.001, math.inf, -math.inf, math.nan])
def test_weights_out_of_range_name_the_field(weight: float) -> None:
    """Negative, huge and non-finite weights are refused, with the field and the number."""
    with pytest.raises(InvalidRequest, match=f"got {weight}") as caught:
        DiffusionOptions(guidance=weight).check("options.base")
    assert caught.value.field == "options.base.guidance"
