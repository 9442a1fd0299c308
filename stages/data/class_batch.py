"""A batch of labelled pictures as tensors: what a loader gives and repeated refinement learns from.

Knows shapes; neither where the pictures come from nor what a class is called.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ClassBatch:
    """One batch.

    Attributes:
        x0: `[B, 3, H, W]` in [-1, 1].
        small: `[B, 3, h, w]` in [-1, 1], neither enlarged nor augmented; None for a base stage.
        label: `[B]` int64, numbers of classes.
    """

    x0: Tensor
    small: Tensor | None
    label: Tensor

    def on(self, device: torch.device) -> "ClassBatch":
        """The batch on the training device; small pictures stay: the CPU enlarges them."""
        last = torch.channels_last
        return ClassBatch(
            x0=self.x0.to(device, memory_format=last),
            small=self.small,
            label=self.label.to(device),
        )
