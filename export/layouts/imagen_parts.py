"""Parts of imagen-pytorch's U-Nets, with the names that their state dicts have.

Norms, attention over positions and texts, residual blocks. Knows tensors; not the network that is
made of them, nor files.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYER_EPSILON = 1e-5
LOGIT_SCALE = 8.0
"""What cosines of queries and keys are multiplied by."""
CROSS_HEADS, CROSS_WIDTH = 8, 64
"""Of attention to texts in the middle, whatever the arguments say of other places."""


def unit(values: Tensor, axis: int = -1) -> Tensor:
    """Vectors along an axis, of length one."""
    return functional.normalize(values, dim=axis)


class GainNorm(nn.Module):
    """A layer norm without bias over the last axis, or over the channels of pictures."""

    def __init__(self, width: int) -> None:
        """A gain for each of `width` features."""
        super().__init__()
        self.g = nn.Parameter(torch.ones(width))

    def forward(self, values: Tensor) -> Tensor:
        """Of the same shape, `[..., width]`."""
        return functional.layer_norm(values, (len(self.g),), self.g, None, LAYER_EPSILON)


class ChannelLength(nn.Module):
    """Channels of a picture brought to one length at every pixel."""

    def __init__(self, width: int) -> None:
        """A gain for each channel."""
        super().__init__()
        self.length = math.sqrt(width)
        self.gamma = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """`[B, width, H, W]` of the same."""
        return unit(features, 1) * self.length * self.gamma


class LearnedSines(nn.Module):
    """A number beside its sines and cosines at learned frequencies."""

    def __init__(self, width: int) -> None:
        """`width / 2` frequencies."""
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(width // 2))

    def forward(self, values: Tensor) -> Tensor:
        """`[B, width + 1]` of `[B]`."""
        column = values[:, None]
        angles = column * self.weights[None] * 2 * math.pi
        return torch.cat([column, torch.sin(angles), torch.cos(angles)], dim=1)


class Unchanged(nn.Module):
    """Features as they are, whatever else is given."""

    def forward(self, features: Tensor, *_: Tensor) -> Tensor:
        """The first argument."""
        return features


def split_heads(values: Tensor, heads: int) -> Tensor:
    """`[B, N, heads * D]` as `[B, heads, N, D]`."""
    batch, length, width = values.shape
    return values.reshape(batch, length, heads, width // heads).transpose(1, 2)


def joined_heads(values: Tensor) -> Tensor:
    """`[B, heads, N, D]` as `[B, N, heads * D]`."""
    batch, heads, length, width = values.shape
    return values.transpose(1, 2).reshape(batch, length, heads * width)


def cosine_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`[B, heads, N, D]`: queries and keys are compared by their direction."""
    logits = query @ key.transpose(-2, -1) * LOGIT_SCALE
    return torch.softmax(logits, dim=-1) @ value


class PositionAttention(nn.Module):
    """Positions look at each other with one key for all heads, at nothing, and at a text."""

    def __init__(self, width: int, heads: int, head: int, text: int | None) -> None:
        """Attention over `width` features; `text` is the width of the texts, if it sees any."""
        super().__init__()
        self.heads = heads
        self.norm = GainNorm(width)
        self.null_kv = nn.Parameter(torch.zeros(2, head))
        self.to_q = nn.Linear(width, heads * head, bias=False)
        self.to_kv = nn.Linear(width, 2 * head, bias=False)
        self.q_scale, self.k_scale = (nn.Parameter(torch.ones(head)) for _ in range(2))
        self.to_context = None
        if text is not None:
            self.to_context = nn.Sequential(nn.LayerNorm(text), nn.Linear(text, 2 * head))
        self.to_out = nn.Sequential(nn.Linear(heads * head, width, bias=False), GainNorm(width))

    def forward(self, line: Tensor, text: Tensor | None = None) -> Tensor:
        """`[B, N, width]` of the same and, where it is seen, of `[B, M, text]`."""
        line = self.norm(line)
        nothing = self.null_kv.reshape(1, 1, -1).expand(line.shape[0], -1, -1)
        seen = [nothing, self.to_kv(line)]
        if self.to_context is not None and text is not None:
            seen.insert(0, self.to_context(text))
        key, value = torch.cat(seen, dim=1)[:, None].chunk(2, dim=-1)
        query = unit(split_heads(self.to_q(line), self.heads)) * self.q_scale
        found = cosine_attention(query, unit(key) * self.k_scale, value)
        result: Tensor = self.to_out(joined_heads(found))
        return result


