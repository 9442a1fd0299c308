"""The class-conditional cascade in miniature as data: 8 pixels from noise, refined to 32.

A base stage of classes and a super-resolution stage by repeated refinement. A preset holds what
training and the network need; what a trained network is sampled with is the exporter's.

References:
    Ho et al. 2021, "Cascaded Diffusion Models for High Fidelity Image Generation"
    (arXiv 2106.15282); Saharia et al. 2021, "Image Super-Resolution via Iterative Refinement"
    (arXiv 2104.07636).
"""

from dataclasses import dataclass

from cascade.diffusion.schedule import ScheduleKind
from stages.networks.efficient_unet import BlockConfig, UNetConfig
from stages.networks.refinement import RefinementNetwork

CLASSES = 64
"""Concepts that are classes, spread over all that are trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinementPreset:
    """How one stage of the class-conditional cascade is built and trained."""

    name: str
    resolution: int
    """Height and width of the output, pixels."""
    low_resolution: int | None
    """Height and width of the input picture; None for the base stage."""
    unet: UNetConfig
    batch: int
    learning_rate: float
    classes: int = CLASSES
    schedule: ScheduleKind = "cosine"
    """Whose noise levels are trained on; a run may take any others."""

    def network(self) -> RefinementNetwork:
        """The network with random weights."""
        return RefinementNetwork(self.unet)


CLASS8 = RefinementPreset(
    name="class8",
    resolution=8,
    low_resolution=None,
    batch=64,
    learning_rate=2e-3,
    unet=UNetConfig(
        stem_channels=48,
        context_width=CLASSES,
        text_width=32,
        vector_width=96,
        blocks=(BlockConfig(channels=96, res_blocks=1, attention="self"),),
    ),
)

REFINE32 = RefinementPreset(
    name="refine32",
    resolution=32,
    low_resolution=8,
    batch=32,
    learning_rate=2e-3,
    unet=UNetConfig(
        stem_channels=32,
        context_width=CLASSES,
        text_width=32,
        vector_width=96,
        upscales=True,
        patch=2,
        gate=True,
        blocks=(BlockConfig(channels=64, res_blocks=1),),
    ),
)

REFINEMENT_PRESETS = {preset.name: preset for preset in (CLASS8, REFINE32)}
