"""The reference cascade as data: its three stages' networks, how they are trained and sampled.

A preset holds what training and the network need, `SAMPLING` the defaults that a manifest states;
the graph's own facts (names, shapes, hashes, parity) are the exporter's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cascade.boundary import BoundaryValue, Context, Image
from cascade.diffusion.schedule import ScheduleKind
from cascade.diffusion.spec import (
    AugmentationSpec,
    DiffusionSpec,
    GuidanceSpec,
    SamplerKind,
    ThresholdSpec,
)
from cascade.graph_spec import NET, GraphSpec
from stages.networks.efficient_unet import BlockConfig, EfficientUNet, UNetConfig

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

    def network(self) -> EfficientUNet:
        """The network with random weights."""
        return EfficientUNet(self.unet)


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
        residual_std=0.1,
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
        residual_std=0.05,
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

CLIPPED = ThresholdSpec(kind="static")
"""These pictures stand on pure white, the end of the range. Where an estimate strays a little
beyond it, dynamic thresholding divides the whole picture and the white turns grey: 4 dB of
super-resolution (docs/evidence/training-history.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingDefaults:
    """Sampler, steps, guidance, augmentation and thresholding of one stage."""

    sampler: SamplerKind
    steps: int
    guidance: float
    augmentation: float = 0.0
    threshold: ThresholdSpec = CLIPPED
    stretch: float = 1.0
    """Factor of the network's estimates in a release, just enough that flat white and black, a few
    levels within the range and with grain, are beyond its ends and are clipped to them. Costs 0.1
    dB; the estimates of training stay as they are (docs/decisions/0047-white-is-white.md)."""


SAMPLING = {
    "base": SamplingDefaults(sampler="stochastic", steps=8, guidance=1.0, stretch=1.025),
    "sr256": SamplingDefaults(
        sampler="ddim", steps=2, guidance=1.0, augmentation=0.1, stretch=1.025
    ),
    "sr1024": SamplingDefaults(sampler="ddim", steps=1, guidance=1.0, stretch=1.007),
}


def as_released(preset: StagePreset) -> StagePreset:
    """The preset of the network as it is released: its estimates stretched."""
    return replace(preset, unet=replace(preset.unet, stretch=SAMPLING[preset.name].stretch))


def guidance_of(preset: StagePreset) -> GuidanceSpec:
    """Default guidance of one stage; a student's entry has the range of its training too."""
    return GuidanceSpec(
        kind="constant",
        weight=SAMPLING[preset.name].guidance,
        taught=GUIDANCE_WEIGHTS if preset.unet.guided else (),
    )


def augmentation_of(preset: StagePreset) -> AugmentationSpec | None:
    """Levels of one stage's noise-conditioning augmentation; None for the base stage."""
    if preset.low_resolution is None:
        return None
    low, high = preset.aug_range
    default = SAMPLING[preset.name].augmentation
    return AugmentationSpec(lowest=low, highest=high, default=default)


def stage_spec(
    preset: StagePreset, graph: GraphSpec, provenance: Mapping[str, Any]
) -> DiffusionSpec:
    """The manifest entry of one stage of the reference cascade."""
    chosen = SAMPLING[preset.name]
    return DiffusionSpec(
        name=preset.name,
        family="diffusion",
        graphs={NET: graph},
        starts_from=starting_values(preset),
        makes=Image(width=preset.resolution, height=preset.resolution),
        schedule=preset.schedule,
        prediction="v",
        sampler=chosen.sampler,
        steps=chosen.steps,
        gamma=0.0,
        guidance=guidance_of(preset),
        null_context="mask",
        threshold=chosen.threshold,
        augmentation=augmentation_of(preset),
        provenance=provenance,
    )


def starting_values(preset: StagePreset) -> tuple[BoundaryValue, ...]:
    """Text embeddings, and the picture of super-resolution."""
    text, low = Context(width=preset.unet.context_width), preset.low_resolution
    return (text,) if low is None else (text, Image(width=low, height=low))
