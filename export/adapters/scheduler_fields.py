"""Every field of a scheduler's configuration, known by its name and of a kind that makes sense.

A field that nobody here knows could change the pictures; one of the wrong kind would end in a
traceback of somebody else's. Knows names and kinds; not what diffusers makes of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class Field:
    """What one field may hold."""

    words: str
    fits: Callable[[Any], bool]


def number(value: Any) -> bool:
    """A number as JSON has it; neither `true` nor NaN nor infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def whole(value: Any) -> bool:
    """A whole number, from 0."""
    return number(value) and isinstance(value, int) and value >= 0


def share(value: Any) -> bool:
    """A number above 0 and below 1."""
    return number(value) and 0 < value < 1


TRUTH = Field("true or false", lambda v: isinstance(v, bool))
SHARE = Field("a number between 0 and 1", share)
NAME = Field("a name", lambda v: isinstance(v, str))
POSITIVE = Field("a positive number", lambda v: number(v) and v > 0)

FIELDS = {
    "num_train_timesteps": Field("a positive whole number", lambda v: whole(v) and v > 0),
    "beta_start": SHARE,
    "beta_end": SHARE,
    "beta_schedule": Field(
        "linear, scaled_linear, squaredcos_cap_v2, sigmoid, laplace",
        lambda v: v in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"),
    ),
    "trained_betas": Field(
        "null or a list of numbers between 0 and 1",
        lambda v: v is None or (isinstance(v, list) and all(map(share, v))),
    ),
    "variance_type": NAME,
    "clip_sample": TRUTH,
    "clip_sample_range": POSITIVE,
    "prediction_type": NAME,
    "thresholding": TRUTH,
    "dynamic_thresholding_ratio": Field(
        "a number from 0 to 1", lambda v: number(v) and 0 <= v <= 1
    ),
    "sample_max_value": POSITIVE,
    "timestep_spacing": NAME,
    "steps_offset": Field("a whole number from 0", whole),
    "rescale_betas_zero_snr": TRUTH,
}
"""What `DDPMScheduler` takes."""

OFF = Field("false", lambda v: v is False)
OF_CLIPPING = ("clip_sample", "clip_sample_range")
"""What `DPMSolverMultistepScheduler` does not read, and carries along where it was made of DDPM."""

SOLVER_FIELDS = {
    **{name: field for name, field in FIELDS.items() if name not in OF_CLIPPING},
    "variance_type": Field("null or a name", lambda v: v is None or isinstance(v, str)),
    "solver_order": Field("1 or 2", lambda v: whole(v) and v in (1, 2)),
    "algorithm_type": Field("dpmsolver++", lambda v: v == "dpmsolver++"),
    "solver_type": Field("midpoint", lambda v: v == "midpoint"),
    "lower_order_final": TRUTH,
    "euler_at_final": TRUTH,
    "use_karras_sigmas": TRUTH,
    "use_exponential_sigmas": OFF,
    "use_beta_sigmas": OFF,
    "use_lu_lambdas": OFF,
    "use_flow_sigmas": OFF,
    "flow_shift": POSITIVE,
    "final_sigmas_type": Field("zero", lambda v: v == "zero"),
    "lambda_min_clipped": Field("minus infinity", lambda v: v == -float("inf")),
    "use_dynamic_shifting": OFF,
    "time_shift_type": NAME,
}
"""What `DPMSolverMultistepScheduler` takes."""

OF_VARIANCE = ("variance_type",)
"""What `DDIMScheduler` does not have."""

DDIM_FIELDS = {
    **{name: field for name, field in FIELDS.items() if name not in OF_VARIANCE},
    "set_alpha_to_one": TRUTH,
}
"""What `DDIMScheduler` takes."""

PNDM_FIELDS = {
    name: DDIM_FIELDS[name]
    for name in (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "trained_betas",
        "set_alpha_to_one",
        "prediction_type",
        "timestep_spacing",
        "steps_offset",
    )
} | {
    "beta_schedule": Field(
        "linear, scaled_linear, squaredcos_cap_v2",
        lambda v: v in ("linear", "scaled_linear", "squaredcos_cap_v2"),
    ),
    "skip_prk_steps": TRUTH,
}
"""What `PNDMScheduler` takes."""

EULER_FIELDS = {
    **{name: field for name, field in PNDM_FIELDS.items() if name in FIELDS},
    "interpolation_type": Field("linear", lambda v: v == "linear"),
    "use_karras_sigmas": OFF,
    "use_exponential_sigmas": OFF,
    "use_beta_sigmas": OFF,
    "sigma_min": Field("null", lambda v: v is None),
    "sigma_max": Field("null", lambda v: v is None),
    "timestep_type": Field("discrete", lambda v: v == "discrete"),
    "rescale_betas_zero_snr": OFF,
    "final_sigmas_type": Field("zero", lambda v: v == "zero"),
}
"""What `EulerDiscreteScheduler` takes."""

ANCESTRAL_FIELDS = {
    name: EULER_FIELDS[name] for name in (*PNDM_FIELDS, "rescale_betas_zero_snr") if name in FIELDS
}
"""What `EulerAncestralDiscreteScheduler` takes."""

UNREAD = ("set_alpha_to_one", "skip_prk_steps")
"""Of related schedulers; carried along by many folders, read by no step of these."""

OF_DDIM = (*OF_VARIANCE, *sorted(set(DDIM_FIELDS) - set(PNDM_FIELDS)))
"""What DDIM alone reads; published folders of Stable Diffusion carry its `clip_sample`."""
UNREAD_OF_EULER = (*UNREAD, *OF_VARIANCE, *sorted(set(DDIM_FIELDS) - set(EULER_FIELDS)))

FIELDS_OF = {
    "DDPMScheduler": FIELDS,
    "DPMSolverMultistepScheduler": SOLVER_FIELDS,
    "DDIMScheduler": DDIM_FIELDS,
    "PNDMScheduler": PNDM_FIELDS,
    "EulerDiscreteScheduler": EULER_FIELDS,
    "EulerAncestralDiscreteScheduler": ANCESTRAL_FIELDS,
}
UNREAD_OF = {
    "DDPMScheduler": UNREAD,
    "DPMSolverMultistepScheduler": (*UNREAD, *OF_CLIPPING),
    "DDIMScheduler": ("skip_prk_steps", *OF_VARIANCE),
    "EulerDiscreteScheduler": UNREAD_OF_EULER,
    "EulerAncestralDiscreteScheduler": UNREAD_OF_EULER,
    "PNDMScheduler": OF_DDIM,
}


def check_fields(path: Path, config: dict[str, Any], kind: str) -> None:
    """Refuse a field that is unknown, or whose value is of no use.

    Args:
        path: of the configuration, for errors.
        config: what it holds. Names with an underscore in front are notes of diffusers' own.
        kind: class of the scheduler, of `FIELDS_OF`.

    Raises:
        UnsupportedModel: naming the file and the field.
    """
    for name, value in config.items():
        if name.startswith("_") or name in UNREAD_OF[kind]:
            continue
        known = FIELDS_OF[kind].get(name)
        if known is None:
            raise UnsupportedModel(
                f"{path}: {name} is not known here, and what it changes would be lost: remove it "
                f"if the stage was trained without it; known: {', '.join(FIELDS_OF[kind])}",
                field=f"{path}:{name}",
            )
        if not known.fits(value):
            raise UnsupportedModel(
                f"{path}: {name} is {str(value)[:80]!r}; supported: {known.words}",
                field=f"{path}:{name}",
            )
