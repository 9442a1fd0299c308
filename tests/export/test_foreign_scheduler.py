"""Every scheduler configuration that is accepted, step by step against diffusers' own."""

import inspect
import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cascade.diffusion.denoiser import EngineDenoiser
from cascade.diffusion.options import spaced_times
from cascade.diffusion.samplers.choice import SamplerInputs, sample
from cascade.diffusion.schedule import first_time, make_schedule
from cascade.diffusion.thresholding import thresholded
from cascade.errors import UnsupportedModel
from cascade.numerics.noise import START, normals
from cascade.types import Array, Batch
from export.adapters.diffusers_scheduler import SchedulerChoices, read_scheduler
from export.adapters.scheduler_fields import FIELDS

pytest.importorskip("diffusers", reason="THE FOREIGN EXTRA IS MISSING: diffusers was not compared")

from diffusers import DDPMScheduler

SHAPE = (1, 3, 4, 4)
TRAINED = 100
TOLERANCE = 1e-4
"""80 dB: diffusers takes differences of powers in single precision."""
PREDICTIONS = ("epsilon", "v_prediction", "sample")
STEPS = (1, 4)
OUTPUTS = normals((1000, 6, 4, 4), seed=3, image=0, stage=9, step=0)
THRESHOLDS: tuple[dict[str, object], ...] = (
    {"clip_sample": False},
    {"clip_sample": True},
    {"clip_sample": True, "clip_sample_range": 0.7},
    {"clip_sample": True, "thresholding": True, "sample_max_value": 1.5},
    {"thresholding": True, "sample_max_value": 1.0, "dynamic_thresholding_ratio": 0.9},
)
BETAS: tuple[dict[str, object], ...] = (
    {"beta_schedule": "linear"},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"beta_schedule": "sigmoid"},
    {"trained_betas": [0.001 * (k + 1) for k in range(TRAINED)]},
)


def network(step: int, x_t: Array, channels: int) -> Array:
    """A closed form of the step and the noisy picture, of the size of a trained network's."""
    fixed = OUTPUTS[step : step + 1, :channels]
    seen = np.concatenate([x_t, x_t], axis=1)[:, :channels]
    return np.asarray(0.5 * fixed + 0.5 * np.tanh(seen), np.float32)


def draw(step: int) -> Batch:
    """The product's noise of a step."""
    return normals(SHAPE, seed=5, image=0, stage=1, step=step)


class Answers:
    """An engine that answers with the closed form."""

    def __init__(self, step: int, channels: int) -> None:
        self.step, self.channels = step, channels

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Prediction, and variance where there are six channels."""
        found = network(self.step, inputs["x_t"], self.channels)
        outputs = {"prediction": found[:, :3], "variance": found[:, 3:]}
        return {name: value for name, value in outputs.items() if value.shape[1]}

    def terminate(self) -> None:
        """Nothing runs long enough to end."""

    def close(self) -> None:
        """Nothing to release."""


def ours(choices: SchedulerChoices, steps: int) -> Batch:
    """The last state of our sampler, put together as a stage puts it together."""
    schedule = make_schedule(choices.schedule)
    channels = 6 if choices.learned_variance else 3
    times = spaced_times(choices.sampler, schedule, steps)
    start = draw(START)
    if choices.start == "scaled":
        start = start * np.float32(schedule.sigma(times[0]))
    inputs = SamplerInputs(
        denoise=lambda step: thresholded(
            EngineDenoiser(Answers(step, channels), schedule, choices.prediction, {}),
            choices.threshold,
        ),
        start=start,
        schedule=schedule,
        times=times,
        noise=draw,
        gamma=choices.gamma,
        first_time=first_time(choices.schedule),
    )
    *_, last = sample(choices.sampler, inputs)
    return last.x_t


def theirs(scheduler: Any, steps: int, patch: pytest.MonkeyPatch) -> Batch:
    """The last state of diffusers' own loop on the same noise."""
    scheduler.set_timesteps(steps)
    channels = 6 if scheduler.config.variance_type == "learned_range" else 3
    x = torch.from_numpy(draw(START))
    with patch.context() as local:
        for step, t in enumerate(scheduler.timesteps):
            local.setattr(
                "diffusers.schedulers.scheduling_ddpm.randn_tensor",
                lambda *_, step=step, **__: torch.from_numpy(draw(step)),
            )
            answer = torch.from_numpy(network(step, x.numpy(), channels))
            x = scheduler.step(answer, t, x).prev_sample
    return x.numpy()


def opened(folder: Path) -> Any:
    """The scheduler of a folder as diffusers opens it."""
    return DDPMScheduler.from_pretrained(str(folder), local_files_only=True)


def distance(folder: Path, steps: int, patch: pytest.MonkeyPatch) -> float:
    """The largest difference of the two last states, as a share of their size."""
    expected = theirs(opened(folder), steps, patch)
    found = ours(read_scheduler(folder), steps)
    return float(np.abs(found - expected).max() / max(1, np.abs(expected).max()))


