"""The blocks of the Efficient U-Net, one class per figure.

They know feature maps, a conditioning vector and text tokens; not noise, images or training.

References:
    Saharia et al. 2022 (arXiv 2205.11487), figures A.27 to A.30 and appendix B.1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP_CHANNELS = 8
"""Channels that share one mean and variance; every width is a multiple of it."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What every block may look at.

    Attributes:
        vector: `[B, E]`, the time, augmentation level and pooled text as one vector.
        text: `[B, 1 + L, D]`, a learnt null token followed by the projected text tokens.
        bias: `[B, 1, 1, 1 + L]`, 0 for tokens that count and a large negative number for padding.
    """

    vector: Tensor
    text: Tensor
    bias: Tensor


def zero_init(layer: nn.Linear | nn.Conv2d) -> None:
    """Start a layer at zero, so that at first its block passes its input on."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def group_norm(channels: int) -> nn.GroupNorm:
    """The normalisation used everywhere: groups of `GROUP_CHANNELS` channels."""
    return nn.GroupNorm(channels // GROUP_CHANNELS, channels)


class CombineEmbs(nn.Module):
    """Turns the conditioning vector into one scale and one shift per channel."""

    def __init__(self, channels: int, vector_width: int) -> None:
        super().__init__()
        self.project = nn.Linear(vector_width, 2 * channels)
        zero_init(self.project)

    def forward(self, h: Tensor, conditions: Conditions) -> Tensor:
        """`h [B, C, H, W]` scaled and shifted per channel."""
        scale, shift = self.project(conditions.vector)[:, :, None, None].chunk(2, dim=1)
        return h * (1 + scale) + shift


class ResNetBlock(nn.Module):
    """GroupNorm-swish-conv, GroupNorm-CombineEmbs-swish-conv, plus a 1x1 conv (figure A.27)."""

    def __init__(self, channels_in: int, channels: int, vector_width: int) -> None:
        super().__init__()
        self.norm_in = group_norm(channels_in)
        self.conv_in = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm_out = group_norm(channels)
        self.combine = CombineEmbs(channels, vector_width)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels, 1)
        if channels_in == channels:
            nn.init.dirac_(self.skip.weight)
        zero_init(self.conv_out)

    def forward(self, h: Tensor, conditions: Conditions) -> Tensor:
        """`[B, C_in, H, W] -> [B, C, H, W]`."""
        r = self.conv_in(functional.silu(self.norm_in(h)))
        r = self.combine(self.norm_out(r), conditions)
        return self.skip(h) + self.conv_out(functional.silu(r))


class Attention(nn.Module):
    """Attention from the feature map to the text, and to itself when `over_image` is set.

    With `over_image`, text tokens are concatenated to the keys and values of self-attention
    (base and 64 -> 256); without it this is plain cross-attention (256 -> 1024).
    """

    def __init__(self, channels: int, text_width: int, heads: int, *, over_image: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.query = nn.Linear(channels, channels)
        self.image_kv = nn.Linear(channels, 2 * channels) if over_image else None
        self.text_kv = nn.Linear(text_width, 2 * channels)
        self.out = nn.Linear(channels, channels)
        # An untrained block passes its input on: deep networks start as shallow ones.
        zero_init(self.out)

    def split(self, x: Tensor) -> Tensor:
        """`[B, N, C] -> [B, heads, N, C / heads]`."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, h: Tensor, conditions: Conditions) -> Tensor:
        """`[B, C, H, W] -> [B, C, H, W]`, residual included."""
        height, width = h.shape[-2:]
        tokens = self.norm(h).flatten(2).transpose(1, 2)
        keys, values = self.text_kv(conditions.text).chunk(2, dim=-1)
        bias = conditions.bias
        if self.image_kv is not None:
            image_keys, image_values = self.image_kv(tokens).chunk(2, dim=-1)
            keys, values = torch.cat([keys, image_keys], 1), torch.cat([values, image_values], 1)
            # No position of the picture is padding: their bias is 0.
            bias = functional.pad(bias, (0, tokens.shape[1]))
        mixed = functional.scaled_dot_product_attention(
            self.split(self.query(tokens)),
            self.split(keys),
            self.split(values),
            attn_mask=bias.to(tokens.dtype),
        )
        mixed = self.out(mixed.transpose(1, 2).flatten(2))
        return h + mixed.transpose(1, 2).unflatten(2, (height, width))


class DBlock(nn.Module):
    """Strided convolution first, then the residual blocks, then attention (figure A.28)."""

    def __init__(
        self, channels_in: int, channels: int, vector_width: int, *, res_blocks: int
    ) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels_in, channels, 3, stride=2, padding=1)
        self.res = nn.ModuleList(
            ResNetBlock(channels, channels, vector_width) for _ in range(res_blocks)
        )
        self.attention: Attention | None = None

    def forward(self, h: Tensor, conditions: Conditions) -> Tensor:
        """`[B, C_in, H, W] -> [B, C, H / 2, W / 2]`."""
        h = self.down(h)
        for block in self.res:
            h = block(h, conditions)
        return h if self.attention is None else self.attention(h, conditions)


class UBlock(nn.Module):
    """Residual blocks, then attention, then the up-sampling convolution last (figure A.29)."""

    def __init__(
        self, channels_in: int, channels: int, channels_out: int, vector_width: int, res_blocks: int
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels] * (res_blocks - 1)
        self.res = nn.ModuleList(ResNetBlock(w, channels, vector_width) for w in widths)
        self.attention: Attention | None = None
        # A kernel as wide as its stride: no output is covered twice, so no checkerboard.
        self.up = nn.ConvTranspose2d(channels, channels_out, 2, stride=2)

    def forward(self, h: Tensor, conditions: Conditions) -> Tensor:
        """`[B, C_in, H, W] -> [B, C_out, 2 H, 2 W]`."""
        for block in self.res:
            h = block(h, conditions)
        if self.attention is not None:
            h = self.attention(h, conditions)
        return self.up(h)


class FourierTime(nn.Module):
    """A number in [0, 1] per sample as sines and cosines of 1000 times it (arXiv 1706.03762)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        rates = torch.exp(-math.log(10_000.0) * torch.arange(half, dtype=torch.float32) / half)
        self.register_buffer("rates", 1000.0 * rates, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """`[B] -> [B, width]`."""
        angles = t[:, None] * self.get_buffer("rates")[None, :]
        return torch.cat([angles.sin(), angles.cos()], dim=1)
