"""The network in a checkpoint, as its stage's preset and the checkpoint's facts describe it.

Knows presets and checkpoints; neither what the network is sampled for nor how it was trained.
"""

from dataclasses import replace
from pathlib import Path

from stages.networks.efficient_unet import EfficientUNet
from stages.reference import StagePreset
from stages.training.checkpoint import load_metadata, load_part


def preset_of(preset: StagePreset, checkpoint: Path) -> StagePreset:
    """The preset of the network in a checkpoint: a student of guidance has an input more."""
    if not load_metadata(checkpoint).get("guided"):
        return preset
    return replace(preset, unet=preset.unet.with_guidance())


def load_network(preset: StagePreset, checkpoint: Path) -> EfficientUNet:
    """The averaged weights of a checkpoint as a network in evaluation mode."""
    network = EfficientUNet(preset_of(preset, checkpoint).unet)
    network.load_state_dict(load_part(checkpoint, "ema"))
    return network.eval().requires_grad_(requires_grad=False)