class TextAttention(nn.Module):
    """Positions look at a text, and at nothing."""

    def __init__(self, width: int, text: int, heads: int, head: int) -> None:
        """Attention of `width` features to texts of another width."""
        super().__init__()
        self.heads = heads
        self.norm = GainNorm(width)
        self.null_kv = nn.Parameter(torch.zeros(2, head))
        self.to_q = nn.Linear(width, heads * head, bias=False)
        self.to_kv = nn.Linear(text, 2 * heads * head, bias=False)
        self.q_scale, self.k_scale = (nn.Parameter(torch.ones(head)) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(heads * head, width, bias=False), GainNorm(width))

    def forward(self, line: Tensor, text: Tensor) -> Tensor:
        """`[B, N, width]` of the same and of `[B, M, text]`."""
        query = split_heads(self.to_q(self.norm(line)), self.heads)
        parts = self.to_kv(text).chunk(2, dim=-1)
        key, value = (
            torch.cat(
                [nothing[None, None, None].expand(line.shape[0], self.heads, 1, -1),
                 split_heads(part, self.heads)], dim=2)
            for nothing, part in zip(self.null_kv, parts, strict=True)
        )  # fmt: skip
        found = cosine_attention(unit(query) * self.q_scale, unit(key) * self.k_scale, value)
        result: Tensor = self.to_out(joined_heads(found))
        return result


class LatentAttention(nn.Module):
    """A few latents look at a text and at themselves."""

    def __init__(self, width: int, heads: int, head: int) -> None:
        """Attention over `width` features."""
        super().__init__()
        self.heads = heads
        self.norm, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * head, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * head, bias=False)
        self.q_scale, self.k_scale = (nn.Parameter(torch.ones(head)) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(heads * head, width, bias=False), nn.LayerNorm(width))

    def forward(self, text: Tensor, latents: Tensor) -> Tensor:
        """`[B, K, width]` of texts `[B, M, width]` and of latents of the result's shape."""
        latents = self.norm_latents(latents)
        both = torch.cat([self.norm(text), latents], dim=1)
        query = split_heads(self.to_q(latents), self.heads)
        key, value = (split_heads(part, self.heads) for part in self.to_kv(both).chunk(2, dim=-1))
        found = cosine_attention(unit(query) * self.q_scale, unit(key) * self.k_scale, value)
        result: Tensor = self.to_out(joined_heads(found))
        return result


def widened(width: int, by: float) -> nn.Sequential:
    """Two products with a bend between, at `by` times the width."""
    inner = int(width * by)
    return nn.Sequential(
        GainNorm(width),
        nn.Linear(width, inner, bias=False),
        nn.GELU(),
        GainNorm(inner),
        nn.Linear(inner, width, bias=False),
    )


class TextPool(nn.Module):
    """A text of fixed length as a few latents."""

    LAYERS, MEANS, LONGEST, WIDER = 2, 4, 512, 4

    def __init__(self, width: int, heads: int, head: int, latents: int) -> None:
        """`latents` learned ones, and some made of the text's mean."""
        super().__init__()
        self.pos_emb = nn.Embedding(self.LONGEST, width)
        self.latents = nn.Parameter(torch.zeros(latents, width))
        self.to_latents_from_mean_pooled_seq = nn.Sequential(
            GainNorm(width), nn.Linear(width, width * self.MEANS)
        )
        self.layers = nn.ModuleList(
            nn.ModuleList([LatentAttention(width, heads, head), widened(width, self.WIDER)])
            for _ in range(self.LAYERS)
        )

    def forward(self, text: Tensor) -> Tensor:
        """`[B, MEANS + latents, width]` of `[B, M, width]`."""
        batch, length, width = text.shape
        placed = text + self.pos_emb.weight[None, :length]
        means = self.to_latents_from_mean_pooled_seq(text.mean(dim=1))
        learned = self.latents[None].expand(batch, -1, -1)
        latents = torch.cat([means.reshape(batch, self.MEANS, width), learned], dim=1)
        for layer in self.layers:
            attention, wide = layer.children()
            latents = attention(placed, latents) + latents
            latents = wide(latents) + latents
        return latents


