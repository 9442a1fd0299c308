"""The U-Net of SR3 checkpoints: told how much of the picture is left, by its square root of gamma.

Written after the layout of the state dict, whose names the modules have. Knows tensors and the
shape of the network; not files, schedules or samplers.

References:
    Saharia et al. 2021, "Image Super-Resolution via Iterative Refinement" (arXiv 2104.07636),
    section 2.4 for the conditioning on gamma.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

LONGEST_PERIOD = 1e4


@dataclass(frozen=True, kw_only=True, slots=True)
class Sr3Shape:
    """What of a configuration decides the network."""

    in_channels: int
    """6 beside a picture, 3 without."""
    width: int
    """Of the first level, and of what a noise level is shown as."""
    widths: tuple[int, ...]
    """Of every level, the largest pictures first."""
    blocks: int
    """Residual blocks of each level on the way down; one more on the way up."""
    size: int
    """Of the pictures."""
    attended: frozenset[int]
    """Sizes of pictures where positions look at each other."""
    groups: int
    """Of every group norm."""


class Sr3Convolution(nn.Module):
    """A norm, a bend and a convolution."""

    def __init__(self, before: int, width: int, groups: int) -> None:
        """From `before` channels to `width`."""
        super().__init__()
        self.block = nn.Sequential(
            nn.GroupNorm(groups, before),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(before, width, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """`[B, width, H, W]` of `[B, before, H, W]`."""
        found: Tensor = self.block(features)
        return found


class Sr3Shift(nn.Module):
    """A noise level added to every pixel."""

    def __init__(self, level: int, width: int) -> None:
        """From what a level is shown as to `width` channels."""
        super().__init__()
        self.noise_func = nn.Sequential(nn.Linear(level, width))

    def forward(self, features: Tensor, level: Tensor) -> Tensor:
        """`[B, width, H, W]` of the same and of `[B, level]`."""
        shifted: Tensor = features + self.noise_func(level)[:, :, None, None]
        return shifted


class Sr3Residual(nn.Module):
    """Two convolutions with the noise level between, beside a way past them."""

    def __init__(self, before: int, width: int, shape: Sr3Shape) -> None:
        """From `before` channels to `width`."""
        super().__init__()
        self.noise_func = Sr3Shift(shape.width, width)
        self.block1 = Sr3Convolution(before, width, shape.groups)
        self.block2 = Sr3Convolution(width, width, shape.groups)
        self.res_conv = nn.Identity() if before == width else nn.Conv2d(before, width, 1)

    def forward(self, features: Tensor, level: Tensor) -> Tensor:
        """`[B, width, H, W]` of `[B, before, H, W]` and of `[B, level]`."""
        kept: Tensor = self.res_conv(features)
        inner: Tensor = self.block2(self.noise_func(self.block1(features), level))
        return inner + kept


class Sr3Attention(nn.Module):
    """Every position looks at every other one, with one head."""

    def __init__(self, width: int, groups: int) -> None:
        """Attention over `width` channels."""
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """`[B, width, H, W]` of the same."""
        batch, width, height, wide = features.shape
        parts = self.qkv(self.norm(features)).reshape(batch, 3, 1, width, height * wide)
        query, key, value = (part.transpose(2, 3) for part in parts.unbind(1))
        seen = functional.scaled_dot_product_attention(query, key, value)
        kept: Tensor = self.out(seen.transpose(2, 3).reshape(batch, width, height, wide))
        return features + kept


class Sr3Block(nn.Module):
    """A residual block, with attention behind it or without."""

    def __init__(self, before: int, width: int, shape: Sr3Shape, *, attends: bool) -> None:
        """From `before` channels to `width`."""
        super().__init__()
        self.res_block = Sr3Residual(before, width, shape)
        self.attn = Sr3Attention(width, shape.groups) if attends else None

    def forward(self, features: Tensor, level: Tensor) -> Tensor:
        """`[B, width, H, W]` of `[B, before, H, W]` and of `[B, level]`."""
        features = self.res_block(features, level)
        return features if self.attn is None else self.attn(features)


class Sr3Resize(nn.Module):
    """Pictures halved by a convolution, or doubled by repeating pixels and a convolution."""

    def __init__(self, width: int, *, grows: bool) -> None:
        """A convolution of `width` channels."""
        super().__init__()
        self.grows = grows
        self.conv = nn.Conv2d(width, width, 3, stride=1 if grows else 2, padding=1)

    def forward(self, features: Tensor, level: Tensor) -> Tensor:
        """`[B, width, 2 H, 2 W]` or `[B, width, H / 2, W / 2]`; the level changes nothing here."""
        del level
        if self.grows:
            features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
        found: Tensor = self.conv(features)
        return found


class Sr3Entry(nn.Conv2d):
    """The first convolution, which no level reaches."""

    def forward(self, features: Tensor, level: Tensor | None = None) -> Tensor:
        """`[B, width, H, W]` of `[B, 3 or 6, H, W]`."""
        del level
        return super().forward(features)


class Sr3Waves(nn.Module):
    """A noise level as sines and cosines."""

    def __init__(self, width: int) -> None:
        """`width / 2` of each."""
        super().__init__()
        self.count = width // 2

    def forward(self, level: Tensor) -> Tensor:
        """`[B, width]` of `[B]`."""
        places = torch.arange(self.count, dtype=torch.float32) / self.count
        angles = level[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * places)[None]
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


class Sr3UNet(nn.Module):
    """The whole network."""

    def __init__(self, shape: Sr3Shape) -> None:
        """An empty network of that shape."""
        super().__init__()
        self.noise_level_mlp = nn.Sequential(
            Sr3Waves(shape.width),
            nn.Linear(shape.width, 4 * shape.width),
            nn.SiLU(),
            nn.Linear(4 * shape.width, shape.width),
        )
        width, size = shape.width, shape.size
        downs: list[nn.Module] = [Sr3Entry(shape.in_channels, width, 3, padding=1)]
        left = [width]
        for number, wanted in enumerate(shape.widths):
            for _ in range(shape.blocks):
                downs.append(Sr3Block(width, wanted, shape, attends=size in shape.attended))
                width = wanted
                left.append(width)
            if number + 1 < len(shape.widths):
                downs.append(Sr3Resize(width, grows=False))
                left.append(width)
                size //= 2
        self.downs = nn.ModuleList(downs)
        self.mid = nn.ModuleList(
            Sr3Block(width, width, shape, attends=attends) for attends in (True, False)
        )
        ups: list[nn.Module] = []
        for number in reversed(range(len(shape.widths))):
            for _ in range(shape.blocks + 1):
                block = Sr3Block(
                    width + left.pop(), shape.widths[number], shape, attends=size in shape.attended
                )
                ups.append(block)
                width = shape.widths[number]
            if number:
                ups.append(Sr3Resize(width, grows=True))
                size *= 2
        self.ups = nn.ModuleList(ups)
        self.final_conv = Sr3Convolution(width, 3, shape.groups)

    def forward(self, pictures: Tensor, root_gamma: Tensor) -> Tensor:
        """The noise, `[B, 3, H, W]`.

        Args:
            pictures: `[B, 3, H, W]` noisy, or the enlarged ones and then the noisy ones,
                `[B, 6, H, W]`.
            root_gamma: `[B]`, the signal scale, 0 to 1.
        """
        level = self.noise_level_mlp(root_gamma)
        features, kept = pictures, []
        for layer in self.downs:
            features = layer(features, level)
            kept.append(features)
        for layer in self.mid:
            features = layer(features, level)
        for layer in self.ups:
            if isinstance(layer, Sr3Block):
                features = torch.cat([features, kept.pop()], dim=1)
            features = layer(features, level)
        found: Tensor = self.final_conv(features)
        return found
