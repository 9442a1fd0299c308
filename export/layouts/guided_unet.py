"""The U-Net of guided-diffusion checkpoints: class-conditional, or beside an enlarged picture.

Written after the layout of the state dict, whose names the modules have; whoever has the weights
has this network. Knows tensors and the shape of the network; not files, schedules or samplers.

References:
    Dhariwal and Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis" (arXiv 2105.05233),
    appendix A, and Nichol and Dhariwal 2021 (arXiv 2102.09672), appendix A.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 32
"""Of every group norm: widths are multiples of it."""
LONGEST_PERIOD = 10_000
"""Of the sines that a time is shown as, in training steps."""

Resize = Literal["", "up", "down"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedShape:
    """What of the arguments decides the network."""

    in_channels: int
    """3, or 6 with an enlarged picture."""
    out_channels: int
    """3, or 6 with a learned variance."""
    width: int
    """Of the first level."""
    widths: tuple[int, ...]
    """Of every level, the largest pictures first."""
    blocks: int
    """Residual blocks of each level on the way down; one more on the way up."""
    attended: frozenset[int]
    """How many times smaller pictures are where positions look at each other."""
    heads: int
    """Of attention on the way down and in the middle."""
    heads_up: int
    """Of attention on the way up."""
    head_width: int | None
    """Width of a head in the place of their number."""
    scale_shift: bool
    """Whether a time scales and shifts features, rather than being added."""
    resizing_blocks: bool
    """Whether residual blocks halve and double pictures, rather than convolutions."""
    parts_first: bool
    """Whether queries, keys and values lie apart before heads do."""
    classes: int | None
    """Rows of the table of classes; None of a network without."""


def group_norm(width: int) -> nn.GroupNorm:
    """The norm of all blocks."""
    return nn.GroupNorm(GROUPS, width)


def resized(features: Tensor, resize: Resize) -> Tensor:
    """`[B, C, H, W]` doubled by repeating pixels, halved by averaging them, or as they are."""
    if resize == "up":
        return functional.interpolate(features, scale_factor=2.0, mode="nearest")
    return functional.avg_pool2d(features, 2) if resize == "down" else features


class GuidedResidual(nn.Module):
    """Two convolutions that a time modulates, beside a way past them."""

    def __init__(self, before: int, width: int, shape: GuidedShape, resize: Resize = "") -> None:
        """A block from `before` channels to `width`."""
        super().__init__()
        self.resize: Resize = resize
        self.scale_shift = shape.scale_shift
        modulated = 2 * width if shape.scale_shift else width
        self.in_layers = nn.Sequential(
            group_norm(before), nn.SiLU(), nn.Conv2d(before, width, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * shape.width, modulated))
        # Training drops features out in the third place; nothing of it is left here but the place.
        self.out_layers = nn.Sequential(
            group_norm(width), nn.SiLU(), nn.Identity(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if before == width else nn.Conv2d(before, width, 1)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """`[B, width, H, W]`, halved or doubled, of `[B, before, H, W]` and `[B, 4 C]`."""
        inner = resized(self.in_layers[1](self.in_layers[0](features)), self.resize)
        inner = self.in_layers[2](inner)
        modulation = self.emb_layers(time)[:, :, None, None]
        if self.scale_shift:
            scale, shift = modulation.chunk(2, dim=1)
            inner = self.out_layers[0](inner) * (1 + scale) + shift
        else:
            inner = self.out_layers[0](inner + modulation)
        inner = self.out_layers[3](self.out_layers[1](inner))
        kept: Tensor = self.skip_connection(resized(features, self.resize))
        return kept + inner


class GuidedAttention(nn.Module):
    """Every position looks at every other one."""

    def __init__(self, width: int, heads: int, shape: GuidedShape) -> None:
        """Attention over `width` channels."""
        super().__init__()
        self.heads = heads if shape.head_width is None else width // shape.head_width
        self.parts_first = shape.parts_first
        self.norm = group_norm(width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """`[B, C, H, W]` of the same; the time says nothing here."""
        del time
        batch, width, height, wide = features.shape
        line = features.reshape(batch, width, height * wide)
        parts = self.qkv(self.norm(line))
        if self.parts_first:
            parts = parts.reshape(batch, 3, self.heads, width // self.heads, height * wide)
            parts = parts.transpose(1, 2)
        else:
            parts = parts.reshape(batch, self.heads, 3, width // self.heads, height * wide)
        query, key, value = (part.transpose(2, 3) for part in parts.unbind(2))
        seen = functional.scaled_dot_product_attention(query, key, value)
        seen = seen.transpose(2, 3).reshape(batch, width, height * wide)
        return (line + self.proj_out(seen)).reshape(batch, width, height, wide)


class GuidedResize(nn.Module):
    """Pictures halved or doubled by a convolution, whose name in the file tells which."""

    def __init__(self, width: int, resize: Literal["up", "down"]) -> None:
        """A convolution of `width` channels."""
        super().__init__()
        if resize == "up":
            self.conv = nn.Conv2d(width, width, 3, padding=1)
        else:
            self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.resize: Literal["up", "down"] = resize

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """`[B, C, H, W]` halved or doubled."""
        del time
        if self.resize == "up":
            enlarged: Tensor = self.conv(resized(features, "up"))
            return enlarged
        halved: Tensor = self.op(features)
        return halved


class GuidedEntry(nn.Conv2d):
    """The first convolution, which no time reaches."""

    def forward(self, features: Tensor, time: Tensor | None = None) -> Tensor:
        """`[B, width, H, W]` of `[B, 3 or 6, H, W]`."""
        del time
        return super().forward(features)


class GuidedUNet(nn.Module):
    """The whole network, from pictures and training steps to what the file's last layer says."""

    def __init__(self, shape: GuidedShape) -> None:
        """An empty network of that shape."""
        super().__init__()
        self.width = shape.width
        inner = 4 * shape.width
        self.time_embed = nn.Sequential(
            nn.Linear(shape.width, inner), nn.SiLU(), nn.Linear(inner, inner)
        )
        if shape.classes is not None:
            self.label_emb = nn.Embedding(shape.classes, inner)
        self.input_blocks, left = way_down(shape)
        deepest = shape.widths[-1]
        self.middle_block = nn.ModuleList(
            [
                GuidedResidual(deepest, deepest, shape),
                GuidedAttention(deepest, shape.heads, shape),
                GuidedResidual(deepest, deepest, shape),
            ]
        )
        self.output_blocks = way_up(shape, left)
        self.out = nn.Sequential(
            group_norm(shape.widths[0]),
            nn.SiLU(),
            nn.Conv2d(shape.widths[0], shape.out_channels, 3, padding=1),
        )

    def forward(self, pictures: Tensor, steps: Tensor, chosen: Tensor | None = None) -> Tensor:
        """`[B, out, H, W]`.

        Args:
            pictures: `[B, in, H, W]`.
            steps: `[B]`, training steps, counted from 0.
            chosen: `[B, classes]`, 1 at the class of each row and 0 elsewhere.
        """
        time = self.time_embed(sines(steps, self.width))
        if chosen is not None:
            time = time + chosen @ self.label_emb.weight
        features, kept = pictures, []
        for block in self.input_blocks:
            features = through(block, features, time)
            kept.append(features)
        features = through(self.middle_block, features, time)
        for block in self.output_blocks:
            features = through(block, torch.cat([features, kept.pop()], dim=1), time)
        found: Tensor = self.out(features)
        return found


