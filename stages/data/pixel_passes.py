"""One pass of pictures as the network is asked it, and what belongs at its pixels.

Knows a stage's order and candidates; not how pictures are drawn or changed.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cascade.pixels.copying import Offsets
from cascade.pixels.order import group_map, targets_of
from stages.data.pixel_batch import PixelBatch
from stages.pixel_presets import PixelPreset


@dataclass(frozen=True, slots=True)
class PixelMaps:
    """Where things lie in a stage's pictures of one size.

    Attributes:
        order: group of every pixel, `[H, W]` int64; negative where the parent gives it.
        targets: flat positions of every group, `[G, n]`; short groups repeat their last.
        cells: flat position on the parent's grid of the cell of every pixel, `[H * W]`.
        near: flat positions of every pixel's candidates on the canvas, `[H * W, Kc]`; one past the
            last pixel for outside.
        above: flat positions of its candidates on the parent's grid, `[H * W, Kp]`, ditto.
    """

    order: Tensor
    targets: Tensor
    cells: Tensor
    near: Tensor
    above: Tensor


@lru_cache(maxsize=16)
def pixel_maps(preset: PixelPreset, height: int, width: int) -> PixelMaps:
    """The maps of a stage for pictures or crops of a size."""
    scheme, factor = preset.scheme, preset.factor
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = y.flatten(), x.flatten()
    small = height // factor, width // factor
    return PixelMaps(
        order=torch.from_numpy(group_map(scheme.order, height, width)),
        targets=torch.from_numpy(targets_of(scheme.order, height, width)),
        cells=(y // factor) * small[1] + x // factor,
        near=offset(y, x, scheme.canvas_copies, (height, width)),
        above=offset(y // factor, x // factor, scheme.parent_copies, small),
    )


def offset(y: Tensor, x: Tensor, offsets: Offsets, size: tuple[int, int]) -> Tensor:
    """Flat positions of neighbours, `[N, K]`; `height * width` where they are outside."""
    height, width = size
    found = torch.zeros(len(y), len(offsets), dtype=torch.int64)
    for k, (dy, dx) in enumerate(offsets):
        there_y, there_x = y + dy, x + dx
        inside = (there_y >= 0) & (there_y < height) & (there_x >= 0) & (there_x < width)
        found[:, k] = torch.where(inside, there_y * width + there_x, height * width)
    return found


def one_pass(
    preset: PixelPreset,
    pixels: Tensor,
    shown: Tensor,
    groups: Tensor,
    level: Tensor,
    text: tuple[Tensor, Tensor],
) -> PixelBatch:
    """One pass of every picture as a batch.

    Args:
        preset: the stage.
        pixels: `[B, 3, H, W]` uint8, the truth.
        shown: the same float32, falsified.
        groups: `[B]` int64, which pass.
        level: `[B]`, how much was falsified.
        text: `[B, L, D]` and `[B, L]`.
    """
    height, width = pixels.shape[2:]
    maps, factor = pixel_maps(preset, height, width), preset.factor
    known = maps.order[None] < groups[:, None, None]
    targets = maps.targets[groups]
    truth = pixels.flatten(2).transpose(1, 2).long()
    parent = truth.unflatten(1, (height, width))[:, ::factor, ::factor].flatten(1, 2)
    values = taken(truth, targets)
    is_first = preset.low_resolution is None
    candidates, usable = candidates_of(maps, truth, parent, known.flatten(1), targets)
    return PixelBatch(
        canvas=shown * known[:, None],
        known=known[:, None].float(),
        pass_index=groups,
        targets=targets,
        aug_level=level,
        low_res=None if is_first else shown[:, :, ::factor, ::factor].contiguous(),
        context=text[0],
        context_mask=text[1],
        values=values,
        guess=torch.zeros_like(values) if is_first else taken(parent, maps.cells[targets]),
        candidates=candidates,
        usable=usable,
    )


def candidates_of(
    maps: PixelMaps, truth: Tensor, parent: Tensor, known: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """What may be copied at every target: values `[B, n, K, 3]`, and whether they are known.

    Args:
        maps: of the stage.
        truth: `[B, H * W, 3]`.
        parent: `[B, h * w, 3]`.
        known: `[B, H * W]` bool.
        targets: `[B, n]`.
    """
    places = maps.above[targets], maps.near[targets]
    rows = parent, truth
    flags = torch.ones(parent.shape[:2], dtype=torch.bool), known
    values = [taken(with_outside(r), p) for r, p in zip(rows, places, strict=True)]
    usable = [taken(with_outside(f), p) for f, p in zip(flags, places, strict=True)]
    return torch.cat(values, 2), torch.cat(usable, 2)


def with_outside(rows: Tensor) -> Tensor:
    """One entry more per row, zero: what lies outside the picture."""
    return torch.cat([rows, torch.zeros_like(rows[:, :1])], 1)


def taken(rows: Tensor, places: Tensor) -> Tensor:
    """`rows[b, places[b, ...]]` for `[B, N, ...]` and `[B, ...]` int64."""
    return rows[torch.arange(len(rows)).view(-1, *[1] * (places.ndim - 1)), places]
