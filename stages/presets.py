"""The three stages of the reference cascade: network, schedule and training choices as data.

One record per stage. It knows numbers, not how they are used.
"""

from dataclasses import dataclass

from cascade.diffusion.schedule import ScheduleKind
from stages.networks.efficient_unet import BlockConfig, UNetConfig

GUIDANCE_WEIGHTS = (1.0, 3.0)
"""Guidance weights that a student of guidance is asked for, evenly drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePreset:
    """How one stage of the reference cascade is built and trained."""

    name: str
    resolution: int
    """Height and width of the output, pixels."""
    low_resolution: int | None
    """Height and width of the input image; None for the base stage."""
    crop: int
    """Height and width of a training sample, pixels of the output resolution."""
    schedule: ScheduleKind
    unet: UNetConfig
    batch: int
    learning_rate: float
    aug_range: tuple[float, float] = (0.0, 0.0)
    """Augmentation levels drawn in training."""


BASE = StagePreset(
    name="base",
    resolution=64,
    low_resolution=None,
    crop=64,
    schedule="cosine",
    batch=32,
    learning_rate=1e-3,
    unet=UNetConfig(
        stem_channels=32,
        out_res_blocks=1,
        blocks=(
            BlockConfig(channels=32, res_blocks=1),
            BlockConfig(channels=48, res_blocks=1),
            BlockConfig(channels=96, res_blocks=2, attention="self"),
            BlockConfig(channels=256, res_blocks=2, attention="self"),
        ),
    ),
)

SR256 = StagePreset(
    name="sr256",
    resolution=256,
    low_resolution=64,
    crop=128,
    schedule="cosine",
    batch=8,
    learning_rate=1e-3,
    aug_range=(0.0, 0.5),
    unet=UNetConfig(
        stem_channels=64,
        out_res_blocks=1,
        upscales=True,
        patch=4,
        gate=True,
        detail=0.1,
        text_width=128,
        vector_width=192,
        blocks=(
            BlockConfig(channels=96, res_blocks=2),
            BlockConfig(channels=160, res_blocks=2, attention="self"),
        ),
    ),
)

SR1024 = StagePreset(
    name="sr1024",
    resolution=1024,
    low_resolution=256,
    crop=256,
    schedule="linear",
    batch=8,
    learning_rate=1e-3,
    aug_range=(0.0, 0.1),
    unet=UNetConfig(
        stem_channels=64,
        out_res_blocks=1,
        upscales=True,
        patch=4,
        gate=True,
        detail=0.05,
        schedule="linear",
        text_width=64,
        vector_width=128,
        blocks=(
            BlockConfig(channels=64, res_blocks=1),
            BlockConfig(channels=96, res_blocks=2, attention="cross"),
        ),
    ),
)

PRESETS = {preset.name: preset for preset in (BASE, SR256, SR1024)}