def way_down(shape: GuidedShape) -> tuple[nn.ModuleList, list[int]]:
    """The blocks from large pictures to small ones, and the widths that they leave behind."""
    width = shape.widths[0]
    blocks = [nn.ModuleList([GuidedEntry(shape.in_channels, width, 3, padding=1)])]
    left, smaller = [width], 1
    for level, wanted in enumerate(shape.widths):
        for _ in range(shape.blocks):
            layers: list[nn.Module] = [GuidedResidual(width, wanted, shape)]
            width = wanted
            if smaller in shape.attended:
                layers.append(GuidedAttention(width, shape.heads, shape))
            blocks.append(nn.ModuleList(layers))
            left.append(width)
        if level + 1 < len(shape.widths):
            blocks.append(nn.ModuleList([resizing(width, shape, "down")]))
            left.append(width)
            smaller *= 2
    return nn.ModuleList(blocks), left


def way_up(shape: GuidedShape, left: list[int]) -> nn.ModuleList:
    """The blocks from small pictures to large ones, each beside what was left on the way down."""
    left = list(left)
    width, smaller = shape.widths[-1], 2 ** (len(shape.widths) - 1)
    blocks = []
    for level in reversed(range(len(shape.widths))):
        for number in range(shape.blocks + 1):
            layers: list[nn.Module] = [
                GuidedResidual(width + left.pop(), shape.widths[level], shape)
            ]
            width = shape.widths[level]
            if smaller in shape.attended:
                layers.append(GuidedAttention(width, shape.heads_up, shape))
            if level and number == shape.blocks:
                layers.append(resizing(width, shape, "up"))
                smaller //= 2
            blocks.append(nn.ModuleList(layers))
    return nn.ModuleList(blocks)


def resizing(width: int, shape: GuidedShape, resize: Literal["up", "down"]) -> nn.Module:
    """What brings pictures to the next level."""
    if shape.resizing_blocks:
        return GuidedResidual(width, width, shape, resize)
    return GuidedResize(width, resize)


def through(layers: nn.Module, features: Tensor, time: Tensor) -> Tensor:
    """`[B, C, H, W]` through one layer after another."""
    for layer in layers.children():
        features = layer(features, time)
    return features


def sines(steps: Tensor, width: int) -> Tensor:
    """Training steps `[B]` as cosines and sines of falling frequency, `[B, width]`."""
    half = width // 2
    places = torch.arange(half, dtype=torch.float32)
    angles = steps[:, None] * torch.exp(-math.log(LONGEST_PERIOD) / half * places)[None]
    found = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
    return functional.pad(found, (0, width % 2))
