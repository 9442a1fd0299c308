"""How each stage of the reference cascade is sampled: the part of the manifest that is a choice.

The graph's own facts (names, shapes, hashes, parity) are the exporter's. Knows records only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.boundary import BoundaryValue, Context, Image
from cascade.diffusion.spec import (
    AugmentationSpec,
    DiffusionSpec,
    GuidanceSpec,
    SamplerKind,
    ThresholdSpec,
)
from cascade.graph_spec import NET, GraphSpec
from stages.presets import GUIDANCE_WEIGHTS, StagePreset

CLIPPED = ThresholdSpec(kind="static")
"""These pictures stand on pure white, the end of the range. Where an estimate strays a little
beyond it, dynamic thresholding divides the whole picture and the white turns grey: 4 dB of
super-resolution (docs/reference-cascade.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingDefaults:
    """Sampler, steps, guidance, augmentation and thresholding of one stage."""

    sampler: SamplerKind
    steps: int
    guidance: float
    augmentation: float = 0.0
    threshold: ThresholdSpec = CLIPPED


SAMPLING = {
    "base": SamplingDefaults(sampler="stochastic", steps=8, guidance=1.0),
    "sr256": SamplingDefaults(sampler="ddim", steps=2, guidance=1.0, augmentation=0.1),
    "sr1024": SamplingDefaults(sampler="ddim", steps=1, guidance=1.0),
}


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
