"""The Efficient U-Net: one network for the base and both super-resolution stages.

It maps a noisy image, its time and its conditioning to a prediction. It does not know what the
prediction stands for (epsilon, v, x0), how noise is added, or how it is trained.

References:
    Saharia et al. 2022 (arXiv 2205.11487), figure A.30 and appendix B.1: parameters moved to the
    low resolutions, skip connections scaled by 1/sqrt(2), the strided convolution before a
    DBlock's residual blocks, the up-sampling convolution after a UBlock's.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade.diffusion.schedule import ScheduleKind
from stages.networks.blocks import (
    Attention,
    Conditions,
    DBlock,
    FourierTime,
    ResNetBlock,
    UBlock,
    group_norm,
    zero_init,
)
from stages.networks.preconditioning import precondition, stretch_balance

TIME_FEATURES = 128
GUIDANCE_RANGE = 10.0
"""Guidance weights from 0 to this are told apart as times from 0 to 1 are."""
MASKED = -1e4
"""Attention bias of padding: far below any logit, and still finite in half precision."""

AttentionKind = Literal["none", "self", "cross"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockConfig:
    """One level of the U-Net: a DBlock on the way down and a UBlock on the way up."""

    channels: int
    res_blocks: int
    attention: AttentionKind = "none"
    """`self`: text joined to the keys and values of self-attention. `cross`: text alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetConfig:
    """Widths and depths of one Efficient U-Net."""

    stem_channels: int
    blocks: tuple[BlockConfig, ...]
    """The highest resolution first; each level halves the resolution."""
    context_width: int = 384
    text_width: int = 192
    """Width of the projected text tokens."""
    vector_width: int = 256
    """Width of the combined conditioning vector."""
    head_channels: int = 32
    out_res_blocks: int = 0
    """Residual blocks at full resolution, after the last UBlock."""
    upscales: bool = False
    """True for super-resolution: the network also takes `low_res` and `aug_level`."""
    residual_std: float = 1.0
    """Super-resolution: standard deviation of the true picture minus the enlarged one."""
    schedule: ScheduleKind = "cosine"
    """What `t` means on the straight path of super-resolution, and to a stretch."""
    stretch: float = 1.0
    """Factor of the estimate of the clean picture, 1 in training; see `stages.reference`."""
    patch: int = 1
    """Pixels per side that the stem gathers into one position and the output spreads again: at 4
    every level works at a quarter of the width and height, where channels are many enough to keep a
    processor busy."""
    gate: bool = False
    """Super-resolution: one weight per pixel passes the noise by the network; wanted with patches,
    where noise alone would fill the channels."""
    guided: bool = False
    """True for a student of guidance: the network also takes the weight, `guidance`."""

    def with_guidance(self) -> "UNetConfig":
        """The same network with the guidance weight as a further input."""
        return replace(self, guided=True)

    @property
    def level_count(self) -> int:
        """Numbers per sample that the conditioning vector is made of."""
        return 1 + self.upscales + self.guided


