"""Predictions and estimates of the clean image: round trips, worked numbers, a fake engine."""

from collections.abc import Mapping
from typing import get_args

import numpy as np
import pytest

from cascade.diffusion.denoiser import Denoiser, EngineDenoiser
from cascade.diffusion.parametrization import Prediction, target, to_x0
from cascade.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from cascade.errors import StageError
from cascade.types import Array

KINDS = pytest.mark.parametrize("kind", get_args(Prediction))
TIMES = pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
SHAPE = (2, 3, 4, 5)


def draw(seed: int) -> Array:
    """Float64 normal numbers of the shape of all tests here."""
    return np.random.default_rng(seed).standard_normal(SHAPE)


class FakeEngine:
    """Predicts one array and keeps what it was given."""

    def __init__(self, prediction: Array) -> None:
        self.prediction = prediction
        self.inputs: list[Mapping[str, Array]] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The array, as the output `prediction`."""
        self.inputs.append(inputs)
        return {"prediction": self.prediction}

    def terminate(self) -> None:
        """Nothing runs long enough to end."""

    def close(self) -> None:
        """Nothing to release."""


@KINDS
@TIMES
def test_target_and_estimate_are_inverse(kind: Prediction, t: float) -> None:
    """Converting the perfect prediction of any kind gives the clean image back."""
    schedule, x0, epsilon = CosineSchedule(), draw(1), draw(2)
    alpha, sigma = schedule.alpha(np.float64(t)), schedule.sigma(np.float64(t))
    x_t = alpha * x0 + sigma * epsilon
    prediction = target(kind, x0, epsilon, alpha, sigma)
    np.testing.assert_allclose(to_x0(kind, prediction, x_t, alpha, sigma), x0, atol=1e-12)


@pytest.mark.parametrize(("kind", "prediction"), [("epsilon", -1.0), ("v", -1.1), ("x0", 0.5)])
def test_conversions_by_hand(kind: Prediction, prediction: float) -> None:
    """With alpha 0.8, sigma 0.6, x0 0.5 and epsilon -1: x_t is -0.2 and v is -1.1."""
    assert target(kind, 0.5, -1.0, 0.8, 0.6) == pytest.approx(prediction, abs=1e-12)
    assert to_x0(kind, prediction, -0.2, 0.8, 0.6) == pytest.approx(0.5, abs=1e-12)


def test_v_is_epsilon_without_noise_and_minus_the_image_without_signal() -> None:
    """The two ends of v: epsilon at alpha 1, -x0 at sigma 1."""
    x0, epsilon = draw(1), draw(2)
    np.testing.assert_array_equal(target("v", x0, epsilon, 1.0, 0.0), epsilon)
    np.testing.assert_array_equal(target("v", x0, epsilon, 0.0, 1.0), -x0)


@TIMES
def test_v_and_x_t_are_a_rotation_of_the_image_and_the_noise(t: float) -> None:
    """x_t^2 + v^2 = x0^2 + epsilon^2, pixel by pixel."""
    schedule, x0, epsilon = CosineSchedule(), draw(1), draw(2)
    alpha, sigma = schedule.alpha(np.float64(t)), schedule.sigma(np.float64(t))
    x_t, v = alpha * x0 + sigma * epsilon, target("v", x0, epsilon, alpha, sigma)
    np.testing.assert_allclose(x_t**2 + v**2, x0**2 + epsilon**2, rtol=1e-12)


@KINDS
@pytest.mark.parametrize("schedule", [CosineSchedule(), LinearSchedule()], ids=str)
def test_engine_denoiser_recovers_each_image_at_its_own_time(
    kind: Prediction, schedule: Schedule
) -> None:
    """A graph that predicts perfectly gives a denoiser that is perfect, one time per image."""
    x0, epsilon = draw(1), draw(2)
    t = np.array([0.25, 0.75], np.float32)
    alpha, sigma = schedule.alpha(t)[:, None, None, None], schedule.sigma(t)[:, None, None, None]
    engine = FakeEngine(np.float32(target(kind, x0, epsilon, alpha, sigma)))
    denoise = EngineDenoiser(engine, schedule, kind, {})
    estimate = denoise(np.float32(alpha * x0 + sigma * epsilon), t).x0
    assert isinstance(denoise, Denoiser)
    assert estimate.dtype == np.float32
    # Division by alpha magnifies the rounding of float32, most at the noisier time.
    np.testing.assert_allclose(estimate, x0, atol=1e-6 / alpha.min())


def test_engine_denoiser_feeds_image_time_and_conditioning() -> None:
    """The graph gets x_t, t as float32 and every bound conditioning, under their names."""
    engine = FakeEngine(np.zeros(SHAPE, np.float32))
    context = np.ones((2, 7, 3), np.float16)
    denoise = EngineDenoiser(engine, CosineSchedule(), "x0", {"context": context})
    x_t = draw(3).astype(np.float32)
    denoise(x_t, np.array([0.5, 1.0]))
    (inputs,) = engine.inputs
    assert set(inputs) == {"x_t", "t", "context"}
    assert inputs["t"].dtype == np.float32
    np.testing.assert_array_equal(inputs["t"], [0.5, 1.0])
    np.testing.assert_array_equal(inputs["x_t"], x_t)
    assert inputs["context"] is context


def test_engine_denoiser_refuses_a_prediction_of_another_shape() -> None:
    """A graph that answers with another shape is a stage error that shows both shapes."""
    denoise = EngineDenoiser(
        FakeEngine(np.zeros((1, 3, 4, 5), np.float32)), CosineSchedule(), "v", {}
    )
    with pytest.raises(StageError, match=r"\(2, 3, 4, 5\).*\(1, 3, 4, 5\)"):
        denoise(np.zeros(SHAPE, np.float32), np.ones(2, np.float32))


@pytest.mark.parametrize("t", [0.1, 0.9])
def test_engine_denoiser_of_v_is_the_plain_expression_to_the_bit(t: float) -> None:
    """`alpha x_t - sigma v` with alpha and sigma rounded once, every step in float32."""
    schedule = CosineSchedule()
    x_t, v = draw(1).astype(np.float32), draw(2).astype(np.float32)
    alpha, sigma = (
        np.float32(f(np.float64(np.float32(t)))) for f in (schedule.alpha, schedule.sigma)
    )
    denoise = EngineDenoiser(FakeEngine(v), schedule, "v", {})
    estimate = denoise(x_t, np.full(len(x_t), t, np.float32))
    np.testing.assert_array_equal(estimate.x0, alpha * x_t - sigma * v)


def test_an_estimate_is_nobody_elses_memory() -> None:
    """Thresholding works in place: of x0-predictions too, the engine's output stays as it is."""
    prediction = draw(3).astype(np.float32)
    denoise = EngineDenoiser(FakeEngine(prediction), CosineSchedule(), "x0", {})
    estimate = denoise(draw(1).astype(np.float32), np.full(2, 0.5, np.float32))
    np.testing.assert_array_equal(estimate.x0, prediction)
    assert not np.shares_memory(estimate.x0, prediction)
