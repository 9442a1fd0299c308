"""The class-conditional cascade in miniature: 8 pixels from noise, refined to 16; four classes.

Stands in the place of the presets under their names, so that checkpoints and exports are found.
"""

from dataclasses import replace

import torch

from stages.networks.efficient_unet import BlockConfig
from stages.networks.refinement import RefinementNetwork
from stages.refinement_presets import CLASS8, REFINE32, RefinementPreset

BLOCK = BlockConfig(channels=8, res_blocks=1)
WIDTHS = {"stem_channels": 8, "context_width": 4, "text_width": 8, "vector_width": 16}
TINY_CLASSES = replace(
    CLASS8, classes=4, batch=2, unet=replace(CLASS8.unet, blocks=(BLOCK,), **WIDTHS)
)
TINY_REFINE = replace(
    REFINE32,
    resolution=16,
    classes=4,
    batch=2,
    unet=replace(REFINE32.unet, blocks=(BLOCK,), **WIDTHS),
)


def stirred_refinement(preset: RefinementPreset, seed: int = 0) -> RefinementNetwork:
    """A network none of whose parameters is zero throughout, in evaluation mode."""
    torch.manual_seed(seed)
    network = preset.network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval().requires_grad_(requires_grad=False)
