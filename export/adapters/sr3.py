"""Folders of SR3 as a described cascade: the state dict and the configuration it was trained with.

Knows these folders; not how a bundle is written.

References:
    The configuration and the names are those of Janspiry's implementation at
    01d27a7cbfa8502be1d8dbd4ee02fcbd5e44389d.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cascade.diffusion.request_options import MAX_STEPS
from cascade.diffusion.schedule import TableSpec
from cascade.diffusion.spec import AugmentationSpec, ThresholdSpec
from cascade.errors import UnsupportedModel
from cascade.types import Times
from export.adapters.json_fields import (
    JsonField,
    at_least,
    is_truth,
    list_of,
    one_of,
    read_fields,
    refuse_value,
)
from export.adapters.scheduler_fields import share
from export.adapters.weights_folder import read_weights
from export.description import CascadeDescription, StageDescription
from export.layouts.sr3_unet import Sr3Shape, Sr3UNet
from export.layouts.state_dict import filled

CONFIG = "config.json"
MOST_BYTES = 1 << 20
WHOLE = "a whole number from 1"
PREFIX = "denoise_fn."
SCHEDULE_TENSORS = frozenset((
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2",
))  # fmt: skip
"""Of the training's schedule; the configuration has that of the run."""

UNET: Mapping[str, JsonField] = {
    "in_channel": JsonField(6, one_of(3, 6), "6, or 3 where conditional is false"),
    "out_channel": JsonField(3, one_of(3), "3"),
    "inner_channel": JsonField(32, at_least(1), WHOLE),
    "norm_groups": JsonField(32, lambda v: v is None or at_least(1)(v), WHOLE),
    "channel_multiplier": JsonField([1, 2, 4, 8, 8], list_of(at_least(1)), "whole numbers"),
    "attn_res": JsonField([8], list_of(at_least(1)), "sizes of pictures"),
    "res_blocks": JsonField(3, at_least(1), WHOLE),
}
SCHEDULE: Mapping[str, JsonField] = {
    "schedule": JsonField(
        None,
        one_of("linear", "quad", "warmup10", "warmup50", "const", "cosine"),
        "linear, quad, warmup10, warmup50, const, cosine",
    ),
    "n_timestep": JsonField(None, at_least(1), f"1 to {MAX_STEPS}"),
    "linear_start": JsonField(1e-4, share, "a number between 0 and 1"),
    "linear_end": JsonField(2e-2, share, "a number between 0 and 1"),
}
DIFFUSION: Mapping[str, JsonField] = {
    "image_size": JsonField(None, at_least(1), WHOLE),
    "channels": JsonField(3, one_of(3), "3"),
    "conditional": JsonField(default=True, fits=is_truth, words="true or false"),
}
OFFSET = 0.008
"""Of the cosine schedule."""
MOST = 0.999


class Sr3Network(nn.Module):
    """A stage: times become the square root of gamma, the picture stands before the noisy one."""

    def __init__(self, unet: nn.Module, roots: Tensor) -> None:
        """Wrap a U-Net.

        Args:
            unet: see `Sr3UNet`.
            roots: signal scales at times 0, `1 / n`, ... 1, `[n + 1]` float32.
        """
        super().__init__()
        self.unet = unet
        self.roots: Tensor
        self.register_buffer("roots", roots, persistent=False)

    def forward(self, x_t: Tensor, t: Tensor, low_res: Tensor | None = None) -> Tensor:
        """The noise, `[B, 3, H, W]`.

        Args:
            x_t: `[B, 3, H, W]`, noisy images.
            t: `[B]`, times in (0, 1].
            low_res: `[B, 3, H, W]`, the enlarged images.
        """
        pictures = x_t if low_res is None else torch.cat([low_res, x_t], dim=1)
        last = len(self.roots) - 1
        found: Tensor = self.unet(pictures, self.roots[torch.round(t * last).long()])
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Sr3Config:
    """One folder's configuration, checked."""

    path: Path
    shape: Sr3Shape
    low: int | None
    """Of the pictures that it enlarges; None of one that starts from noise."""
    powers: Times
    """Signal power after each step, `[n]` float64."""


