"""Before a stage learns to draw: its planes of the text become the picture, by least squares.

What a text says of every place is a regression on random features of its tokens, which one system
of equations solves. Training then starts with planes that are about right, and improves features
and planes with everything else. Knows bodies and captioned pictures; not passes.

References:
    Rahimi and Recht 2008, "Random features for large-scale kernel machines" (NIPS 2007).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.data.pixel_loader import PixelLoader
from stages.networks.exact import BIAS_UNIT, ExactLayer, project
from stages.networks.pixel_network import CENTRE, CHANNELS, PixelBody, TextPlanes, TextRow

BATCH = 64
SHOWN = 16
"""How often each picture is in the system, with some caption and in some colour."""
RIDGE = 1.0
"""Added to the variance of every feature: keeps the weights small."""
TOKEN_GAIN, TOKEN_BIAS = 1.5, -20.0
"""Of the random layer that reads tokens: each feature is silent for most of them."""
FEATURE_MEAN, FEATURE_STD = 10.0, 60.0
"""Of the sums behind the features of a text, which are cut to 0 to 255."""
PLANE_UNIT = 2.0
"""Levels of the picture that one step of a plane stands for: halves the weights, for the bound."""


@dataclass(slots=True)
class Moments:
    """Sums over samples: of rows `[N]` and `[M]`, and of their products."""

    count: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor

    @classmethod
    def none(cls, wide: int, made: int) -> "Moments":
        """Of no sample, rows of `wide` and of `made` numbers."""
        shapes = ((wide,), (made,), (wide, wide), (wide, made))
        x, y, xx, xy = (torch.zeros(shape, dtype=torch.float64) for shape in shapes)
        return cls(0, x, y, xx, xy)

    def solved(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Weights `[N, M]` and offsets `[M]` of the least squares."""
        x, y = self.x / self.count, self.y / self.count
        spread = self.xx / self.count - x[:, None] * x
        both = self.xy / self.count - x[:, None] * y
        weights = torch.linalg.solve(spread + ridge * torch.eye(len(x), dtype=x.dtype), both)
        return weights, y - x @ weights


def start_planes(body: nn.Module, loader: PixelLoader, seed: int) -> None:
    """Give a body's text random features, and its first planes the picture by least squares.

    Args:
        body: in place; without planes of the text nothing is done.
        loader: of captioned pictures.
        seed: of features and samples.
    """
    if not isinstance(body, PixelBody) or body.text is None or body.planes is None:
        return
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        draw_features(body.text, loader, body.config.resolution)
        solve_planes(body, body.text, body.planes, loader)
    project(body)


def draws(loader: PixelLoader, size: int, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of pictures about zero `[B, 3, H, W]`, texts and masks, the same every time."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(-(-count // BATCH)):
        pixels, (context, mask) = loader.captioned(BATCH, size, generator)
        yield pixels.float() - CENTRE, context, mask


def draw_features(text: TextRow, loader: PixelLoader, size: int) -> None:
    """Random layers whose sums have the mean and deviation that features should have."""
    _, context, mask = next(draws(loader, size, BATCH))
    text.token.weight.normal_(std=TOKEN_GAIN * (2 / text.token.weight.shape[1]) ** 0.5)
    text.token.bias.fill_(TOKEN_BIAS / BIAS_UNIT)
    text.mixed.weight.normal_()
    text.mixed.bias.zero_()
    kept = text.kept(context, mask)
    middle = kept.mean(0)
    sums = (kept - middle) @ text.mixed.weight.T
    text.mixed.weight.mul_(FEATURE_STD / sums.std().clamp(min=1.0))
    text.mixed.bias.copy_((FEATURE_MEAN - text.mixed.weight @ middle) / BIAS_UNIT)


def solve_planes(body: PixelBody, text: TextRow, planes: TextPlanes, loader: PixelLoader) -> None:
    """Set the first planes to the least squares of pictures by features."""
    config, layer = body.config, planes.layer
    width, made = layer.weight.shape[1], CHANNELS * config.resolution**2
    sums = Moments.none(width, made)
    for pictures, context, mask in draws(loader, config.resolution, SHOWN * len(loader.pictures)):
        x = text(context, mask).double()
        y = functional.pixel_unshuffle(pictures, config.cell).flatten(1).double() / PLANE_UNIT
        sums.count += len(x)
        sums.x += x.sum(0)
        sums.y += y.sum(0)
        sums.xx += x.T @ x
        sums.xy += x.T @ y
    weights, offsets = sums.solved(RIDGE)
    fill(layer, weights, offsets)


def fill(layer: ExactLayer, weights: Tensor, offsets: Tensor) -> None:
    """The first outputs of a layer: weights `[in, out]` and offsets `[out]`."""
    layer.weight[: len(offsets)] = weights.T.float()
    layer.bias[: len(offsets)] = offsets.float() / BIAS_UNIT
