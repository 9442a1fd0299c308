"""The body of a subscale pixel network: an embedder of earlier slices and one decoder for all.

A picture is slices of every `cell`-th pixel both ways. The embedder reads the slices before the
current one; the decoder reads the current slice through layers that see earlier pixels alone, in
raster order, so that training asks for a whole slice in one run. With two planes the low bits are
made after the top bits of the whole picture. Every number is an integer or a multiple of 2^-10, as
in `stages.networks.exact`. Reads no text. Knows no order but its own.

References:
    Menick and Kalchbrenner 2018 (arXiv 1812.01608): slices, size and depth upscaling.
    Oord et al. 2016 (arXiv 1601.06759): masked layers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.networks.exact import STREAM, ExactLayer, ExactTable
from stages.networks.pixel_network import (
    CENTRE,
    CHANNELS,
    PRESENT,
    SMALL_GAIN,
    PixelHeads,
    PixelNetConfig,
    PixelNetwork,
)

BEFORE = ((0, -1), (0, -2), (-1, -1), (-1, 0), (-1, 1), (-2, 0))
"""Neighbours that come before a pixel, as (rows down, columns to the right)."""
SO_FAR = (*BEFORE, (0, 0))
"""The same and the pixel itself: for layers whose input has left the pixel out already."""


def moved(x: Tensor, offsets: tuple[tuple[int, int], ...]) -> Tensor:
    """What stands at each pixel's neighbours, zeros outside: `[B, C, h, w]` to `[B, K C, h, w]`.

    A 1x1 layer of it is a masked convolution whose weights need no mask.
    """
    height, width = x.shape[2:]
    wide = functional.pad(x, (2, 2, 2, 0))
    parts = [wide[:, :, 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] for dy, dx in offsets]
    return torch.cat(parts, 1)


class EmbedderBlock(nn.Module):
    """Two 3x3 convolutions and what they are added to."""

    def __init__(self, config: PixelNetConfig) -> None:
        super().__init__()
        width, signed = config.width, config.signed()
        self.first = ExactLayer(width, width, config.positive, kernel=3)
        self.second = ExactLayer(width, width, signed, kernel=3, added=STREAM, gain=SMALL_GAIN)

    def forward(self, h: Tensor) -> Tensor:
        """`[B, C, h, w] -> [B, C, h, w]`."""
        changed: Tensor = self.second(self.first(h), h)
        return changed


class RasterBlock(nn.Module):
    """A masked convolution, a layer, and what they are added to."""

    def __init__(self, config: PixelNetConfig) -> None:
        super().__init__()
        width, signed = config.width, config.signed()
        self.first = ExactLayer(width * len(SO_FAR), width, config.positive, kernel=1)
        self.second = ExactLayer(width, width, signed, kernel=1, added=STREAM, gain=SMALL_GAIN)

    def forward(self, h: Tensor) -> Tensor:
        """`[B, C, h, w] -> [B, C, h, w]`."""
        changed: Tensor = self.second(self.first(moved(h, SO_FAR)), h)
        return changed


class SubscaleBody(nn.Module):
    """One pass, or in training all passes of one slice. See `forward`."""

    def __init__(self, config: PixelNetConfig) -> None:
        """A body.

        Args:
            config: its `cell` is the period of the slices; one plane, or two.
        """
        super().__init__()
        self.config = config
        width, slices = config.width, config.cell**2
        shown = (CHANNELS + 1) * slices
        if len(config.planes) > 1:
            shown += CHANNELS * slices
        self.slice = ExactTable(slices, width, exact=config.exact)
        self.plane = ExactTable(len(config.planes), width, exact=config.exact)
        signed = config.signed()
        self.embed = ExactLayer(
            shown, width, signed, largest=CENTRE, kernel=3, added=2 * STREAM
        )  # fmt: skip
        self.embedder = nn.ModuleList(EmbedderBlock(config) for _ in range(config.blocks))
        self.first = ExactLayer(
            (CHANNELS + 1) * len(BEFORE), width, signed, largest=CENTRE, kernel=1, added=STREAM
        )
        self.decoder = nn.ModuleList(RasterBlock(config) for _ in range(config.blocks))
        self.out = ExactLayer(width, config.features, signed, kernel=1)

    def forward(  # noqa: PLR0913  the inputs of the family's graphs
        self,
        canvas: Tensor,
        known: Tensor,
        pass_index: Tensor,
        targets: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        aug_level: Tensor | None = None,
        low_res: Tensor | None = None,
    ) -> Tensor:
        """Features `[B, n, F]`, integers, of pixels of one slice.

        Args:
            canvas: `[B, 3, H, W]`, values 0 to 255; what comes after a target changes nothing.
            known: `[B, 1, H, W]`; not read: slice and raster say what is known.
            pass_index: `[B]` int64, any pass of the slice.
            targets: `[B, n]` int64, flat positions of pixels of that slice.
            context: not read, as are `context_mask` and `aug_level`.
            context_mask: `[B, L]`.
            aug_level: `[B]`.
            low_res: `[B, 3, h, w]`, the first slice, if it is given; the canvas has it too.
        """
        del known, context, context_mask, aug_level
        period, side = self.config.cell, self.config.resolution // self.config.cell
        slices = functional.pixel_unshuffle(canvas - CENTRE, period).unflatten(1, (CHANNELS, -1))
        given = 0 if low_res is None else 1
        passes = (period**2 - given) * side * side
        plane = pass_index // passes
        number = pass_index % passes // (side * side) + given
        places = torch.arange(period**2, device=canvas.device)
        earlier = (places < number[:, None]).float()[:, None, :, None, None]
        flags = PRESENT * earlier[:, 0].expand(-1, -1, side, side)
        seen = [(slices * earlier).flatten(1, 2), flags]
        if len(self.config.planes) > 1:
            step = float(1 << 8 - self.config.planes[0])
            coarse = torch.floor((slices + CENTRE) / step) * step - CENTRE
            seen.append((coarse * plane.float()[:, None, None, None, None]).flatten(1, 2))
        rows = self.slice(number)[:, :, None, None], self.plane(plane)[:, :, None, None]
        h = self.embed(torch.cat(seen, 1), *rows)
        for block in self.embedder:
            h = block(h)
        own = (places == number[:, None]).float()[:, None, :, None, None]
        current = (slices * own).sum(2)
        inside = torch.full_like(current[:, :1], PRESENT)
        h = self.first(moved(torch.cat([current, inside], 1), BEFORE), h)
        for block in self.decoder:
            h = block(h)
        flat = self.out(h).flatten(2).transpose(1, 2)
        size = self.config.resolution
        inner = targets // size // period * side + targets % size // period
        return torch.gather(flat, 1, inner[:, :, None].expand(-1, -1, flat.shape[2]))


class SubscaleNetwork(nn.Module):
    """Body and heads of a subscale stage."""

    def __init__(self, config: PixelNetConfig) -> None:
        super().__init__()
        self.config = config
        self.body = SubscaleBody(config)
        self.heads = PixelHeads(config)


AnyPixelNetwork = PixelNetwork | SubscaleNetwork
"""Of a stage that makes its picture in passes."""
