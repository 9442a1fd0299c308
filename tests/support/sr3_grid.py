"""Folders of SR3 in many configurations, and what this project makes of each.

The implementation that the layout comes from is only imported by `benchmarks.foreign_grid`; CI has
pictures that it made.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cascade.types import ImageU8
from export.adapters.sr3 import describe_sr3, read_config
from export.layouts.sr3_unet import Sr3UNet
from stages.safetensors_file import save_safetensors
from tests.support.described import CascadeStart, described_pictures, picture_of
from tests.support.known_weights import known_weights, shapes_of

UNET: dict[str, Any] = {
    "in_channel": 6, "out_channel": 3, "inner_channel": 8, "norm_groups": 4,
    "channel_multiplier": [1, 2], "attn_res": [8], "res_blocks": 1, "dropout": 0.2,
}  # fmt: skip
SCHEDULE: dict[str, Any] = {
    "schedule": "linear", "n_timestep": 5, "linear_start": 1e-4, "linear_end": 0.9,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Sr3Case:
    """One configuration, by what is not as in `UNET` and `SCHEDULE`."""

    name: str
    unet: dict[str, Any]
    schedule: dict[str, Any]
    size: int = 16
    low: int = 8
    is_conditional: bool = True
    with_tensors: bool = False
    """Whether the file has the tensors of the training's schedule too."""
    refused: str = ""
    model: str = "sr3"

    @property
    def config(self) -> str:
        """As the file holds it, comments and all."""
        unet = {**UNET, "in_channel": 6 if self.is_conditional else 3, **self.unet}
        value = {
            "name": "sr_tiny",
            "datasets": {"val": {"l_resolution": self.low, "r_resolution": self.size}},
            "model": {
                "which_model_G": self.model,
                "unet": unet,
                "beta_schedule": {
                    "train": {"n_timestep": 2000},
                    "val": {**SCHEDULE, **self.schedule},
                },
                "diffusion": {
                    "image_size": self.size,
                    "channels": 3,
                    "conditional": self.is_conditional,
                },
            },
        }
        return json.dumps(value, indent=1).replace("{\n", "{ // a comment\n", 1)


UNET_CHOICES: dict[str, tuple[Any, ...]] = {
    "inner_channel": (8, 16),
    "norm_groups": (4, 8),
    "channel_multiplier": ([1, 2], [1, 1, 2], [2, 1], [1], [1, 2, 4]),
    "attn_res": ([8], [16, 8], [16], [4], [32]),
    "res_blocks": (1, 2),
}
SCHEDULES: tuple[dict[str, Any], ...] = (
    {"schedule": "linear"},
    {"schedule": "quad"},
    {"schedule": "warmup10", "n_timestep": 20, "linear_end": 0.3},
    {"schedule": "warmup50", "n_timestep": 8},
    {"schedule": "const", "linear_end": 0.5},
    {"schedule": "cosine", "n_timestep": 7},
    {"schedule": "linear", "n_timestep": 30, "linear_end": 0.2},
)
REFUSED: tuple[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], str], ...] = (
    ("run too long", {}, {"n_timestep": 2000}, {}, "n_timestep"),
    ("no signal", {}, {"schedule": "jsd"}, {}, "schedule"),
    ("no beta", {}, {"linear_end": 1.0}, {}, "linear_end"),
    ("grey", {"out_channel": 1}, {}, {}, "out_channel"),
    ("other input", {"in_channel": 4}, {}, {}, "in_channel"),
    ("input of three", {"in_channel": 3}, {}, {}, "in_channel"),
    ("odd width", {"inner_channel": 6}, {}, {}, "inner_channel"),
    ("no blocks", {"res_blocks": 0}, {}, {}, "res_blocks"),
    ("ddpm", {}, {}, {"model": "ddpm"}, "which_model_G"),
    ("size not halved", {}, {}, {"size": 17, "low": 17}, "image_size"),
    ("no whole factor", {}, {}, {"low": 12}, "l_resolution"),
    ("unknown", {"with_affine": True}, {}, {}, "with_affine"),
    ("words", {"attn_res": "8"}, {}, {}, "attn_res"),
    ("other blocks", {"res_blocks": 2}, {}, {}, "denoise_fn.downs.2.conv.bias"),
)  # fmt: skip


def sr3_cases() -> Iterator[Sr3Case]:
    """Every configuration, the same ones ever."""
    draw = random.Random(5)
    for number in range(50):
        unet = {name: draw.choice(some) for name, some in UNET_CHOICES.items()}
        size, low = draw.choice(((16, 8), (16, 4), (32, 8), (16, 16)))
        yield Sr3Case(
            name=f"network {number}",
            unet=unet,
            schedule=draw.choice(SCHEDULES),
            size=size,
            low=low,
            is_conditional=number % 7 != 6,
            with_tensors=number % 3 == 0,
        )
    for name, unet, schedule, other, refused in REFUSED:
        yield Sr3Case(name=name, unet=unet, schedule=schedule, refused=refused, **other)


def write_sr3(case: Sr3Case, root: Path) -> Path:
    """The folder of a case, weights known by name and shape."""
    folder = root / case.name.replace(" ", "_")
    folder.mkdir(parents=True)
    sound = Sr3Case(name="sound", unet={}, schedule={}) if case.refused else case
    (folder / "config.json").write_text(sound.config)
    known = known_weights(shapes_of(Sr3UNet(read_config(folder).shape)))
    tensors = {f"denoise_fn.{name}": tensor for name, tensor in known.items()}
    if case.with_tensors:
        tensors["betas"] = torch.zeros(2000)
    save_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(case.config)
    return folder


def our_sr3(case: Sr3Case, folder: Path) -> dict[str, ImageU8]:
    """The picture that this project makes."""
    image = picture_of(case.low) if case.is_conditional else None
    return described_pictures(describe_sr3(folder, ()), CascadeStart(image=image))