def written(folder: Path, **fields: object) -> Path:
    """A scheduler's folder with these fields."""
    config = {"_class_name": "DDPMScheduler", "num_train_timesteps": TRAINED, **fields}
    (folder / "scheduler_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "variance", ["fixed_small", "fixed_small_log", "fixed_large", "learned_range"]
)
@pytest.mark.parametrize(
    ("spacing", "offset"),
    [
        ("leading", 0),
        ("leading", 1),
        ("leading", 3),
        ("linspace", 0),
        ("linspace", 1),
        ("trailing", 0),
    ],
)
def test_every_accepted_configuration_is_diffusers_own(
    tmp_path: Path, spacing: str, offset: int, variance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same network, same noise: the last states agree, or the configuration is refused."""
    ends_above_zero = spacing == "trailing" or (spacing == "leading" and offset > 0)
    for prediction, threshold, betas in product(PREDICTIONS, THRESHOLDS, BETAS):
        folder = written(
            tmp_path,
            timestep_spacing=spacing,
            steps_offset=offset,
            variance_type=variance,
            prediction_type=prediction,
            **threshold,
            **betas,
        )
        if variance == "learned_range" and ends_above_zero:
            with pytest.raises(UnsupportedModel, match="timestep_spacing"):
                read_scheduler(folder)
            continue
        for steps in STEPS:
            assert distance(folder, steps, monkeypatch) < TOLERANCE


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_a_run_of_every_training_step_ends_without_noise(
    tmp_path: Path, spacing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends at training step 0, where diffusers adds none."""
    folder = written(tmp_path, timestep_spacing=spacing, variance_type="fixed_large")
    assert distance(folder, TRAINED, monkeypatch) < TOLERANCE


def test_the_published_configuration_is_diffusers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand cosine steps, a learned variance, the cap of 1.5: default run and a short one."""
    folder = written(
        tmp_path,
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
    )
    for steps in (27, 100):
        assert distance(folder, steps, monkeypatch) < TOLERANCE


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_a_zero_terminal_snr_is_diffusers_own(
    tmp_path: Path, prediction: str, variance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a prediction that tells the picture where no signal is left."""
    folder = written(
        tmp_path,
        rescale_betas_zero_snr=True,
        timestep_spacing="linspace",
        variance_type=variance,
        prediction_type=prediction,
    )
    for steps in (2, 5):
        assert distance(folder, steps, monkeypatch) < TOLERANCE


def test_fields_that_no_step_reads_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What related schedulers leave in a folder, and diffusers' own notes, are passed over."""
    folder = written(
        tmp_path,
        _diffusers_version="0.16.0",
        set_alpha_to_one=False,
        skip_prk_steps=True,
        prediction_type="epsilon",
    )
    assert distance(folder, 7, monkeypatch) < TOLERANCE


def test_every_parameter_of_the_scheduler_is_known() -> None:
    """A version of diffusers that can say more must be looked at first."""
    parameters = set(inspect.signature(DDPMScheduler.__init__).parameters) - {"self"}
    assert parameters == set(FIELDS)


@pytest.mark.parametrize("trained", [10, 100, 1000])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_runs_keep_the_training_steps_that_diffusers_keeps(
    tmp_path: Path, spacing: str, trained: int
) -> None:
    """For every number of steps; the step -1 that `trailing` appends to some runs is no step."""
    folder = written(tmp_path, num_train_timesteps=trained, timestep_spacing=spacing)
    scheduler = opened(folder)
    schedule = make_schedule(read_scheduler(folder).schedule)
    for steps in range(1, trained + 1):
        scheduler.set_timesteps(steps)
        kept = [step for step in scheduler.timesteps.tolist() if step >= 0]
        times = schedule.timesteps(steps)[:-1]
        assert np.rint(times * trained - 1).tolist() == kept


REFUSED = {
    "unknown": {"sigma_min": 0.1},
    "class": {"_class_name": "DDIMScheduler"},
    "variance_log": {"variance_type": "fixed_large_log"},
    "learned": {"variance_type": "learned"},
    "prediction": {"prediction_type": "flow_prediction"},
    "spacing": {"timestep_spacing": "karras"},
    "range": {"clip_sample_range": 0},
    "zero_snr": {"rescale_betas_zero_snr": True},
    "half_an_offset": {"steps_offset": 0.5},
    "offset_below_zero": {"steps_offset": -1},
    "offset_as_text": {"steps_offset": "1"},
    "no_steps": {"num_train_timesteps": 0},
    "steps_as_float": {"num_train_timesteps": 100.0},
    "clip_as_number": {"clip_sample": 1},
    "ratio": {"thresholding": True, "dynamic_thresholding_ratio": 99.5},
    "cap": {"thresholding": True, "sample_max_value": 0},
    "rule": {"beta_schedule": "exponential"},
    "beta_of_one": {"beta_end": 1.5},
    "beta_of_nothing": {"trained_betas": [0.0] * TRAINED},
    "too_few_betas": {"trained_betas": [0.1] * 7},
    "betas_lost_in_rounding": {"trained_betas": [1e-12] * TRAINED},
    "betas_to_nothing": {"trained_betas": [0.999] * TRAINED},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_equal_is_refused(tmp_path: Path, name: str) -> None:
    """The error names the file and the field."""
    fields = REFUSED[name]
    *_, field = fields
    folder = written(tmp_path, **fields)
    with pytest.raises(UnsupportedModel) as caught:
        read_scheduler(folder)
    assert caught.value.field == f"{folder / 'scheduler_config.json'}:{field}"
