"""A U-Net of imagen-pytorch: words, times and noise levels at every scale of a picture.

Written after the layout of the state dict, whose names the modules have. Knows tensors and the
shape of the network; not files, schedules or samplers.

References:
    Saharia et al. 2022 (arXiv 2205.11487), appendix B, for the network; imagen-pytorch 2.1.0 for
    the names and for what it adds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.layouts.imagen_parts import (
    LearnedSines,
    PositionLayers,
    SeveralKernels,
    TextPool,
    TimedResidual,
    Unchanged,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagenLevel:
    """One scale of the network."""

    before: int
    """Channels of the scale above."""
    width: int
    blocks: int
    attends: bool
    depth: int
    """Layers of attention over positions."""
    reads: bool
    """Whether its first block looks at the text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagenShape:
    """What of the arguments decides the network."""

    width: int
    """`dim`."""
    first: int
    """Channels after the first convolution."""
    levels: tuple[ImagenLevel, ...]
    text: int
    """Width of what texts and times are shown as."""
    embedded: int | None
    """Width of the text encoder's embeddings; None without words."""
    enlarges: bool
    longest: int
    """Tokens of a text."""
    latents: int | None
    """Of a text; None where its tokens are seen themselves."""
    sines: int
    time_tokens: int
    heads: tuple[int, int]
    """How many, and how wide."""
    wider: float
    middle_depth: int
    """Layers of attention at the smallest scale; 0 for none."""
    kernels: tuple[int, ...]
    """Of the first convolutions side by side; empty where there is one alone."""
    first_kernel: int
    """Of that one."""
    halves_first: bool
    """`memory_efficient`."""
    keeps_first: bool
    """Whether what the first convolution makes is shown to the last."""
    gated: bool
    scaled_skips: bool
    last_block: bool
    last_kernel: int
    shuffles: bool
    """Whether pictures grow by pixels taken apart, rather than repeated."""

    @property
    def time(self) -> int:
        """Width of what a time is shown as."""
        return self.width * (8 if self.enlarges else 4)


