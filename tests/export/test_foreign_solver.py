"""DPM-Solver++ configurations that are accepted, and formulas of schedules, against diffusers'."""

import inspect
import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cascade.diffusion.betas import BetaRule, BetaSpec, alpha_bars
from cascade.diffusion.continuous import FlowSpec, SigmaSpec
from cascade.diffusion.denoiser import EngineDenoiser
from cascade.diffusion.guidance import Halves, Projected
from cascade.diffusion.samplers.choice import SamplerInputs, sample
from cascade.diffusion.schedule import ScheduleSpec, make_schedule
from cascade.diffusion.spacing import SigmaRamp
from cascade.diffusion.spec import SamplerKind
from cascade.errors import UnsupportedModel
from cascade.numerics.noise import START, normals
from cascade.types import Array, Batch
from export.adapters.diffusers_scheduler import read_scheduler
from export.adapters.scheduler_fields import OF_CLIPPING, SOLVER_FIELDS
from tests.export.test_foreign_scheduler import Answers, network, ours

pytest.importorskip("diffusers", reason="THE FOREIGN EXTRA IS MISSING: diffusers was not compared")

from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from diffusers.guiders.adaptive_projected_guidance import normalized_guidance

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""diffusers hands tensors to numpy in a way that numpy 2 warns of."""

SHAPE = (1, 3, 4, 4)
TRAINED = 100
TOLERANCE = 1e-4
"""80 dB: diffusers computes sigmas in single precision."""
X = normals(SHAPE, seed=5, image=0, stage=1, step=START)
BETAS: tuple[dict[str, object], ...] = (
    {"beta_schedule": "linear"},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
)
THRESHOLDS: tuple[dict[str, object], ...] = (
    {},
    {"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.9},
)
LEFT_OVER = {"clip_sample": True, "clip_sample_range": 1.0, "variance_type": "fixed_small"}
"""What a scheduler made of DDPM's configuration carries along."""


def written(folder: Path, **fields: object) -> Path:
    """A scheduler's folder with these fields, as diffusers saves one that was swapped in."""
    made = DPMSolverMultistepScheduler.from_config(
        {"num_train_timesteps": TRAINED, **LEFT_OVER, **fields}
    )
    made.save_pretrained(folder)
    return folder


def theirs(scheduler: Any, steps: int) -> Batch:
    """The last state of diffusers' own loop."""
    scheduler.set_timesteps(steps)
    x = torch.from_numpy(X)
    for step, t in enumerate(scheduler.timesteps):
        x = scheduler.step(torch.from_numpy(network(step, x.numpy(), 3)), t, x).prev_sample
    return x.numpy()


def distance(folder: Path, steps: int) -> float:
    """The largest difference of the two last states, as a share of their size."""
    expected = theirs(DPMSolverMultistepScheduler.from_pretrained(str(folder)), steps)
    found = ours(read_scheduler(folder), steps)
    return float(np.abs(found - expected).max() / max(1, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("spacing", "karras"),
    [
        ("linspace", False), ("linspace", True), ("leading", False), ("trailing", False),
        ("trailing", True),
    ],
)  # fmt: skip
def test_every_accepted_configuration_is_diffusers_own(
    tmp_path: Path, spacing: str, *, karras: bool
) -> None:
    """Same network, same noise: the last states agree, or the configuration is refused."""
    offset = {"steps_offset": 1} if spacing == "leading" else {}
    for prediction, threshold, betas in product(
        ("epsilon", "v_prediction", "sample"), THRESHOLDS, BETAS
    ):
        folder = written(
            tmp_path, timestep_spacing=spacing, use_karras_sigmas=karras,
            prediction_type=prediction, **threshold, **betas, **offset,
        )  # fmt: skip
        if karras and betas["beta_schedule"] == "squaredcos_cap_v2":
            with pytest.raises(UnsupportedModel, match="use_karras_sigmas"):
                read_scheduler(folder)
            continue
        for steps in (2, 7):
            assert distance(folder, steps) < TOLERANCE, (prediction, threshold, betas, steps)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 15, 20])
def test_orders_and_lengths_are_diffusers_own(tmp_path: Path, order: int, steps: int) -> None:
    """Of order 1 it is DDIM; from 15 steps on diffusers ends otherwise, but for `zero`."""
    assert distance(written(tmp_path, solver_order=order), steps) < TOLERANCE


@pytest.mark.parametrize(
    "fields",
    [
        {"lower_order_final": False}, {"euler_at_final": True}, {"rescale_betas_zero_snr": True},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"variance_type": "learned_range"}, {"variance_type": None},
    ],
    ids=str,
)  # fmt: skip
def test_fields_that_change_little_or_nothing(tmp_path: Path, fields: dict[str, object]) -> None:
    """They are diffusers' own as well."""
    assert distance(written(tmp_path, **fields), 6) < TOLERANCE


