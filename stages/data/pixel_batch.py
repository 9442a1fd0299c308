"""A batch for a stage that makes its picture by groups: one pass of every picture, as tensors.

Knows shapes; neither where the pictures come from nor what is learnt from them.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PixelBatch:
    """One pass of each picture: what the network is shown, and what it should have said.

    Attributes:
        canvas: `[B, 3, H, W]` float32, 0 to 255, the known pixels, some of them falsified.
        known: `[B, 1, H, W]` float32, 1 where the canvas is known, eighths where only top bits are;
            3 channels where each has passes of its own.
        pass_index: `[B]` int64.
        targets: `[B, n]` int64, flat positions of the pixels to be made.
        aug_level: `[B]` float32, the share of falsified pixels.
        low_res: `[B, 3, h, w]` float32, 0 to 255, falsified alike; None for a first stage.
        context: `[B, L, D]`; None for a stage that knows no text.
        context_mask: `[B, L]`, ditto.
        values: `[B, n, 3]` int64, what belongs at the targets.
        guess: `[B, n, 3]` int64, what the symbols are distances from, mod 256.
        candidates: `[B, n, K, 3]` int64, values of the pixels that may be copied.
        usable: `[B, n, K]` bool, which of them are known.
        weights: `[B, n]` float32, what the bits of every target count; a sample's add up to 1.
        symbols: `[B]` int64, how many symbols the pass's plane has: 256 for whole values.
        below: `[B]` int64, bits of later planes.
        decides: `[B, 3]` bool, the channels that the pass makes.
    """

    canvas: Tensor
    known: Tensor
    pass_index: Tensor
    targets: Tensor
    aug_level: Tensor
    low_res: Tensor | None
    context: Tensor | None
    context_mask: Tensor | None
    values: Tensor
    guess: Tensor
    candidates: Tensor
    usable: Tensor
    weights: Tensor
    symbols: Tensor
    below: Tensor
    decides: Tensor

    def on(self, device: torch.device) -> "PixelBatch":
        """The batch on the training device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {n: None if t is None else t.to(device) for n, t in tensors.items()}
        return PixelBatch(**moved)
