"""PNDM and DDIM configurations that are accepted, step by step against diffusers' own."""

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
from export.adapters.diffusers_scheduler import DDIM, PNDM, read_scheduler
from export.adapters.scheduler_fields import DDIM_FIELDS, PNDM_FIELDS
from tests.export.test_foreign_scheduler import draw, network, ours

pytest.importorskip("diffusers", reason="THE FOREIGN EXTRA IS MISSING: diffusers was not compared")

from diffusers import DDIMScheduler, PNDMScheduler

from cascade.numerics.noise import START

CLASSES: dict[str, Any] = {PNDM: PNDMScheduler, DDIM: DDIMScheduler}
TOLERANCE = 1e-4
"""80 dB: diffusers takes differences of powers in single precision."""
PUBLISHED = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
"""What folders of Stable Diffusion 1 hold, field by field."""
BETAS: tuple[dict[str, object], ...] = (
    {},
    {"beta_schedule": "linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": [0.001 * (n + 1) for n in range(200)], "num_train_timesteps": 200},
)


def written(folder: Path, **fields: object) -> Path:
    """A scheduler's folder with these fields besides the published ones."""
    (folder / "scheduler_config.json").write_text(json.dumps({**PUBLISHED, **fields}))
    return folder


def distance(folder: Path, kind: str, steps: int) -> float:
    """The largest difference of the two last states, as a share of their size."""
    scheduler = CLASSES[kind].from_pretrained(str(folder), local_files_only=True)
    scheduler.set_timesteps(steps)
    x = torch.from_numpy(draw(START))
    for asked, t in enumerate(scheduler.timesteps):
        # PNDM asks twice in its first step; the network of these tests answers by the step.
        step = asked - (kind == PNDM and asked > 0)
        x = scheduler.step(torch.from_numpy(network(step, x.numpy(), 3)), t, x).prev_sample
    found = ours(read_scheduler(folder, also=(DDIM, PNDM)), steps)
    return float(np.abs(found - x.numpy()).max() / max(1, float(x.abs().max())))


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("offset", [0, 1, 5])
def test_every_accepted_pndm_is_diffusers_own(tmp_path: Path, offset: int, *, clean: bool) -> None:
    """Same network, same noise: the last states agree after one step and after many."""
    for betas, steps in product(BETAS, (1, 2, 3, 4, 7)):
        folder = written(tmp_path, steps_offset=offset, set_alpha_to_one=clean, **betas)
        assert distance(folder, PNDM, steps) < TOLERANCE, (betas, steps)
    assert distance(written(tmp_path, set_alpha_to_one=clean), PNDM, 50) < TOLERANCE


def test_a_run_of_most_training_steps_is_diffusers_own(tmp_path: Path) -> None:
    """Its last step begins at the second training step, and ends at the first one's noise."""
    folder = written(tmp_path, num_train_timesteps=100, beta_end=0.1)
    assert distance(folder, PNDM, 75) < TOLERANCE


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("kind", [DDIM, PNDM])
def test_a_stride_from_the_cleanest_step_may_end_at_a_training_step(
    tmp_path: Path, kind: str, *, clean: bool
) -> None:
    """Where steps_offset is the stride or more, whatever the power at the end."""
    folder = written(
        tmp_path, _class_name=kind, num_train_timesteps=100, beta_end=0.1, set_alpha_to_one=clean,
        steps_offset=5,
    )  # fmt: skip
    # Strides of 20, 6, 5, 4 and 2.
    for steps in (5, 16, 19, 24, 48):
        assert distance(folder, kind, steps) < TOLERANCE, steps
    folder = written(
        tmp_path, _class_name=kind, num_train_timesteps=100, beta_end=0.1, set_alpha_to_one=clean
    )
    for steps in (50, 51, 75, 99):
        assert distance(folder, kind, steps) < TOLERANCE, steps


def test_what_ddim_alone_reads_changes_nothing(tmp_path: Path) -> None:
    """A folder that was made of DDIM's carries it along."""
    folder = written(tmp_path, thresholding=True, clip_sample=True, rescale_betas_zero_snr=True)
    assert distance(folder, PNDM, 5) < TOLERANCE


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("offset", [0, 1])
def test_ddim_may_end_at_the_first_training_step(
    tmp_path: Path, offset: int, prediction: str
) -> None:
    """`set_alpha_to_one: false`, as folders have it that were made of PNDM's."""
    for betas, steps in product(BETAS, (1, 5)):
        folder = written(
            tmp_path, _class_name=DDIM, steps_offset=offset, prediction_type=prediction, **betas
        )
        assert distance(folder, DDIM, steps) < TOLERANCE, (betas, steps)


@pytest.mark.parametrize(
    ("kind", "clean", "sampler"),
    [
        (PNDM, False, "plms"), (PNDM, True, "plms"),
        (DDIM, False, "ddim_final_step"), (DDIM, True, "ddim"),
    ],
)  # fmt: skip
def test_what_is_written_down(
    tmp_path: Path, kind: str, sampler: SamplerKind, *, clean: bool
) -> None:
    """The sampler, and the power at time 0: that of the clean picture or of the first step."""
    folder = written(tmp_path, _class_name=kind, set_alpha_to_one=clean)
    choices = read_scheduler(folder, also=(DDIM, PNDM))
    assert choices.sampler == sampler
    assert choices.schedule.at_zero == (1.0 if clean else choices.schedule.alpha_bar[0])


REFUSED: dict[str, dict[str, object]] = {
    "runge-kutta": {"skip_prk_steps": False},
    "prediction": {"prediction_type": "v_prediction"},
    "trailing": {"timestep_spacing": "trailing"},
    "linspace": {"timestep_spacing": "linspace"},
    "betas": {"beta_schedule": "sigmoid"},
    "alpha": {"set_alpha_to_one": "no"},
    "unknown": {"eta": 0.5},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_equal_is_refused(tmp_path: Path, name: str) -> None:
    """The error names the file and the field."""
    folder = written(tmp_path, **REFUSED[name])
    with pytest.raises(UnsupportedModel) as caught:
        read_scheduler(folder, also=(PNDM,))
    (field,) = REFUSED[name]
    assert caught.value.field == f"{folder / 'scheduler_config.json'}:{field}"


def test_a_folder_that_does_not_say_it_skips_runge_kutta_does_not(tmp_path: Path) -> None:
    """The library's default is other steps."""
    folder = written(tmp_path)
    path = folder / "scheduler_config.json"
    config = json.loads(path.read_text())
    del config["skip_prk_steps"]
    path.write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="skip_prk_steps"):
        read_scheduler(folder, also=(PNDM,))


@pytest.mark.parametrize(("kind", "known"), [(PNDM, PNDM_FIELDS), (DDIM, DDIM_FIELDS)])
def test_every_parameter_of_the_schedulers_is_known(kind: str, known: dict[str, object]) -> None:
    """A version of diffusers that can say more must be looked at first."""
    assert set(inspect.signature(CLASSES[kind].__init__).parameters) - {"self"} == set(known)
