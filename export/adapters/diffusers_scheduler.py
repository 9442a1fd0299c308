"""A diffusers DDPM scheduler's configuration in the manifest's words.

The training powers are taken from the scheduler itself, as numbers, so that no rule of another
project has to be known at run time. Knows scheduler configurations; not networks.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cascade.diffusion.parametrization import Prediction
from cascade.diffusion.schedule import TableSpec
from cascade.diffusion.spec import SamplerKind, ThresholdSpec
from cascade.errors import UnsupportedModel
from export.adapters.local_folder import expect, read_json
from export.adapters.offline import offline_import
from export.adapters.scheduler_fields import check_fields

PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "sample": "x0",
}
GAMMAS = {"fixed_small": 0.0, "fixed_small_log": 0.0, "fixed_large": 1.0}
"""Variance types that are one of the posterior's bounds. (`fixed_large_log` adds a log to the
image in diffusers, a mistake that no model was trained for.)"""
SPACINGS = ("leading", "linspace", "trailing")


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulerChoices:
    """What a scheduler folder decides for a stage."""

    schedule: TableSpec
    prediction: Prediction
    learned_variance: bool
    sampler: SamplerKind
    gamma: float
    threshold: ThresholdSpec


def read_scheduler(folder: Path) -> SchedulerChoices:
    """The choices of a scheduler folder.

    Raises:
        UnsupportedModel: naming the file and the field that the manifest cannot express.
    """
    path = folder / "scheduler_config.json"
    scheduler = load_scheduler(path)
    config = dict(scheduler.config)
    prediction = expect(path, config, "prediction_type", tuple(PREDICTIONS))
    variance = expect(path, config, "variance_type", (*GAMMAS, "learned_range"))
    schedule = read_table(path, scheduler)
    learned = variance == "learned_range"
    noisy = variance == "fixed_large"
    if learned and schedule.timesteps_end_above_zero:
        raise UnsupportedModel(
            f"{path}: timestep_spacing and steps_offset end a run above training step 0, where "
            "diffusers adds noise of a learned variance to the finished picture; supported: "
            "leading or linspace with steps_offset 0",
            field=f"{path}:timestep_spacing",
        )
    return SchedulerChoices(
        schedule=schedule.spec,
        prediction=PREDICTIONS[prediction],
        learned_variance=learned,
        # diffusers asks whether the training step is above 0, not whether a step follows: only the
        # lower variance is nothing there.
        sampler="ddpm_final_noise" if noisy and schedule.timesteps_end_above_zero else "ddpm",
        gamma=0.0 if learned else GAMMAS[variance],
        threshold=read_threshold(path, config),
    )


@dataclass(frozen=True, slots=True)
class Table:
    """A schedule, and whether its runs end at a training step above 0."""

    spec: TableSpec
    timesteps_end_above_zero: bool


def read_noising(folder: Path) -> TableSpec:
    """The schedule that noises a low-resolution image."""
    path = folder / "scheduler_config.json"
    return read_table(path, load_scheduler(path)).spec


def load_scheduler(path: Path) -> Any:
    """A DDPM scheduler, the library's defaults in the gaps of its configuration."""
    given = read_json(path)
    expect(path, given, "_class_name", ("DDPMScheduler",))
    check_fields(path, given)
    return offline_import("diffusers").DDPMScheduler.from_config(given)


def read_table(path: Path, scheduler: Any) -> Table:
    """The powers that the scheduler itself computes, in the single precision that it uses."""
    config = dict(scheduler.config)
    powers = tuple(float(power) for power in scheduler.alphas_cumprod)
    check_powers(path, config, powers)
    spacing = expect(path, config, "timestep_spacing", SPACINGS)
    offset = int(config["steps_offset"])
    spec = TableSpec(alpha_bar=powers, spacing=spacing, offset=offset)
    return Table(spec, spacing == "trailing" or (spacing == "leading" and offset > 0))


def check_powers(path: Path, config: dict[str, Any], powers: tuple[float, ...]) -> None:
    """Refuse powers that no manifest can hold, by the field that made them."""
    field = "rescale_betas_zero_snr" if config["rescale_betas_zero_snr"] else "beta_schedule"
    if config["trained_betas"] is not None:
        field = "trained_betas"
        if len(powers) != config["num_train_timesteps"]:
            raise UnsupportedModel(
                f"{path}: trained_betas has {len(powers)} numbers for "
                f"{config['num_train_timesteps']} num_train_timesteps; supported: one for each",
                field=f"{path}:{field}",
            )
    if powers[-1] <= 0:
        raise UnsupportedModel(
            f"{path}: the last training step keeps no signal ({field}); supported: schedules that "
            "keep some",
            field=f"{path}:{field}",
        )
    if any(a <= b for a, b in pairwise((1.0, *powers))):
        raise UnsupportedModel(
            f"{path}: {field} adds nothing at some training step, in single precision; supported: "
            "schedules that lose signal at each",
            field=f"{path}:{field}",
        )


def read_threshold(path: Path, config: dict[str, Any]) -> ThresholdSpec:
    """How the scheduler keeps its estimate in range."""
    if config["thresholding"]:
        return ThresholdSpec(
            kind="dynamic",
            percentile=float(config["dynamic_thresholding_ratio"]),
            cap=float(config["sample_max_value"]),
        )
    if not config["clip_sample"]:
        return ThresholdSpec(kind="none")
    expect(path, config, "clip_sample_range", (1, 1.0))
    return ThresholdSpec(kind="static")
