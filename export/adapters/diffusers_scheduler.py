"""A diffusers scheduler's configuration in the manifest's words.

DDPM, DPM-Solver++, DDIM, PNDM, and Euler's with noise and without. The training powers are taken
from the scheduler itself, as numbers, so that no rule of another project has to be known at run
time. Knows scheduler configurations; not networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from cascade.diffusion.parametrization import Prediction
from cascade.diffusion.schedule import TableSpec
from cascade.diffusion.spacing import Ramp, Spacing
from cascade.diffusion.spec import RunStart, SamplerKind, ThresholdSpec
from cascade.errors import UnsupportedModel
from export.adapters.local_folder import expect, read_json
from export.adapters.offline import offline_import
from export.adapters.scheduler_fields import check_fields

PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "sample": "x0",
}
LEAST_OF_ANCESTRAL = 1e-6
"""Power at the end of a schedule: further on, diffusers takes the root of a difference that rounds
below nothing (its issue 14213; with 0.42.1 squaredcos_cap_v2 at 3 or 4 steps, and none of 1 to 1000
steps of linear and scaled_linear)."""
EULER_PREDICTIONS: dict[str, Prediction] = {**PREDICTIONS, "original_sample": "x0"}
GAMMAS = {"fixed_small": 0.0, "fixed_small_log": 0.0, "fixed_large": 1.0}
"""Variance types that are one of the posterior's bounds. (`fixed_large_log` adds a log to the
image in diffusers, a mistake that no model was trained for.)"""
SPACINGS = ("leading", "linspace", "trailing")
SOLVER = "DPMSolverMultistepScheduler"
DDIM = "DDIMScheduler"
PNDM = "PNDMScheduler"
EULER = "EulerDiscreteScheduler"
EULER_ANCESTRAL = "EulerAncestralDiscreteScheduler"
EULER_STARTS: Mapping[str, RunStart] = {
    "leading": "noise",
    "linspace": "scaled",
    "trailing": "scaled",
}
"""Spacings, and whether a run of Euler's starts with its largest sigma or the power of all."""
SOLVER_SPACINGS: dict[Spacing, Spacing] = {
    "leading": "leading_inside",
    "linspace": "linspace_inside",
    "trailing": "trailing",
}
"""The solver spaces a run as one of a step more, and leaves its cleanest step out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulerChoices:
    """What a scheduler folder decides for a stage."""

    schedule: TableSpec
    prediction: Prediction
    learned_variance: bool
    sampler: SamplerKind
    gamma: float
    threshold: ThresholdSpec
    start: RunStart = "noise"


def read_scheduler(folder: Path, *, also: tuple[str, ...] = ()) -> SchedulerChoices:
    """The choices of a scheduler folder.

    Args:
        folder: holds `scheduler_config.json`.
        also: classes that the folder's pipelines can use, besides those that all of them can.

    Raises:
        UnsupportedModel: naming the file and the field that the manifest cannot express.
    """
    path = folder / "scheduler_config.json"
    scheduler = load_scheduler(path, ("DDPMScheduler", SOLVER, *also))
    if type(scheduler).__name__ == SOLVER:
        return read_solver(path, scheduler)
    if type(scheduler).__name__ == DDIM:
        return read_ddim(path, scheduler)
    if type(scheduler).__name__ == PNDM:
        return read_pndm(path, scheduler)
    if type(scheduler).__name__ == EULER:
        return read_euler(path, scheduler, tuple(EULER_PREDICTIONS))
    if type(scheduler).__name__ == EULER_ANCESTRAL:
        return read_ancestral(path, scheduler)
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
        threshold=read_threshold(config),
    )


def read_solver(path: Path, scheduler: Any) -> SchedulerChoices:
    """The choices of a `DPMSolverMultistepScheduler`, as a folder holds it or a user swapped it in.

    It reads no variance and does not clip: both are left over from the scheduler it was made of.
    """
    config = dict(scheduler.config)
    prediction = expect(path, config, "prediction_type", tuple(PREDICTIONS))
    if config["variance_type"] in ("learned", "learned_range") and prediction != "epsilon":
        raise UnsupportedModel(
            f"{path}: variance_type is {config['variance_type']!r}, which diffusers takes apart "
            "for epsilon alone; supported: fixed_small",
            field=f"{path}:variance_type",
        )
    ramp: Ramp = "karras" if config["use_karras_sigmas"] else "steps"
    if ramp == "karras" and config["beta_schedule"] == "squaredcos_cap_v2":
        raise UnsupportedModel(
            f"{path}: use_karras_sigmas with squaredcos_cap_v2 cuts training steps off where "
            "others are rounded; supported: false, or another beta_schedule",
            field=f"{path}:use_karras_sigmas",
        )
    spec = read_table(path, scheduler).spec
    dynamic = bool(config["thresholding"])
    return SchedulerChoices(
        schedule=replace(spec, spacing=SOLVER_SPACINGS[spec.spacing], ramp=ramp),
        prediction=PREDICTIONS[prediction],
        learned_variance=False,
        sampler="dpmpp_2m" if config["solver_order"] == 2 else "ddim",
        gamma=0.0,
        threshold=dynamic_threshold(config) if dynamic else ThresholdSpec(kind="none"),
    )


def read_ddim(path: Path, scheduler: Any) -> SchedulerChoices:
    """The choices of a `DDIMScheduler` without noise of its own (`eta` 0, the pipelines' default).

    A step there is a fixed number of training steps long, so other spacings than `leading` would
    not arrive where the next step begins.
    """
    config = dict(scheduler.config)
    prediction = expect(path, config, "prediction_type", tuple(PREDICTIONS))
    expect(path, config, "timestep_spacing", ("leading",))
    # Clipped there without the noise that goes with the clipped picture: another sampler.
    expect(path, config, "clip_sample", (False,))
    expect(path, config, "thresholding", (False,))
    schedule = ending_at(read_table(path, scheduler).spec, clean=config["set_alpha_to_one"])
    return SchedulerChoices(
        schedule=schedule,
        prediction=PREDICTIONS[prediction],
        learned_variance=False,
        sampler="ddim" if schedule.at_zero == 1 else "ddim_final_step",
        gamma=0.0,
        threshold=ThresholdSpec(kind="none"),
    )


def read_pndm(path: Path, scheduler: Any) -> SchedulerChoices:
    """The choices of a `PNDMScheduler` without steps of Runge-Kutta, as Stable Diffusion has it.

    Its steps are of a fixed length, as DDIM's are. It weights what the network predicts, and `plms`
    the noise: the same for epsilon alone.
    """
    config = dict(scheduler.config)
    expect(path, config, "skip_prk_steps", (True,))
    prediction = expect(path, config, "prediction_type", ("epsilon",))
    expect(path, config, "timestep_spacing", ("leading",))
    spec = read_table(path, scheduler).spec
    return SchedulerChoices(
        schedule=ending_at(spec, clean=config["set_alpha_to_one"]),
        prediction=PREDICTIONS[prediction],
        learned_variance=False,
        sampler="plms",
        gamma=0.0,
        threshold=ThresholdSpec(kind="none"),
    )


def read_euler(path: Path, scheduler: Any, predictions: tuple[str, ...]) -> SchedulerChoices:
    """The choices of Euler's scheduler, in the terms of a process whose power stays 1.

    Args:
        path: of its configuration.
        scheduler: it.
        predictions: of `prediction_type`, those that the folder's pipeline can have.
    """
    config = dict(scheduler.config)
    prediction = expect(path, config, "prediction_type", predictions)
    spec = read_table(path, scheduler).spec
    if spec.spacing == "linspace":
        # Not rounded there: such a run lies between training steps, in time as in sigma.
        spec = TableSpec(alpha_bar=spec.alpha_bar, spacing="linspace", ramp="between")
    return SchedulerChoices(
        schedule=spec,
        prediction=EULER_PREDICTIONS[prediction],
        learned_variance=False,
        sampler="euler",
        gamma=0.0,
        threshold=ThresholdSpec(kind="none"),
        start=EULER_STARTS[spec.spacing],
    )


def read_ancestral(path: Path, scheduler: Any) -> SchedulerChoices:
    """The choices of an `EulerAncestralDiscreteScheduler`.

    A step goes down to less noise than is wanted, and noise is added for the rest: in the terms of
    a process whose power stays 1, the posterior of DDPM with its lower variance.
    """
    found = read_euler(path, scheduler, ("epsilon", "v_prediction"))
    if found.schedule.alpha_bar[-1] < LEAST_OF_ANCESTRAL:
        config = dict(scheduler.config)
        field = "beta_schedule" if config["trained_betas"] is None else "trained_betas"
        raise UnsupportedModel(
            f"{path}: {field} ends beyond a sigma of 1000, where this scheduler of diffusers makes "
            "NaN in some numbers of steps; supported: linear, scaled_linear",
            field=f"{path}:{field}",
        )
    return replace(found, sampler="ddpm")


def ending_at(spec: TableSpec, *, clean: bool) -> TableSpec:
    """The same training steps; a run ends at the clean picture, or at the first one's noise."""
    return spec if clean else replace(spec, at_zero=spec.alpha_bar[0])


@dataclass(frozen=True, slots=True)
class Table:
    """A schedule, and whether its runs end at a training step above 0."""

    spec: TableSpec
    timesteps_end_above_zero: bool


def read_noising(folder: Path) -> TableSpec:
    """The schedule that noises a low-resolution image."""
    path = folder / "scheduler_config.json"
    return read_table(path, load_scheduler(path, ("DDPMScheduler",))).spec


def load_scheduler(path: Path, supported: tuple[str, ...]) -> Any:
    """A scheduler of one of these classes, the library's defaults in the gaps of its file."""
    given = read_json(path)
    kind = expect(path, given, "_class_name", supported)
    check_fields(path, given, kind)
    return getattr(offline_import("diffusers"), kind).from_config(given)


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
    field = "rescale_betas_zero_snr" if config.get("rescale_betas_zero_snr") else "beta_schedule"
    if config["trained_betas"] is not None:
        field = "trained_betas"
        if len(powers) != config["num_train_timesteps"]:
            raise UnsupportedModel(
                f"{path}: trained_betas has {len(powers)} numbers for "
                f"{config['num_train_timesteps']} num_train_timesteps; supported: one for each",
                field=f"{path}:{field}",
            )
    if powers[-1] <= 0 and config["prediction_type"] == "epsilon":
        raise UnsupportedModel(
            f"{path}: the last training step keeps no signal ({field}), where epsilon does not "
            "tell the picture; supported: schedules that keep some, v_prediction, sample",
            field=f"{path}:{field}",
        )
    if any(a <= b for a, b in pairwise((1.0, *powers))):
        raise UnsupportedModel(
            f"{path}: {field} adds nothing at some training step, in single precision; supported: "
            "schedules that lose signal at each",
            field=f"{path}:{field}",
        )


def read_threshold(config: dict[str, Any]) -> ThresholdSpec:
    """How the scheduler keeps its estimate in range."""
    if config["thresholding"]:
        return dynamic_threshold(config)
    if not config["clip_sample"]:
        return ThresholdSpec(kind="none")
    return ThresholdSpec(kind="static", bound=float(config["clip_sample_range"]))


def dynamic_threshold(config: dict[str, Any]) -> ThresholdSpec:
    """Dynamic thresholding as both schedulers do it."""
    return ThresholdSpec(
        kind="dynamic",
        percentile=float(config["dynamic_thresholding_ratio"]),
        cap=float(config["sample_max_value"]),
    )