class ImagenUNet(nn.Module):
    """The whole network."""

    def __init__(self, shape: ImagenShape) -> None:
        """An empty network of that shape."""
        super().__init__()
        self.shape = shape
        channels = 6 if shape.enlarges else 3
        self.init_conv: nn.Module = nn.Conv2d(
            channels, shape.first, shape.first_kernel, padding=shape.first_kernel // 2
        )
        if shape.kernels:
            self.init_conv = SeveralKernels(channels, shape.first, shape.kernels)
        self._make_conditions(shape)
        self.init_resnet_block = None
        if shape.halves_first:
            self.init_resnet_block = TimedResidual(
                (shape.first, shape.first), shape.time, heads=shape.heads, gated=shape.gated
            )
        self.downs = nn.ModuleList(
            way_in(shape, level, is_last=level is shape.levels[-1]) for level in shape.levels
        )
        deepest = shape.levels[-1].width
        self.mid_block1, self.mid_block2 = (
            TimedResidual((deepest, deepest), shape.time, text=shape.text) for _ in range(2)
        )
        self.mid_attn = None
        if shape.middle_depth:
            self.mid_attn = PositionLayers(deepest, shape.middle_depth, shape.heads, 2, None)
        self.ups = nn.ModuleList(
            way_out(shape, level, is_last=level is shape.levels[0])
            for level in reversed(shape.levels)
        )
        last = 2 * shape.width if shape.keeps_first else shape.width
        self.final_res_block = None
        if shape.last_block:
            self.final_res_block = TimedResidual((last, shape.width), shape.time, gated=True)
            last = shape.width
        self.final_conv = nn.Conv2d(last + (3 if shape.enlarges else 0), 3, shape.last_kernel,
                                    padding=shape.last_kernel // 2)  # fmt: skip

    def _make_conditions(self, shape: ImagenShape) -> None:
        """What makes of times, levels and words the vector and the tokens that blocks see."""
        tokens = shape.text * shape.time_tokens
        self.to_time_hiddens = sines_of(shape)
        self.to_time_cond = nn.Sequential(nn.Linear(shape.time, shape.time))
        self.to_time_tokens = nn.Sequential(nn.Linear(shape.time, tokens))
        if shape.enlarges:
            self.to_lowres_time_hiddens = sines_of(shape)
            self.to_lowres_time_cond = nn.Sequential(nn.Linear(shape.time, shape.time))
            self.to_lowres_time_tokens = nn.Sequential(nn.Linear(shape.time, tokens))
        self.norm_cond = nn.LayerNorm(shape.text)
        self.attn_pool = None
        if shape.latents is not None:
            self.attn_pool = TextPool(shape.text, *shape.heads, shape.latents)
        self.null_text_embed = nn.Parameter(torch.zeros(1, shape.longest, shape.text))
        self.null_text_hidden = nn.Parameter(torch.zeros(1, shape.time))
        if shape.embedded is not None:
            self.text_to_cond = nn.Linear(shape.embedded, shape.text)
            self.to_text_non_attn_cond = nn.Sequential(
                nn.LayerNorm(shape.text),
                nn.Linear(shape.text, shape.time),
                nn.SiLU(),
                nn.Linear(shape.time, shape.time),
            )

    def forward(
        self,
        pictures: Tensor,
        log_snr: Tensor,
        words: tuple[Tensor, Tensor] | None,
        shown: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """The prediction, `[B, 3, H, W]`.

        Args:
            pictures: `[B, 3, H, W]`, noisy.
            log_snr: `[B]`, of their times.
            words: embeddings `[B, L, D]` and which are there, `[B, L]`; all 0 asks without words.
            shown: enlarged pictures `[B, 3, H, W]` and the log-SNR of their noise, `[B]`.
        """
        time, tokens = self._conditions(log_snr, words, shown)
        features = pictures if shown is None else torch.cat([pictures, shown[0]], dim=1)
        features = first = self.init_conv(features)
        if self.init_resnet_block is not None:
            features = self.init_resnet_block(features, time)
        left: list[Tensor] = []
        for level in self.downs:
            before, block, blocks, attention, after = parts_of(level)
            features = block(before(features), time, tokens)
            for other in blocks.children():
                features = other(features, time)
                left.append(features)
            features = attention(features, tokens)
            left.append(features)
            features = after(features)
        features = self.mid_block1(features, time, tokens)
        if self.mid_attn is not None:
            features = self.mid_attn(features)
        features = self.mid_block2(features, time, tokens)
        scale = 2**-0.5 if self.shape.scaled_skips else 1.0
        for level in self.ups:
            block, blocks, attention, larger = parts_of(level)
            features = block(torch.cat([features, left.pop() * scale], dim=1), time, tokens)
            for other in blocks.children():
                features = other(torch.cat([features, left.pop() * scale], dim=1), time)
            features = larger(attention(features, tokens))
        if self.shape.keeps_first:
            features = torch.cat([features, first], dim=1)
        if self.final_res_block is not None:
            features = self.final_res_block(features, time)
        if shown is not None:
            features = torch.cat([features, shown[0]], dim=1)
        found: Tensor = self.final_conv(features)
        return found

    def _conditions(
        self,
        log_snr: Tensor,
        words: tuple[Tensor, Tensor] | None,
        shown: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """The vector `[B, time]` and the tokens `[B, M, text]` that blocks see."""
        batch = log_snr.shape[0]
        hidden = self.to_time_hiddens(log_snr)
        time = self.to_time_cond(hidden)
        tokens = [self.to_time_tokens(hidden).reshape(batch, -1, self.shape.text)]
        if shown is not None:
            hidden = self.to_lowres_time_hiddens(shown[1])
            time = time + self.to_lowres_time_cond(hidden)
            tokens.append(self.to_lowres_time_tokens(hidden).reshape(batch, -1, self.shape.text))
        if words is not None:
            text, there = self._text(*words)
            tokens.append(text)
            pooled = self.to_text_non_attn_cond(text.mean(dim=1))
            time = time + torch.where(there[:, None] > 0, pooled, self.null_text_hidden)
        return time, self.norm_cond(torch.cat(tokens, dim=1))

    def _text(self, embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """A text `[B, M, text]` with what stands for no word in its gaps; whether there is any."""
        # Rows are put into their places by a product with ones and zeros: it is exact, and holds
        # for texts of any length without a branch on it.
        longest, length = self.shape.longest, embeddings.shape[1]
        places = torch.arange(longest)[:, None] == torch.arange(length)[None]
        placed = places.to(embeddings.dtype)
        text = placed @ self.text_to_cond(embeddings)
        there = (placed @ mask[:, :, None]) > 0
        text = torch.where(there, text, self.null_text_embed)
        if self.attn_pool is not None:
            text = self.attn_pool(text)
        return text, mask.amax(dim=1)


def parts_of(level: nn.Module) -> tuple[nn.Module, ...]:
    """The parts of one scale, in the order of the file."""
    return tuple(level.children())


def sines_of(shape: ImagenShape) -> nn.Sequential:
    """A number as a vector of the width that times have."""
    return nn.Sequential(
        LearnedSines(shape.sines), nn.Linear(shape.sines + 1, shape.time), nn.SiLU()
    )


def halving(before: int, width: int) -> nn.Module:
    """What halves pictures: four pixels made the channels of one."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * before, width, 1))


class SideBySide(nn.Module):
    """Two convolutions added."""

    def __init__(self, before: int, width: int) -> None:
        """One looks around, one does not."""
        super().__init__()
        self.fns = nn.ModuleList(
            [nn.Conv2d(before, width, 3, padding=1), nn.Conv2d(before, width, 1)]
        )

    def forward(self, features: Tensor) -> Tensor:
        """`[B, width, H, W]` of `[B, before, H, W]`."""
        around, alone = self.fns
        found: Tensor = around(features) + alone(features)
        return found


class Growing(nn.Module):
    """Pictures doubled: four pixels made of the channels of one."""

    def __init__(self, before: int, width: int) -> None:
        """From `before` channels to `width`."""
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(before, 4 * width, 1), nn.SiLU(), nn.PixelShuffle(2))

    def forward(self, features: Tensor) -> Tensor:
        """`[B, width, 2 H, 2 W]` of `[B, before, H, W]`."""
        found: Tensor = self.net(features)
        return found


class Repeating(nn.Module):
    """Pictures doubled: every pixel repeated, and a convolution."""

    def __init__(self, before: int, width: int) -> None:
        """From `before` channels to `width`."""
        super().__init__()
        self.add_module("1", nn.Conv2d(before, width, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        """`[B, width, 2 H, 2 W]` of `[B, before, H, W]`."""
        large = functional.interpolate(features, scale_factor=2.0, mode="nearest")
        found: Tensor = self.get_submodule("1")(large)
        return found


def attention_of(shape: ImagenShape, level: ImagenLevel, width: int) -> nn.Module:
    """A scale's attention over positions."""
    if not level.attends:
        return Unchanged()
    return PositionLayers(width, level.depth, shape.heads, shape.wider, shape.text)


def way_in(shape: ImagenShape, level: ImagenLevel, *, is_last: bool) -> nn.ModuleList:
    """One scale on the way to small pictures: halving, blocks, attention, halving."""
    width = level.width if shape.halves_first else level.before
    before: nn.Module = Unchanged()
    after: nn.Module = Unchanged()
    if shape.halves_first:
        before = halving(level.before, level.width)
    else:
        after = (
            SideBySide(level.before, level.width) if is_last else halving(level.before, level.width)
        )
    text = shape.text if level.reads else None
    return nn.ModuleList(
        [
            before,
            TimedResidual((width, width), shape.time, text=text, heads=shape.heads),
            nn.ModuleList(
                TimedResidual((width, width), shape.time, gated=shape.gated)
                for _ in range(level.blocks)
            ),
            attention_of(shape, level, width),
            after,
        ]
    )


def way_out(shape: ImagenShape, level: ImagenLevel, *, is_last: bool) -> nn.ModuleList:
    """One scale on the way to large pictures: blocks, attention, doubling."""
    left = level.width if shape.halves_first else level.before
    text = shape.text if level.reads else None
    larger: nn.Module = Unchanged()
    if shape.halves_first or not is_last:
        larger = (Growing if shape.shuffles else Repeating)(level.width, level.before)
    return nn.ModuleList(
        [
            TimedResidual((level.width + left, level.width), shape.time, text=text,
                          heads=shape.heads),
            nn.ModuleList(
                TimedResidual((level.width + left, level.width), shape.time, gated=shape.gated)
                for _ in range(level.blocks)
            ),
            attention_of(shape, level, level.width),
            larger,
        ]
    )  # fmt: skip
