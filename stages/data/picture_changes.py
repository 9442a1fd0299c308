"""Pictures changed at random as a classifier should not mind: moved, worn, tinted.

Each picture of a batch by its own amounts, the white ground staying white. Knows tensors and a
source of random numbers; not what the pictures show.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

TURN, SHIFT, ZOOM = math.radians(10), 0.12, 0.15
"""Largest turn, largest shift as a share of half the picture, largest change of size."""
VIVID, BRIGHT, TINT = 0.4, 0.25, 0.12
"""Largest change of saturation, of distance to white, and of that distance in one channel."""
OFF_COLOUR = 0.02
"""Largest change of a channel's distance to white where colours are to stay what they are."""


def moved(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Every picture turned, shifted, sized and blurred by its own random amount; edges white.

    Args:
        pixels: `[B, 3, H, W]` float32 in [-1, 1].
        generator: source of every draw.
    """
    count = len(pixels)

    def draw(reach: float) -> Tensor:
        return reach * (2 * torch.rand(count, generator=generator) - 1)

    turn, zoom = draw(TURN), 1 + draw(ZOOM)
    rows = torch.stack(
        [
            torch.stack([turn.cos() * zoom, -turn.sin() * zoom, draw(SHIFT)], 1),
            torch.stack([turn.sin() * zoom, turn.cos() * zoom, draw(SHIFT)], 1),
        ],
        1,
    )
    grid = functional.affine_grid(rows, list(pixels.shape), align_corners=False)
    # White is 1: outside the picture the difference to white is 0.
    out = functional.grid_sample(pixels - 1, grid, align_corners=False) + 1
    return worn(out, generator, blur=1.0, noise=0.1)


def faded(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Every picture a little blurred, noisy and off in colour: what a good copy may be.

    Args:
        pixels: `[B, 3, H, W]` float32 in [-1, 1].
        generator: source of every draw.
    """
    out = worn(pixels, generator, blur=0.5, noise=0.06)
    off = 1 + OFF_COLOUR * (2 * torch.rand(len(pixels), 3, 1, 1, generator=generator) - 1)
    return (out - 1) * off + 1


def worn(pixels: Tensor, generator: torch.Generator, *, blur: float, noise: float) -> Tensor:
    """Every picture blurred and made noisy by its own random amount, up to the given ones.

    Args:
        pixels: `[B, 3, H, W]` float32 in [-1, 1].
        generator: source of every draw.
        blur: largest share of the mean of a pixel's neighbours, 0 to 1.
        noise: largest standard deviation of the noise added, in the same units as the pixels.
    """

    def amount(most: float) -> Tensor:
        return most * torch.rand(len(pixels), generator=generator)[:, None, None, None]

    # Edges repeated, not filled with 0: grey would creep in from the border of a white ground.
    soft = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    out = pixels + amount(blur) * (soft - pixels)
    return out + amount(noise) * torch.randn(out.shape, generator=generator)


def tinted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Every picture more or less vivid, bright and tinted; white stays white.

    Args:
        pixels: `[B, 3, H, W]` float32 in [-1, 1].
        generator: source of every draw.
    """

    def factor(reach: float, channels: int = 1) -> Tensor:
        draws = torch.rand(len(pixels), channels, 1, 1, generator=generator)
        return 1 + reach * (2 * draws - 1)

    # Distance to white: what is 0 stays 0 under every factor below.
    ink = pixels - 1
    grey = ink.mean(dim=1, keepdim=True)
    ink = grey + factor(VIVID) * (ink - grey)
    return ink * factor(BRIGHT) * factor(TINT, 3) + 1
