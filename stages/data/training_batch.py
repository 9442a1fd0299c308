"""A batch of training data as tensors: what a loader gives and an objective takes.

Knows shapes; neither where the pictures come from nor what is learnt from them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """One batch as the data loader hands it over.

    Attributes:
        x0: `[B, 3, H, W]` in [-1, 1].
        low_res: the same size, enlarged, not augmented; None for the base stage.
        context: `[B, L, D]`.
        context_mask: `[B, L]`.
    """

    x0: Tensor
    low_res: Tensor | None
    context: Tensor
    context_mask: Tensor

    def on(self, device: torch.device) -> "TrainingBatch":
        """The batch on the training device, pictures channels last."""
        low_res = self.low_res
        last = torch.channels_last
        return TrainingBatch(
            x0=self.x0.to(device, memory_format=last),
            low_res=None if low_res is None else low_res.to(device, memory_format=last),
            context=self.context.to(device),
            context_mask=self.context_mask.to(device),
        )
