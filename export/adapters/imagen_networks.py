"""U-Nets of imagen-pytorch behind the input contract, and the library's two noise schedules.

Times and levels in [0, 1] become the log-SNR that the network was shown, looked up in the table
that the schedule is. Knows tensors; not files or manifests.
"""

import math

import torch
from torch import Tensor, nn

OFFSET = 0.008
"""Of the cosine schedule."""
CLEANEST = 1e-5
"""Least noise to signal of the cosine schedule."""


def log_snrs(name: str, times: Tensor) -> Tensor:
    """The log signal-to-noise ratio at times in [0, 1], in the library's own single precision."""
    if name == "linear":
        return -torch.log(torch.special.expm1(1e-4 + 10 * times**2))
    angles = (times + OFFSET) / (1 + OFFSET) * (math.pi * 0.5)
    return -torch.log((torch.cos(angles) ** -2 - 1).clamp(min=CLEANEST))


def table_of(name: str, steps: int) -> Tensor:
    """Log-SNR at times 0, `1 / steps`, ... 1: `[steps + 1]` float32."""
    return log_snrs(name, torch.arange(steps + 1, dtype=torch.float32) / steps)


def powers(table: Tensor) -> tuple[float, ...]:
    """Signal powers of a table of log-SNR, in double precision."""
    return tuple(float(value) for value in torch.sigmoid(table.double()))


class ImagenNetwork(nn.Module):
    """A stage."""

    def __init__(self, unet: nn.Module, times: Tensor, levels: Tensor) -> None:
        """Wrap a U-Net.

        Args:
            unet: see `ImagenUNet`.
            times: log-SNR of the stage's schedule, `[n + 1]` float32.
            levels: log-SNR of the smaller picture's noise, `[m + 1]` float32.
        """
        super().__init__()
        self.unet = unet
        self.times: Tensor
        self.levels: Tensor
        self.register_buffer("times", times, persistent=False)
        self.register_buffer("levels", levels, persistent=False)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        low_res: Tensor | None = None,
        aug_level: Tensor | None = None,
    ) -> Tensor:
        """The prediction, `[B, 3, H, W]`.

        Args:
            x_t: `[B, 3, H, W]`, noisy images.
            t: `[B]`, times in (0, 1].
            context: `[B, L, D]`, embeddings.
            context_mask: `[B, L]`, 1 for a real token.
            low_res: `[B, 3, H, W]`, the enlarged and noised images.
            aug_level: `[B]`, levels of their noise.
        """
        words = None
        if context is not None and context_mask is not None:
            words = (context, context_mask)
        shown = None
        if low_res is not None and aug_level is not None:
            shown = (low_res, looked_up(self.levels, aug_level))
        found: Tensor = self.unet(x_t, looked_up(self.times, t), words, shown)
        return found


def looked_up(table: Tensor, times: Tensor) -> Tensor:
    """The entry nearest to each time in [0, 1], `[B]`."""
    last = len(table) - 1
    return table[torch.round(times * last).long()]