class EfficientUNet(nn.Module):
    """The network of one stage. See `forward` for inputs and outputs."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        vector = config.vector_width
        images = 2 if config.upscales else 1
        self.time = FourierTime(TIME_FEATURES)
        self.time_in = nn.Linear(TIME_FEATURES * config.level_count, vector)
        self.time_out = nn.Linear(vector, vector)
        self.text_norm = nn.LayerNorm(config.context_width)
        self.text_in = nn.Linear(config.context_width, config.text_width)
        self.null_token = nn.Parameter(torch.zeros(1, 1, config.text_width))
        self.pooled_norm = nn.LayerNorm(config.text_width)
        self.pooled_in = nn.Linear(config.text_width, vector)
        self.pooled_out = nn.Linear(vector, vector)
        self.stem = stem(3 * images, config.stem_channels, config.patch)
        widths = [config.stem_channels, *(b.channels for b in config.blocks)]
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level, block in enumerate(config.blocks):
            outer, inner = widths[level], block.channels
            down = DBlock(outer, inner, vector, res_blocks=block.res_blocks)
            # The deepest UBlock follows its DBlock at once: there is no skip to join there.
            joined = inner if level == len(config.blocks) - 1 else 2 * inner
            up = UBlock(joined, inner, outer, vector, block.res_blocks)
            if block.attention != "none":
                for side in (down, up):
                    side.attention = Attention(
                        inner,
                        config.text_width,
                        max(1, inner // config.head_channels),
                        over_image=block.attention == "self",
                    )
            self.down.append(down)
            self.up.append(up)
        self.norm_out = group_norm(config.stem_channels)
        self.conv_out = nn.Conv2d(config.stem_channels, 3 * config.patch**2, 3, padding=1)
        zero_init(self.conv_out)
        # Where the enlarged picture is flat, all that differs from it is noise; at an edge it is
        # detail. One weight per pixel says so, and noise need not squeeze through the network.
        self.gate_out = (
            nn.Conv2d(config.stem_channels, config.patch**2, 3, padding=1) if config.gate else None
        )
        if self.gate_out is not None:
            zero_init(self.gate_out)
        self.out_res = nn.ModuleList(
            ResNetBlock(config.stem_channels, config.stem_channels, vector)
            for _ in range(config.out_res_blocks)
        )
        # Without a low-resolution picture the straight path is learnt: one weight of x_t per time.
        self.straight = None if config.upscales else nn.Linear(vector, 1)
        if self.straight is not None:
            zero_init(self.straight)

    def conditions(self, levels: list[Tensor], context: Tensor, context_mask: Tensor) -> Conditions:
        """Time, augmentation level, guidance and text as every block sees them.

        Args:
            levels: the numbers per sample, `[B]` each.
            context: `[B, L, D]` embeddings.
            context_mask: `[B, L]`, 1 for a real token.
        """
        text = self.text_in(self.text_norm(context))
        # Padding may hold anything finite: it is multiplied by 0 here and biased away in attention.
        weight = context_mask[:, :, None]
        present = context_mask.amax(dim=1)[:, None]
        pooled = (text * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        # No token counts: unconditional, and the learnt null token stands in.
        pooled = pooled * present + self.null_token[:, 0] * (1 - present)
        vector = self.time_out(
            functional.silu(self.time_in(torch.cat([self.time(t) for t in levels], 1)))
        )
        vector = vector + self.pooled_out(functional.silu(self.pooled_in(self.pooled_norm(pooled))))
        # Always among the keys: a softmax over padding alone would be even over what means nothing.
        null = self.null_token.expand(text.shape[0], -1, -1)
        bias = functional.pad((context_mask - 1.0) * -MASKED, (1, 0))
        return Conditions(
            functional.silu(vector), torch.cat([null, text], 1), bias[:, None, None, :]
        )

    def forward(  # noqa: PLR0913  the inputs of the exported graph
        self,
        x_t: Tensor,
        t: Tensor,
        context: Tensor,
        context_mask: Tensor,
        low_res: Tensor | None = None,
        aug_level: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """The prediction for one batch in which every sample has its own time and text.

        Args:
            x_t: `[B, 3, H, W]`, the noisy image; H and W divide by `patch` times 2 to the number
                of levels.
            t: `[B]`, times in [0, 1].
            context: `[B, L, context_width]`, text embeddings; padding may hold anything finite.
            context_mask: `[B, L]`, 1 for real tokens, 0 for padding; all 0 means unconditional.
            low_res: `[B, 3, H, W]`, super-resolution only: enlarged and augmented by the caller.
            aug_level: `[B]`, super-resolution only: how strongly `low_res` was augmented.
            guidance: `[B]`, students of guidance only: the weight `w` whose
                `uncond + w (cond - uncond)` the prediction is to equal.

        Returns:
            `[B, 3, H, W]`.
        """
        stretch = self.config.stretch
        balance = stretch_balance(self.config.schedule, stretch, t)
        levels = [t] if aug_level is None else [t, aug_level]
        if guidance is not None:
            # Last, so that a teacher's weights fit their places in a student's.
            levels.append(guidance / GUIDANCE_RANGE)
        if low_res is None or aug_level is None:
            v = self.network([x_t], levels, context, context_mask)
            return v if stretch == 1 else stretch * v + balance * x_t
        path = precondition(self.config.schedule, self.config.residual_std, t, aug_level)
        if stretch != 1:
            path = path.stretched(stretch, balance)
        clean = low_res * path.low_scale
        # What the network sees of x_t is its unit-variance distance from the enlarged picture.
        seen = (x_t - path.alpha * clean) * path.c_in
        out = self.network([seen, low_res], levels, context, context_mask)
        return path.from_x_t * x_t + path.from_low * clean + path.from_network * out

    def network(
        self, images: list[Tensor], levels: list[Tensor], context: Tensor, context_mask: Tensor
    ) -> Tensor:
        """Images and their levels through the U-Net itself: `[B, 3, H, W]`."""
        conditions = self.conditions(levels, context, context_mask)
        stem = h = self.stem(torch.cat(images, 1))
        skips = []
        for down in self.down:
            h = down(h, conditions)
            skips.append(h)
        # The deepest is `h` itself, see `joined` above.
        skips.pop()
        for level, up in zip(range(len(self.up) - 1, -1, -1), reversed(self.up), strict=True):
            h = up(h, conditions)
            if level:
                # 1/sqrt(2) of appendix B.1: two summands of unit variance keep it.
                h = torch.cat([h, skips.pop() * math.sqrt(0.5)], 1)
        h = h + stem * math.sqrt(0.5)
        for block in self.out_res:
            h = block(h, conditions)
        h = functional.silu(self.norm_out(h))
        out = self.spread(self.conv_out(h))
        if self.gate_out is not None:
            out = out + self.spread(self.gate_out(h)) * images[0]
        if self.straight is not None:
            out = out + self.straight(conditions.vector)[:, :, None, None] * images[0]
        return out

    def spread(self, h: Tensor) -> Tensor:
        """`[B, C patch^2, H, W] -> [B, C, patch H, patch W]`."""
        return functional.pixel_shuffle(h, self.config.patch) if self.config.patch > 1 else h


def stem(channels_in: int, channels: int, patch: int) -> nn.Conv2d:
    """The first convolution; with patches, one of twice their size, so that they overlap."""
    if patch == 1:
        return nn.Conv2d(channels_in, channels, 3, padding=1)
    return nn.Conv2d(channels_in, channels, 2 * patch, stride=patch, padding=patch // 2)
