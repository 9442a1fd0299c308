"""Conditioning augmentation: what is done in training to the smaller picture before it is enlarged.

A super-resolution stage that is trained on true small pictures meets those of the stage before it,
which have faults. Small pictures with noise or blur teach it not to rely on their last detail.
Knows small pictures; not how they are enlarged, or networks.

References:
    Ho et al. 2021 (arXiv 2106.15282), section 4: Gaussian noise whose level the network is told,
    and blur with a filter of 3 by 3 of half the examples, of which it is not told.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cascade.diffusion.conditioning import AUGMENTATION
from stages.training.objective import scales

AugmentationKind = Literal["none", "gaussian", "blur"]


@dataclass(frozen=True, slots=True)
class AugmentedPictures:
    """Small pictures as the network is to be shown them.

    Attributes:
        pictures: `[B, 3, h, w]` in [-1, 1] and, with noise, beyond.
        level: `[B]`, what the network is told of it; 0 for none.
    """

    pictures: Tensor
    level: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditioningAugmentation:
    """One way to augment, and how strongly."""

    kind: AugmentationKind = "none"
    highest: float = 0.5
    """Gaussian: levels are drawn evenly from 0 to this; a level is a time of `AUGMENTATION`."""
    blur: tuple[float, float] = (0.4, 0.6)
    """Blur: the deviations of the filter, in small pixels, that are drawn evenly."""
    blurred: float = 0.5
    """Blur: share of the examples."""

    def apply(self, small: Tensor, generator: torch.Generator) -> AugmentedPictures:
        """Small pictures augmented.

        Args:
            small: `[B, 3, h, w]` in [-1, 1].
            generator: source of every random choice.
        """
        count = len(small)
        none = torch.zeros(count)
        if self.kind == "none":
            return AugmentedPictures(small, none)
        if self.kind == "gaussian":
            level = self.highest * torch.rand(count, generator=generator)
            return AugmentedPictures(with_noise(small, level, generator), level)
        low, high = self.blur
        width = low + (high - low) * torch.rand(count, generator=generator)
        chosen = torch.rand(count, generator=generator) < self.blurred
        found = torch.where(chosen[:, None, None, None], blurred(small, width), small)
        return AugmentedPictures(found, none)


def with_noise(small: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures `[B, 3, h, w]` after the forward process until time `level [B]`; 0 leaves them."""
    alpha, sigma = scales(AUGMENTATION, level)
    # As a stage does it: the schedule's own tiny noise at time 0 is left out.
    told = (level > 0).float()[:, None, None, None]
    noise = torch.randn(small.shape, generator=generator)
    return torch.lerp(small, alpha * small + sigma * noise, told)


def blurred(small: Tensor, width: Tensor) -> Tensor:
    """Pictures `[B, 3, h, w]` under a Gaussian filter of 3 by 3, reflected at the edges.

    Args:
        small: the pictures, 2 pixels or more on each side.
        width: the filter's deviation, in pixels, `[B]`, above 0.
    """
    side = torch.exp(-0.5 / width**2)
    row = torch.stack([side, torch.ones_like(side), side], dim=1)
    row = row / row.sum(dim=1, keepdim=True)
    kernel = row[:, :, None] * row[:, None, :]
    framed = functional.pad(small, (1, 1, 1, 1), mode="reflect")
    batch, channels, height, wide = framed.shape
    # Every picture has a filter of its own: a group for each of its channels.
    found = functional.conv2d(
        framed.reshape(1, batch * channels, height, wide),
        kernel.repeat_interleave(channels, dim=0)[:, None],
        groups=batch * channels,
    )
    return found.reshape(small.shape)