REFUSED: dict[str, dict[str, object]] = {
    "order": {"solver_order": 3},
    "algorithm": {"algorithm_type": "sde-dpmsolver++"},
    "type": {"solver_type": "heun"},
    "lambdas": {"use_lu_lambdas": True},
    "flow": {"use_flow_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "end": {"final_sigmas_type": "sigma_min"},
    "clipped": {"lambda_min_clipped": -5.1},
    "prediction": {"prediction_type": "flow_prediction"},
    "spacing": {"timestep_spacing": "karras"},
    "variance": {"prediction_type": "sample", "variance_type": "learned_range"},
    "unknown": {"thresholding": False, "shift": 3.0},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_equal_is_refused(tmp_path: Path, name: str) -> None:
    """The error names the file and the field."""
    fields = REFUSED[name]
    *_, field = fields
    config = {"_class_name": "DPMSolverMultistepScheduler", **fields}
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel) as caught:
        read_scheduler(tmp_path)
    assert caught.value.field == f"{tmp_path / 'scheduler_config.json'}:{field}"


def test_every_parameter_of_the_scheduler_is_known() -> None:
    """A version of diffusers that can say more must be looked at first."""
    parameters = set(inspect.signature(DPMSolverMultistepScheduler.__init__).parameters) - {"self"}
    assert parameters == set(SOLVER_FIELDS)
    assert not parameters & set(OF_CLIPPING)


RULES: dict[BetaRule, str] = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squared_cosine": "squaredcos_cap_v2",
    "sigmoid": "sigmoid",
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("zero", [False, True])
def test_powers_by_rule_are_diffusers_own(rule: BetaRule, *, zero: bool) -> None:
    """Within the rounding of a thousand products in single precision."""
    scheduler = DDPMScheduler(
        beta_schedule=RULES[rule], beta_start=0.001, beta_end=0.012, rescale_betas_zero_snr=zero
    )
    spec = BetaSpec(
        kind="betas", rule=rule, train_steps=1000, first=0.001, last=0.012, zero_terminal_snr=zero
    )
    expected = scheduler.alphas_cumprod.numpy()
    np.testing.assert_allclose(alpha_bars(spec)[1:], expected, rtol=3e-4, atol=1e-6)


@pytest.mark.parametrize("rule", ["karras", "exponential"])
def test_edm_s_sigmas_are_diffusers_own(rule: SigmaRamp) -> None:
    """The default run of `EDMEulerScheduler`."""
    scheduler = EDMEulerScheduler(sigma_schedule=rule)
    scheduler.set_timesteps(18)
    schedule = make_schedule(SigmaSpec(kind="sigmas", rule=rule, lowest=0.002, highest=80.0))
    times = schedule.timesteps(18)
    found = np.append(schedule.sigma(times[:-1]) / schedule.alpha(times[:-1]), 0)
    np.testing.assert_allclose(found, scheduler.sigmas.numpy(), rtol=1e-5)


def sampled(kind: SamplerKind, spec: ScheduleSpec, prediction: Any, steps: int) -> Batch:
    """The last state of our sampler, on the network of these tests."""
    schedule = make_schedule(spec)
    inputs = SamplerInputs(
        denoise=lambda step: EngineDenoiser(Answers(step, 3), schedule, prediction, {}),
        start=X, schedule=schedule, times=schedule.timesteps(steps), noise=no_noise, gamma=0.0,
    )  # fmt: skip
    *_, last = sample(kind, inputs)
    return last.x_t


def no_noise(step: int) -> Batch:
    """None is drawn."""
    raise AssertionError(step)


@pytest.mark.parametrize("steps", [2, 9])
@pytest.mark.parametrize("kind", ["euler", "heun"])
def test_runs_in_sigma_are_diffusers_own(kind: SamplerKind, steps: int) -> None:
    """Euler's and Heun's, which scale their pictures otherwise."""
    made = {"euler": EulerDiscreteScheduler, "heun": HeunDiscreteScheduler}[kind]
    scheduler = made(
        num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085,
        beta_end=0.012, timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    first = float(scheduler.sigmas[0])
    x = torch.from_numpy(X) * math.sqrt(first * first + 1)
    for asked, t in enumerate(scheduler.timesteps):
        # Heun asks twice a step; the network of these tests answers by the step.
        step = asked // 2 if kind == "heun" else asked
        answer = network(step, scheduler.scale_model_input(x, t).numpy(), 3)
        x = scheduler.step(torch.from_numpy(answer), t, x).prev_sample
    spec = BetaSpec(
        kind="betas", rule="scaled_linear", train_steps=1000, first=0.00085, last=0.012,
        spacing="trailing",
    )  # fmt: skip
    found = sampled(kind, spec, "epsilon", steps)
    assert np.abs(found - x.numpy()).max() < 3e-4 * max(1, float(x.abs().max()))


def test_a_rectified_flow_is_diffusers_own() -> None:
    """On the same sigmas, shifted: the straight lines of `FlowMatchEulerDiscreteScheduler`."""
    schedule = make_schedule(FlowSpec(kind="flow", shift=3.0))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    even = np.linspace(1.0, 0.0, 9)[:-1]
    scheduler.set_timesteps(sigmas=even.tolist())
    np.testing.assert_allclose(scheduler.sigmas.numpy(), schedule.timesteps(8), atol=1e-6)
    x = torch.from_numpy(X)
    for step, t in enumerate(scheduler.timesteps):
        x = scheduler.step(torch.from_numpy(network(step, x.numpy(), 3)), t, x).prev_sample
    found = sampled("euler", FlowSpec(kind="flow", shift=3.0), "flow", 8)
    assert np.abs(found - x.numpy()).max() < 1e-5


def parallel_free(weight: float) -> tuple[Array, Array]:
    """Guided estimates of ours and of diffusers' adaptive projected guidance."""
    one, other = (normals((2, 3, 4, 4), seed=s, image=0, stage=0, step=0) for s in (1, 2))
    t, weights = np.full(2, 0.5, np.float32), np.full(2, weight, np.float32)
    found = Projected(make_schedule("cosine"), "x0")(Halves(one, other, one, t), weights)
    expected = normalized_guidance(
        torch.from_numpy(one), torch.from_numpy(other), weight - 1, eta=0.0,
        use_original_formulation=True,
    )  # fmt: skip
    return found, expected.numpy()


@pytest.mark.parametrize("weight", [0.0, 4.0, 15.0])
def test_projected_guidance_is_diffusers_own(weight: float) -> None:
    """With eta 0, no threshold and no momentum."""
    found, expected = parallel_free(weight)
    np.testing.assert_allclose(found, expected, atol=2e-5)
