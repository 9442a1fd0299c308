"""Stages of pixels by groups in miniature, for the tests of training and export."""

from dataclasses import replace

import numpy as np
import torch

from cascade.pixels.order import targets_of
from cascade.types import Array
from stages.networks.exact import frozen, project
from stages.networks.pixel_network import PixelNetwork
from stages.pixel_presets import PX8, PX16, PixelPreset

WIDTH = 12
"""Width of the context embeddings."""
SMALL = {
    "width": 16, "blocks": 1, "batch": 4, "context_width": WIDTH, "token_width": 24,
    "text_width": 32, "text_planes": 12, "features": 64, "head_width": 96,
}  # fmt: skip
TINY_FIRST = replace(PX8, **SMALL)
TINY_SECOND = replace(PX16, **SMALL)
"""From nothing to 8x8, and from 8x8 to 16x16."""


def stirred_pixels(preset: PixelPreset, seed: int = 0) -> PixelNetwork:
    """A frozen network none of whose parameters is zero throughout; it is sure of nothing."""
    torch.manual_seed(seed)
    network = preset.network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for logits in (network.heads.high, network.heads.low, network.heads.copy):
            if logits is not None:
                logits.weight.mul_(0.1)
    project(network)
    return frozen(network)


def body_case(preset: PixelPreset, *, rows: int = 3, seed: int = 0) -> dict[str, Array]:
    """Random inputs of a body by name, every row at a pass of its own."""
    rng = np.random.default_rng(seed)
    size, low = preset.resolution, preset.low_resolution
    count = targets_of(preset.scheme.order, size, size).shape[1]
    case: dict[str, Array] = {
        "canvas": rng.integers(0, 256, (rows, 3, size, size)).astype(np.float32),
        "known": rng.integers(0, 2, (rows, 1, size, size)).astype(np.float32),
        "pass_index": np.arange(rows, dtype=np.int64) % preset.passes,
        "targets": rng.integers(0, size * size, (rows, count)),
        "context": rng.standard_normal((rows, 5, preset.context_width)).astype(np.float32),
        "context_mask": np.tril(np.ones((rows, 5), np.float32)),
        "aug_level": rng.random(rows).astype(np.float32),
    }
    if low is not None:
        case["low_res"] = rng.integers(0, 256, (rows, 3, low, low)).astype(np.float32)
    return case


def head_case(preset: PixelPreset, features: Array, *, seed: int = 0) -> dict[str, Array]:
    """Random questions to a head about features `[B, n, F]`."""
    rng = np.random.default_rng(seed)
    rows, count, _ = features.shape
    return {
        "features": features,
        "earlier": rng.integers(0, 257, (rows, count, 2)),
        "match": rng.integers(0, 2, (rows, count, preset.config.candidates)).astype(np.float32),
    }
