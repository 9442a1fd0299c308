"""A batch of training data as tensors: what a loader gives and an objective takes.

Knows shapes; neither where the pictures come from nor what is learnt from them.
"""

from dataclasses import dataclass

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