def describe_sr3(folder: Path, upscalers: Sequence[Path]) -> CascadeDescription:
    """A cascade from folders of SR3.

    Args:
        folder: of the first network: `model.safetensors` and `config.json`.
        upscalers: of the others, the smallest first.

    Raises:
        UnsupportedModel: naming the file and the field.
    """
    stages: list[StageDescription] = []
    for place in (folder, *upscalers):
        config = read_config(place)
        made = stages[-1].output_resolution if stages else None
        if made is not None and config.low != made:
            refuse_value(config.path, "l_resolution", config.low,
                         f"the {made} that the network before makes")  # fmt: skip
        stages.append(described_stage(config, place))
    return CascadeDescription(
        stages=tuple(stages),
        licence="the model's own: see where its weights come from",
        provenance=f"SR3 folders {', '.join(p.name for p in (folder, *upscalers))}",
    )


def described_stage(config: Sr3Config, folder: Path) -> StageDescription:
    """One folder as a stage.

    Raises:
        UnsupportedModel: naming the weight that does not fit the configuration.
    """
    path, tensors = read_weights(folder)
    own = {n: t for n, t in tensors.items() if n not in SCHEDULE_TENSORS}
    prefix = PREFIX if all(name.startswith(PREFIX) for name in own) else ""
    own = {name.removeprefix(prefix): tensor for name, tensor in own.items()}
    unet = filled(Sr3UNet(config.shape), own, path, prefix)
    roots = np.sqrt(np.append(1.0, config.powers)).astype(np.float32)
    return StageDescription(
        name="base" if config.low is None else f"sr{config.shape.size}",
        network=Sr3Network(unet, torch.from_numpy(roots)).eval(),
        output_resolution=config.shape.size,
        input_resolution=config.low,
        steps=len(config.powers),
        schedule=TableSpec(alpha_bar=tuple(map(float, config.powers)), spacing="linspace"),
        prediction="epsilon",
        sampler="ddpm",
        threshold=ThresholdSpec(kind="static"),
        enlarge="bicubic_pil",
        augmentation=None
        if config.low is None
        else AugmentationSpec(lowest=0.0, highest=0.0, default=0.0),
        uses_context=False,
        uses_mask=False,
        uses_level=False,
        training={"parameters": float(sum(p.numel() for p in unet.parameters()))},
    )


def read_config(folder: Path) -> Sr3Config:
    """The configuration of a folder.

    Raises:
        UnsupportedModel: naming the file and the field.
    """
    path = folder / CONFIG
    config = read_commented(path)
    model = part(path, config, "model")
    if model.get("which_model_G") != "sr3":
        refuse_value(path, "which_model_G", model.get("which_model_G"), "sr3")
    diffusion = read_fields(path, part(path, model, "diffusion"), DIFFUSION, ())
    schedules = part(path, model, "beta_schedule")
    schedule = read_fields(path, part(path, schedules, "val"), SCHEDULE, ())
    unet = read_fields(path, part(path, model, "unet"), UNET, ("dropout",))
    for values, names in ((diffusion, ("image_size",)), (schedule, ("schedule", "n_timestep"))):
        for name in names:
            if values[name] is None:
                refuse_value(path, name, None, WHOLE)
    conditional = diffusion["conditional"]
    if unet["in_channel"] != (6 if conditional else 3):
        refuse_value(path, "in_channel", unet["in_channel"], UNET["in_channel"].words)
    return Sr3Config(
        path=path,
        shape=shape_of(path, unet, diffusion["image_size"]),
        low=low_size(path, config, diffusion["image_size"]) if conditional else None,
        powers=powers_of(path, schedule),
    )


