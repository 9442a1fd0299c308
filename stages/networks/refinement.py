"""The network of repeated refinement: told how much of a picture is left, asked for its noise.

Its noise level is the square root of gamma, the signal scale, as a number of its own: not the index
of a training step. So one network serves every schedule. It does not know how levels are drawn, or
what a class means.

References:
    Saharia et al. 2021 (arXiv 2104.07636), section 2: the network is conditioned on gamma and the
    enlarged picture stands beside the noisy one.
"""

import torch
from torch import Tensor, nn

from cascade.diffusion.schedule import ANGLES
from stages.networks.efficient_unet import EfficientUNet, UNetConfig


class RefinementNetwork(nn.Module):
    """An Efficient U-Net without preconditioning that predicts the noise."""

    def __init__(self, config: UNetConfig) -> None:
        """A network with random weights.

        Args:
            config: widths and depths; with `upscales` it takes `low_res` and `aug_level`.
        """
        super().__init__()
        self.unet = EfficientUNet(config)

    def forward(
        self,
        x_t: Tensor,
        noise_level: Tensor,
        context: Tensor,
        context_mask: Tensor,
        low_res: Tensor | None = None,
        aug_level: Tensor | None = None,
    ) -> Tensor:
        """The noise in `x_t`, `[B, 3, H, W]`.

        Args:
            x_t: `[B, 3, H, W]`, noisy pictures.
            noise_level: `[B]`, the square root of gamma, 0 for noise and 1 for the picture.
            context: `[B, 1, classes]`, one-hot classes.
            context_mask: `[B, 1]`, 1 where the class is told, 0 where it is not.
            low_res: `[B, 3, H, W]`, super-resolution only: enlarged and augmented by the caller.
            aug_level: `[B]`, super-resolution only: how strongly it was augmented.
        """
        pictures, levels = [x_t], [noise_level]
        if low_res is not None and aug_level is not None:
            pictures, levels = [x_t, low_res], [noise_level, aug_level]
        return self.unet.network(pictures, levels, context, context_mask)


class TimedRefinement(nn.Module):
    """The network as a stage asks it: by times of the cosine schedule, not by noise levels."""

    def __init__(self, network: RefinementNetwork) -> None:
        """Wrap a trained network."""
        super().__init__()
        self.network = network

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        context: Tensor,
        context_mask: Tensor,
        low_res: Tensor | None = None,
        aug_level: Tensor | None = None,
    ) -> Tensor:
        """The noise in `x_t`, `[B, 3, H, W]`; `t` is `[B]`, in (0, 1], see `RefinementNetwork`."""
        first, last = ANGLES
        level = torch.cos(first + (last - first) * t)
        found: Tensor = self.network(x_t, level, context, context_mask, low_res, aug_level)
        return found
