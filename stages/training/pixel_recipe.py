"""How a stage of pixels by groups is trained: its objective, its start, the bound it keeps."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cascade.errors import InvalidRequest
from stages.data.pixel_loader import PixelLoader
from stages.networks.exact import BIAS_UNIT, project
from stages.networks.pixel_network import NIBBLES, SYMBOLS
from stages.pixel_presets import PixelPreset
from stages.training.checkpoint import load_part
from stages.training.pixel_objective import LOGIT_UNIT, PixelObjective, symbols_of
from stages.training.text_planes import start_planes
from stages.training.trainer import TrainingRecipe, initial_network

GROUP = "body.group.weight"
"""The table with a row for each pass."""
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
        start: checkpoint folder to begin with the averaged weights of instead; see `weights_of`.

    Raises:
        InvalidRequest: `start` holds no checkpoint, or that of another network.
    """
    if start is None:
        network = initial_network(preset, seed)
        start_planes(network.body, loader, seed)
        weights = dict(network.state_dict())
        if "heads.low.bias" in weights:
            weights["heads.high.bias"], weights["heads.low.bias"] = starting_logits(loader)
    else:
        weights = weights_of(start, initial_network(preset, seed).state_dict())
    return TrainingRecipe(
        name=preset.name,
        objective=PixelObjective(),
        start=weights,
        metadata={"family": "pixels", "exact": float(preset.exact)},
        after_step=project,
    )


def weights_of(start: Path, fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint: the stage's own, or those of a stage of the same shape.

    What is said of every pass begins anew where the other stage has more passes, or fewer.

    Args:
        start: folder of the checkpoint.
        fresh: weights of the network that is to be trained, by name.

    Raises:
        InvalidRequest: there is no checkpoint, or another tensor has another name or shape.
    """
    found = load_part(start, "ema")
    if found.keys() >= {GROUP} and found[GROUP].shape != fresh[GROUP].shape:
        found[GROUP] = fresh[GROUP]
    wrong = [
        name
        for name in sorted({*found, *fresh})
        if name not in found or name not in fresh or found[name].shape != fresh[name].shape
    ]
    if wrong:
        raise InvalidRequest(
            f"start: {start} holds another network ({wrong[0]} differs): name a checkpoint of this "
            "stage, or of one of the same width, depth and text",
            field="start",
        )
    return found


def starting_logits(loader: PixelLoader) -> tuple[Tensor, Tensor]:
    """Log-frequencies of both halves of symbols, as biases: `[16]` and `[256]`."""
    batch = loader.batch(COUNTED, torch.Generator().manual_seed(0))
    counts = torch.bincount(symbols_of(batch).flatten(), minlength=SYMBOLS).float() + 1
    rows = counts.unflatten(0, (NIBBLES, NIBBLES))
    high, low = rows.sum(1).log(), rows.log()
    scale = LOGIT_UNIT / BIAS_UNIT
    return scale * (high - high.mean()), scale * (low - low.mean(1, keepdim=True)).flatten()
