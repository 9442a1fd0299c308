"""Euler's schedulers, with noise and without, step by step against diffusers' own."""

import inspect
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cascade.diffusion.spec import SamplerKind
from cascade.errors import UnsupportedModel
from export.adapters.diffusers_scheduler import EULER, EULER_ANCESTRAL, read_scheduler
from export.adapters.scheduler_fields import ANCESTRAL_FIELDS, EULER_FIELDS
from tests.export.test_foreign_scheduler import draw, network, ours

pytest.importorskip("diffusers", reason="THE FOREIGN EXTRA IS MISSING: diffusers was not compared")

from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler

from cascade.numerics.noise import START

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""diffusers hands tensors to numpy in a way that numpy 2 warns of."""

CLASSES: dict[str, Any] = {
    EULER: EulerDiscreteScheduler,
    EULER_ANCESTRAL: EulerAncestralDiscreteScheduler,
}
TOLERANCE = 1e-4
"""80 dB: diffusers takes differences of sigmas in single precision."""
PUBLISHED = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
}
SPACINGS = ("leading", "linspace", "trailing")


def written(folder: Path, kind: str, **fields: object) -> Path:
    """A scheduler's folder."""
    config = {"_class_name": kind, **PUBLISHED, **fields}
    (folder / "scheduler_config.json").write_text(json.dumps(config))
    return folder


def distance(folder: Path, kind: str, steps: int, patch: pytest.MonkeyPatch) -> float:
    """The largest difference of the two pictures, as a share of their size."""
    scheduler = CLASSES[kind].from_pretrained(str(folder), local_files_only=True)
    scheduler.set_timesteps(steps)
    x = torch.from_numpy(draw(START)) * scheduler.init_noise_sigma
    with patch.context() as local:
        for step, t in enumerate(scheduler.timesteps):
            local.setattr(
                "diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor",
                lambda *_, step=step, **__: torch.from_numpy(draw(step)),
            )
            shown = scheduler.scale_model_input(x, t).numpy()
            x = scheduler.step(torch.from_numpy(network(step, shown, 3)), t, x).prev_sample
    found = ours(read_scheduler(folder, also=tuple(CLASSES)), steps)
    return float(np.abs(found - x.numpy()).max() / max(1, float(x.abs().max())))


BETAS: tuple[dict[str, object], ...] = (
    {},
    {"beta_schedule": "linear", "beta_end": 0.02},
    {"trained_betas": [0.001 * (n + 1) for n in range(100)], "num_train_timesteps": 100},
)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "original_sample"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", CLASSES)
def test_every_accepted_configuration_is_diffusers_own(
    tmp_path: Path, kind: str, spacing: str, prediction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same network, same noise: they agree after one step and after many, or are refused."""
    fields = {"timestep_spacing": spacing, "prediction_type": prediction}
    if kind == EULER_ANCESTRAL and "sample" in prediction:
        with pytest.raises(UnsupportedModel, match="prediction_type"):
            read_scheduler(written(tmp_path, kind, **fields), also=tuple(CLASSES))
        return
    offsets = (0, 1) if spacing == "leading" else (0,)
    for betas, offset, steps in product(BETAS, offsets, (1, 2, 3, 7, 50)):
        folder = written(tmp_path, kind, **fields, **betas, steps_offset=offset)
        assert distance(folder, kind, steps, monkeypatch) < TOLERANCE, (betas, offset, steps)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_schedule_beyond_single_precision_is_as_near_as_diffusers_is_exact(
    tmp_path: Path, spacing: str, prediction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step from a sigma of 20,291 rounds there by some thousandths; of the noise not at all."""
    betas = {"beta_schedule": "squaredcos_cap_v2"}
    fields = {**betas, "timestep_spacing": spacing, "prediction_type": prediction}
    folder = written(tmp_path, EULER, **fields)
    rounding = TOLERANCE if prediction == "epsilon" or spacing == "leading" else 1e-2
    for steps in (1, 3, 50):
        assert distance(folder, EULER, steps, monkeypatch) < rounding, steps


@pytest.mark.parametrize(("kind", "sampler"), [(EULER, "euler"), (EULER_ANCESTRAL, "ddpm")])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_what_is_written_down(
    tmp_path: Path, kind: str, sampler: SamplerKind, spacing: str
) -> None:
    """The sampler, what a run starts with, and whether it lies on training steps."""
    folder = written(tmp_path, kind, timestep_spacing=spacing)
    choices = read_scheduler(folder, also=tuple(CLASSES))
    assert (choices.sampler, choices.gamma) == (sampler, 0)
    assert choices.start == ("noise" if spacing == "leading" else "scaled")
    assert choices.schedule.ramp == ("between" if spacing == "linspace" else "steps")


REFUSED: dict[str, dict[str, object]] = {
    "karras": {"use_karras_sigmas": True},
    "interpolation": {"interpolation_type": "log_linear"},
    "end": {"final_sigmas_type": "sigma_min"},
    "zero": {"rescale_betas_zero_snr": True},
    "churn": {"s_churn": 1.0},
    "spacing": {"timestep_spacing": "sgm_uniform"},
    "prediction": {"prediction_type": "flow_prediction"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_equal_is_refused(tmp_path: Path, name: str) -> None:
    """The error names the file and the field."""
    folder = written(tmp_path, EULER, **REFUSED[name])
    with pytest.raises(UnsupportedModel) as caught:
        read_scheduler(folder, also=tuple(CLASSES))
    (field,) = REFUSED[name]
    assert caught.value.field == f"{folder / 'scheduler_config.json'}:{field}"


def test_noise_that_rounds_to_nan_is_refused(tmp_path: Path) -> None:
    """What diffusers makes of four steps there is no picture."""
    fields = {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "linspace"}
    with pytest.raises(UnsupportedModel, match="beyond a sigma of 1000"):
        read_scheduler(written(tmp_path, EULER_ANCESTRAL, **fields), also=tuple(CLASSES))


@pytest.mark.parametrize(
    ("kind", "known"), [(EULER, EULER_FIELDS), (EULER_ANCESTRAL, ANCESTRAL_FIELDS)]
)
def test_every_parameter_of_the_schedulers_is_known(kind: str, known: dict[str, object]) -> None:
    """A version of diffusers that can say more must be looked at first."""
    assert set(inspect.signature(CLASSES[kind].__init__).parameters) - {"self"} == set(known)