class PositionLayers(nn.Module):
    """Attention over positions and products, a few times."""

    def __init__(
        self, width: int, depth: int, heads: tuple[int, int], by: float, text: int | None
    ) -> None:
        """`depth` of both; heads are their number and their width."""
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([PositionAttention(width, *heads, text), widened(width, by)])
            for _ in range(depth)
        )

    def forward(self, features: Tensor, text: Tensor | None = None) -> Tensor:
        """`[B, width, H, W]` of the same and of a text `[B, M, text]`."""
        batch, width, height, wide = features.shape
        line = features.reshape(batch, width, height * wide).transpose(1, 2)
        for layer in self.layers:
            attention, products = layer.children()
            line = attention(line, text) + line
            line = products(line) + line
        return line.transpose(1, 2).reshape(batch, width, height, wide)


class PictureGate(nn.Module):
    """Channels weighted by what the whole picture shows, at the places that matter."""

    def __init__(self, width: int) -> None:
        """A gate of `width` channels."""
        super().__init__()
        inner = max(3, width // 2)
        self.to_k = nn.Conv2d(width, 1, 1)
        self.net = nn.Sequential(
            nn.Conv2d(width, inner, 1), nn.SiLU(), nn.Conv2d(inner, width, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """`[B, width, 1, 1]`, 0 to 1, of `[B, width, H, W]`."""
        batch, width, height, wide = features.shape
        places = torch.softmax(self.to_k(features).reshape(batch, 1, height * wide), dim=-1)
        seen = features.reshape(batch, width, height * wide) @ places.transpose(1, 2)
        result: Tensor = self.net(seen[..., None])
        return result


class NormedConvolution(nn.Module):
    """A norm, a bend and a convolution; a time may modulate what is between."""

    def __init__(self, before: int, width: int) -> None:
        """From `before` channels to `width`."""
        super().__init__()
        self.norm = ChannelLength(before)
        self.project = nn.Conv2d(before, width, 3, padding=1)

    def forward(self, features: Tensor, modulation: Tensor | None = None) -> Tensor:
        """`[B, width, H, W]`; modulation is `[B, 2 * before, 1, 1]`: scales, then shifts."""
        inner = self.norm(features)
        if modulation is not None:
            scale, shift = modulation.chunk(2, dim=1)
            inner = inner * (scale + 1) + shift
        result: Tensor = self.project(functional.silu(inner))
        return result


class TimedResidual(nn.Module):
    """Two convolutions with a look at the text between, a gate behind, and a way past them."""

    def __init__(
        self,
        widths: tuple[int, int],
        time: int,
        *,
        text: int | None = None,
        heads: tuple[int, int] = (CROSS_HEADS, CROSS_WIDTH),
        gated: bool = False,
    ) -> None:
        """From the first of the widths to the second."""
        super().__init__()
        before, width = widths
        self.time_mlp = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * width))
        self.cross_attn = None if text is None else TextAttention(width, text, *heads)
        self.block1 = NormedConvolution(before, width)
        self.block2 = NormedConvolution(width, width)
        self.gca = PictureGate(width) if gated else None
        self.res_conv = nn.Identity() if before == width else nn.Conv2d(before, width, 1)

    def forward(self, features: Tensor, time: Tensor, text: Tensor | None = None) -> Tensor:
        """`[B, width, H, W]` of `[B, before, H, W]`, `[B, time]` and a text `[B, M, text]`."""
        inner = self.block1(features)
        if self.cross_attn is not None and text is not None:
            batch, width, height, wide = inner.shape
            line = inner.reshape(batch, width, height * wide).transpose(1, 2)
            line = self.cross_attn(line, text) + line
            inner = line.transpose(1, 2).reshape(batch, width, height, wide)
        inner = self.block2(inner, self.time_mlp(time)[:, :, None, None])
        if self.gca is not None:
            inner = inner * self.gca(inner)
        kept: Tensor = self.res_conv(features)
        return inner + kept


class SeveralKernels(nn.Module):
    """Convolutions of several sizes side by side."""

    def __init__(self, before: int, width: int, kernels: tuple[int, ...]) -> None:
        """Smaller kernels make more of the `width` channels: half, a quarter, the rest."""
        super().__init__()
        kernels = tuple(sorted(kernels))
        widths = [int(width / 2**number) for number in range(1, len(kernels))]
        widths.append(width - sum(widths))
        self.convs = nn.ModuleList(
            nn.Conv2d(before, part, kernel, padding=kernel // 2)
            for kernel, part in zip(kernels, widths, strict=True)
        )

    def forward(self, features: Tensor) -> Tensor:
        """`[B, width, H, W]` of `[B, before, H, W]`."""
        return torch.cat([convolution(features) for convolution in self.convs], dim=1)
