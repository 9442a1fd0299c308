"""How a stage of pixels by groups is trained: its objective, its start, the bound it keeps."""

from pathlib import Path

import torch
from torch import Tensor

from stages.data.pixel_loader import PixelLoader
from stages.networks.exact import BIAS_UNIT, project
from stages.networks.pixel_network import NIBBLES, SYMBOLS
from stages.pixel_presets import PixelPreset
from stages.training.checkpoint import load_part
from stages.training.pixel_objective import LOGIT_UNIT, PixelObjective, symbols_of
from stages.training.text_planes import start_planes
from stages.training.trainer import TrainingRecipe, initial_network

COUNTED = 256
"""Samples whose symbols are counted for the logits that a network starts with."""


def pixel_recipe(
    preset: PixelPreset, loader: PixelLoader, seed: int, *, start: Path | None = None
) -> TrainingRecipe:
    """Training on pictures, from random weights, frequencies of symbols and planes of the text.

    Args:
        preset: the stage.
        loader: of its training pictures.
        seed: of the weights.
        start: checkpoint folder to begin with the averaged weights of instead.

    Raises:
        InvalidRequest: `start` holds no checkpoint.
    """
    if start is None:
        network = initial_network(preset, seed)
        start_planes(network.body, loader, seed)
        weights = dict(network.state_dict())
        if "heads.low.bias" in weights:
            weights["heads.high.bias"], weights["heads.low.bias"] = starting_logits(loader)
    else:
        weights = load_part(start, "ema")
    return TrainingRecipe(
        name=preset.name,
        objective=PixelObjective(),
        start=weights,
        metadata={"family": "pixels", "exact": float(preset.exact)},
        after_step=project,
    )


def starting_logits(loader: PixelLoader) -> tuple[Tensor, Tensor]:
    """Log-frequencies of both halves of symbols, as biases: `[16]` and `[256]`."""
    batch = loader.batch(COUNTED, torch.Generator().manual_seed(0))
    counts = torch.bincount(symbols_of(batch).flatten(), minlength=SYMBOLS).float() + 1
    rows = counts.unflatten(0, (NIBBLES, NIBBLES))
    high, low = rows.sum(1).log(), rows.log()
    scale = LOGIT_UNIT / BIAS_UNIT
    return scale * (high - high.mean()), scale * (low - low.mean(1, keepdim=True)).flatten()
