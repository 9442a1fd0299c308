"""Classifier-free guidance: its ends, its line, and its sameness on every kind of prediction."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.manifest import read_manifest, write_manifest
from cascade.diffusion.denoiser import Denoiser, Estimate
from cascade.diffusion.guidance import (
    ConstantGuidance,
    GuidanceWeight,
    GuidedDenoiser,
    OscillatingGuidance,
    Projected,
    combination,
    plain,
)
from cascade.diffusion.parametrization import Prediction, to_x0
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.schedule import CosineSchedule
from cascade.diffusion.spec import ORTHOGONAL, GuidanceSpec
from cascade.errors import InvalidRequest, ManifestError
from cascade.graph_spec import NET, TensorSpec
from cascade.numerics.chunked import CHUNK
from cascade.numerics.products import dot
from cascade.types import Array, Batch, PerSample
from tests.support.manifests import stages_of, with_stages
from tests.support.tiny_bundle import write_tiny_bundle

COSINE = CosineSchedule()
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


@pytest.mark.parametrize("kind", ["epsilon", "v", "x0", "flow"])
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


def projected(kind: Prediction, weight: float, halves: tuple[Batch, Batch]) -> Batch:
    """Guidance without the parallel part, for both images of the fixed batch."""
    combine = Projected(COSINE, kind)
    weights = np.array([weight, weight], np.float32)
    return GuidedDenoiser(FakeBoth(np.concatenate(halves)), weights, combine)(X_T, TIMES).x0


def dots(one: Array, other: Array) -> Array:
    """Inner products image by image, float64 `[B]`."""
    return np.einsum("bchw,bchw->b", one.astype(np.float64), other.astype(np.float64))


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0, 15.0])
def test_the_parallel_part_is_removed(weight: float) -> None:
    """What guidance adds is orthogonal to the conditional estimate, and `w - 1` of the rest."""
    found = projected("x0", weight, (CONDITIONAL, UNCONDITIONAL))
    added = found.astype(np.float64) - CONDITIONAL
    lengths = dots(CONDITIONAL, CONDITIONAL)
    np.testing.assert_allclose(dots(added, CONDITIONAL) / lengths, 0, atol=2e-6)
    difference = CONDITIONAL.astype(np.float64) - UNCONDITIONAL
    share = (dots(difference, CONDITIONAL) / lengths)[:, None, None, None]
    np.testing.assert_allclose(added, (weight - 1) * (difference - share * CONDITIONAL), atol=1e-5)


@pytest.mark.parametrize("weight", [0.5, 7.5])
def test_an_orthogonal_difference_is_guided_as_plainly(weight: float) -> None:
    """Where nothing is parallel both conventions agree to the bit."""
    conditional, difference = np.zeros(SHAPE, np.float32), draw(7)
    conditional[:, 0], difference[:, 0] = draw(8)[:, 0], 0
    halves = (conditional, conditional - difference)
    both = FakeBoth(np.concatenate(halves))
    expected = GuidedDenoiser(both, np.array([weight, weight], np.float32))(X_T, TIMES).x0
    np.testing.assert_array_equal(projected("x0", weight, halves), expected)


@pytest.mark.parametrize("weight", [0.5, 7.5])
def test_a_parallel_difference_is_no_guidance(weight: float) -> None:
    """A picture that is only stronger, or no picture at all, is left as it is."""
    found = projected("x0", weight, (CONDITIONAL, 2 * CONDITIONAL))
    np.testing.assert_allclose(found, CONDITIONAL, atol=1e-5)
    black = np.zeros(SHAPE, np.float32)
    np.testing.assert_allclose(
        projected("x0", weight, (black, UNCONDITIONAL)), (1 - weight) * UNCONDITIONAL, rtol=1e-6
    )


@pytest.mark.parametrize("kind", ["epsilon", "v", "flow", "x0"])
def test_the_direction_may_be_the_prediction(kind: Prediction) -> None:
    """Projecting estimates along a prediction is projecting the predictions themselves."""
    schedule, weight = COSINE, 4.0
    alpha, sigma = (f(TIMES)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
    with_text, without = CONDITIONAL.astype(np.float64), UNCONDITIONAL.astype(np.float64)
    difference = with_text - without
    share = (dots(difference, with_text) / dots(with_text, with_text))[:, None, None, None]
    expected = with_text + (weight - 1) * (difference - share * with_text)
    halves = [to_x0(kind, half, X_T, alpha, sigma) for half in (with_text, without)]
    found = projected(kind, weight, (np.float32(halves[0]), np.float32(halves[1])))
    np.testing.assert_allclose(found, to_x0(kind, expected, X_T, alpha, sigma), atol=3e-5)


def test_a_dot_product_is_added_from_left_to_right() -> None:
    """Over more values than one piece holds: as a loop in double precision adds them."""
    one, other = (
        np.random.default_rng(k).standard_normal(CHUNK + 1001).astype(np.float32) for k in (1, 2)
    )
    total = 0.0
    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        total += a * b
    assert dot(one, other) == total


def test_the_convention_is_the_stage_s(tmp_path: Path) -> None:
    """The manifest names it, and a student of guidance has the plain one alone."""
    manifest = write_tiny_bundle(tmp_path / "tiny").manifest
    base, *rest = stages_of(manifest)
    spec = GuidanceSpec(kind="constant", weight=3.0, convention=ORTHOGONAL)
    assert combination(GuidanceSpec(kind="constant", weight=3.0), COSINE, "v") is plain
    assert combination(spec, COSINE, "v") == Projected(COSINE, "x0")
    other = replace(spec, convention="cond + (w - 1) orthogonal to prediction")
    assert combination(other, COSINE, "v") == Projected(COSINE, "v")
    changed = with_stages(manifest, (replace(base, guidance=spec), *rest))
    assert read_manifest(write_manifest(changed).encode()) == changed
    guidance = TensorSpec(name="guidance", dtype="float32", shape=("batch",))
    graph = replace(base.graph, inputs=(*base.graph.inputs, guidance))
    taught = replace(base, graphs={NET: graph}, guidance=replace(spec, taught=(1.0, 8.0)))
    with pytest.raises(ManifestError, match="student") as caught:
        with_stages(manifest, (taught, *rest))
    assert caught.value.field == "manifest.components[1].guidance.convention"