def read_commented(path: Path) -> dict[str, Any]:
    """A JSON object whose lines may end in comments.

    Raises:
        UnsupportedModel: missing, too large, or no JSON object.
    """
    if not path.is_file():
        raise UnsupportedModel(f"{path}: this file is missing", field=str(path))
    data = path.read_bytes()
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES} bytes")
        lines = data.decode("utf-8").split("\n")
        value = json.loads("\n".join(line.split("//")[0] for line in lines))
    except (ValueError, RecursionError) as exc:
        raise UnsupportedModel(f"{path}: not JSON: {exc}", field=str(path)) from exc
    if not isinstance(value, dict):
        raise UnsupportedModel(f"{path}: expected an object", field=str(path))
    return value


def part(path: Path, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside another.

    Raises:
        UnsupportedModel: it is missing.
    """
    found = values.get(name)
    if not isinstance(found, dict):
        refuse_value(path, name, found, "an object")
    return dict(values[name])


def low_size(path: Path, config: Mapping[str, Any], size: int) -> int:
    """Of the pictures that a network enlarges.

    Raises:
        UnsupportedModel: no data of the configuration tells it, or it does not fit.
    """
    sets = config.get("datasets")
    known = sets.values() if isinstance(sets, dict) else ()
    lows = {data["l_resolution"] for data in known if isinstance(data, dict) and
            at_least(1)(data.get("l_resolution"))}  # fmt: skip
    if len(lows) != 1 or size % min(lows):
        found = sorted(lows) or None
        refuse_value(path, "l_resolution", found, f"one size that image_size {size} is a whole "
                     "multiple of")  # fmt: skip
    return int(min(lows))


def shape_of(path: Path, unet: Mapping[str, Any], size: int) -> Sr3Shape:
    """The network that a configuration describes.

    Raises:
        UnsupportedModel: naming the field.
    """
    width, groups = unet["inner_channel"], unet["norm_groups"] or 32
    widths = tuple(width * by for by in unet["channel_multiplier"])
    if width % 2 or any(w % groups for w in (width, *widths)):
        refuse_value(path, "inner_channel", width, f"an even multiple of norm_groups {groups}")
    halved = 2 ** (len(widths) - 1)
    if size % halved:
        refuse_value(path, "image_size", size, f"multiples of {halved}, which the levels halve")
    return Sr3Shape(
        in_channels=unet["in_channel"],
        width=width,
        widths=widths,
        blocks=unet["res_blocks"],
        size=size,
        attended=frozenset(unet["attn_res"]),
        groups=groups,
    )


def powers_of(path: Path, schedule: Mapping[str, Any]) -> Times:
    """Signal power after each step of a run, `[n]` float64.

    Raises:
        UnsupportedModel: the run is too long, or some step adds nothing.
    """
    steps = schedule["n_timestep"]
    if steps > MAX_STEPS:
        supported = (
            f"up to {MAX_STEPS} of beta_schedule val: the network reads the level of noise, not "
            "the number of a step, so a run of fewer steps needs no training"
        )
        refuse_value(path, "n_timestep", steps, supported)
    betas = betas_of(schedule["schedule"], steps, schedule["linear_start"], schedule["linear_end"])
    powers = np.cumprod(1 - betas)
    if not (np.diff(np.append(1.0, powers)) < 0).all() or powers[-1] <= 0:
        refuse_value(path, "linear_end", schedule["linear_end"], "betas that leave less at each "
                     "step, and something at the last")  # fmt: skip
    return np.asarray(powers)


def betas_of(name: str, steps: int, first: float, last: float) -> Times:
    """The share of noise that each step adds, `[n]` float64."""
    if name == "quad":
        return np.asarray(np.linspace(first**0.5, last**0.5, steps) ** 2)
    if name == "cosine":
        angles = (np.arange(steps + 1) / steps + OFFSET) / (1 + OFFSET) * math.pi / 2
        powers = np.cos(angles) ** 2
        return np.minimum(1 - powers[1:] / powers[:-1], MOST)
    if name == "linear":
        return np.linspace(first, last, steps)
    betas = np.full(steps, last)
    if name != "const":
        warm = int(steps * (0.1 if name == "warmup10" else 0.5))
        betas[:warm] = np.linspace(first, last, warm)
    return betas
