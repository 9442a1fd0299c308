"""One pass of pictures as the network is asked it, and what belongs at its pixels.

Knows a stage's order, planes and candidates; not how pictures are drawn or changed.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cascade.pixels.copying import Offsets
from cascade.pixels.order import distinct, group_map, targets_of
from cascade.pixels.planes import BITS, planes_of
from cascade.pixels.scheme import CHANNELS, PassScheme
from stages.data.pixel_batch import PixelBatch
from stages.pixel_presets import PixelPreset

HIGHEST = 255


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
        made: flat positions of all pixels that the stage makes, `[N]`.
    """

    order: Tensor
    targets: Tensor
    cells: Tensor
    near: Tensor
    above: Tensor
    made: Tensor


@lru_cache(maxsize=16)
def pixel_maps(preset: PixelPreset, height: int, width: int) -> PixelMaps:
    """The maps of a stage for pictures or crops of a size."""
    scheme, factor = preset.scheme, preset.factor
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = y.flatten(), x.flatten()
    small = height // factor, width // factor
    order = torch.from_numpy(group_map(scheme.order, height, width))
    return PixelMaps(
        order=order,
        targets=torch.from_numpy(targets_of(scheme.order, height, width)),
        cells=(y // factor) * small[1] + x // factor,
        near=offset(y, x, scheme.canvas_copies, (height, width)),
        above=offset(y // factor, x // factor, scheme.parent_copies, small),
        made=torch.nonzero(order.flatten() >= 0)[:, 0],
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


@dataclass(frozen=True, slots=True)
class PassNumbers:
    """What the passes of a batch make, `[B]` int64 each.

    Attributes:
        group: of pixels.
        channel: the first that the pass makes.
        before: bits of every value that earlier planes decided.
        after: bits that are decided with this plane.
        many: channels that the pass makes, the same of every sample.
    """

    group: Tensor
    channel: Tensor
    before: Tensor
    after: Tensor
    many: int

    @property
    def symbols(self) -> Tensor:
        """How many symbols the plane has."""
        return 1 << self.after - self.before

    @property
    def decides(self) -> Tensor:
        """The channels that are made, `[B, 3]` bool."""
        apart = torch.arange(len(CHANNELS)) - self.channel[:, None]
        return (apart >= 0) & (apart < self.many)


def pass_numbers(scheme: PassScheme, passes: Tensor) -> PassNumbers:
    """Passes `[B]` int64 taken apart: planes are outermost, then groups, then perhaps channels."""
    apart = len(CHANNELS) if scheme.channel_passes == "passes" else 1
    plane = passes // (apart * scheme.order.count)
    ends = torch.tensor([0, *(p.decided for p in planes_of(scheme.planes))])
    return PassNumbers(
        group=passes // apart % scheme.order.count,
        channel=passes % apart,
        before=ends[plane],
        after=ends[plane + 1],
        many=len(CHANNELS) // apart,
    )


def one_pass(  # noqa: PLR0913  what a pass is made of
    preset: PixelPreset,
    pixels: Tensor,
    shown: Tensor,
    passes: Tensor,
    level: Tensor,
    text: tuple[Tensor, Tensor],
    *,
    later: float = 0.0,
) -> PixelBatch:
    """One pass of every picture as a batch.

    Args:
        preset: the stage.
        pixels: `[B, 3, H, W]` uint8, the truth.
        shown: the same float32, falsified.
        passes: `[B]` int64, which pass.
        level: `[B]`, how much was falsified.
        text: `[B, L, D]` and `[B, L]`.
        later: what the mean of all pixels of later passes counts beside that of this one; above 0
            they are targets too, each as if it were next.
    """
    height, width = pixels.shape[2:]
    maps, now = pixel_maps(preset, height, width), pass_numbers(preset.scheme, passes)
    decided = decided_bits(maps, now)
    targets, weights = weighted_targets(maps, now.group, later)
    truth = pixels.flatten(2).transpose(1, 2).long()
    parent = parent_of(preset, pixels.float()).flatten(2).transpose(1, 2).long()
    known = decided[:, 0] >= now.after[:, None, None]
    candidates, usable = candidates_of(maps, truth, parent, known.flatten(1), targets)
    values = taken(truth, targets)
    guess = guess_of(preset, maps, (truth, parent), known.flatten(1), targets)
    below = (BITS - now.before)[:, None, None]
    # What earlier planes decided is known: no guess and no copy has other top bits.
    least = values >> below << below
    agreeing = (candidates >> below[..., None] == values[:, :, None] >> below[..., None]).all(-1)
    silent = preset.context_width == 0
    flags = len(CHANNELS) if preset.scheme.channel_passes == "passes" else 1
    own = (now.group[:, None, None] == maps.order)[:, None]
    made = torch.arange(len(CHANNELS)) < now.channel[:, None]
    decided = torch.where(own & made[..., None, None], now.after[:, None, None, None], decided)
    return PixelBatch(
        canvas=middle_of(shown, decided),
        known=decided[:, :flags].float() / BITS,
        pass_index=passes,
        targets=targets,
        aug_level=level,
        low_res=None if preset.low_resolution is None else parent_of(preset, shown),
        context=None if silent else text[0],
        context_mask=None if silent else text[1],
        values=values,
        guess=torch.minimum(torch.maximum(guess, least), least + (1 << below) - 1),
        candidates=candidates,
        usable=usable & agreeing,
        weights=weights,
        symbols=now.symbols,
        below=BITS - now.after,
        decides=now.decides,
    )


def weighted_targets(maps: PixelMaps, groups: Tensor, later: float) -> tuple[Tensor, Tensor]:
    """What a pass asks about, `[B, n]` int64, and what each counts, `[B, n]` adding up to 1.

    Args:
        maps: of the stage.
        groups: `[B]` int64, of which pixels.
        later: as for `one_pass`.
    """
    if later == 0:
        targets = maps.targets[groups]
        real = torch.from_numpy(distinct(targets.numpy())).float()
        return targets, real / real.sum(1, keepdim=True)
    targets = maps.made.expand(len(groups), -1)
    order = maps.order.flatten()[targets]
    now, then = (order == groups[:, None]).float(), (order > groups[:, None]).float()
    weights = now / now.sum(1, keepdim=True) + later * then / then.sum(1, keepdim=True).clamp(min=1)
    return targets, weights / weights.sum(1, keepdim=True)


def decided_bits(maps: PixelMaps, now: PassNumbers) -> Tensor:
    """Bits of every value that are decided before the group, `[B, 3, H, W]` int64."""
    before, after, group = (x[:, None, None] for x in (now.before, now.after, now.group))
    found = torch.where(maps.order < group, after, before)
    found = torch.where(maps.order < 0, BITS, found)
    return found[:, None].expand(-1, len(CHANNELS), -1, -1)


def middle_of(shown: Tensor, decided: Tensor) -> Tensor:
    """`[B, 3, H, W]` float32 of which the top bits are known: their middle, or 0 for none."""
    below = BITS - decided
    values = shown.long() >> below << below
    middle = values + ((1 << below) >> 1)
    return torch.where(decided > 0, middle, 0).float()


def parent_of(preset: PixelPreset, pictures: Tensor) -> Tensor:
    """What the stage starts from, whole numbers: `[B, 3, H, W]` to `[B, 3, h, w]` float32."""
    factor = preset.factor
    if preset.scheme.parent != "box":
        return pictures[:, :, ::factor, ::factor].contiguous()
    area = factor * factor
    sums = torch.nn.functional.avg_pool2d(pictures, factor, divisor_override=1)
    return torch.floor((sums + area // 2) / area)


def guess_of(
    preset: PixelPreset,
    maps: PixelMaps,
    pictures: tuple[Tensor, Tensor],
    known: Tensor,
    targets: Tensor,
) -> Tensor:
    """What the symbols of targets are distances from, `[B, n, 3]`; see `cascade.pixels.guess`.

    Args:
        preset: the stage.
        maps: of it.
        pictures: the truth `[B, H * W, 3]` and its parent `[B, h * w, 3]`.
        known: `[B, H * W]` bool.
        targets: `[B, n]`.
    """
    truth, parent = pictures
    if preset.scheme.guess == "zero":
        return torch.zeros(*targets.shape, len(CHANNELS), dtype=torch.int64)
    guesses = parent
    if preset.scheme.guess == "cell":
        area = preset.factor**2
        cells = maps.cells[None, :, None].expand(len(truth), -1, len(CHANNELS))
        shown = torch.where(known[..., None], truth, 0)
        total = torch.zeros_like(parent).scatter_add_(1, cells, shown)
        flags = known[..., None].long().expand_as(truth)
        left = (area - torch.zeros_like(parent).scatter_add_(1, cells, flags)).clamp(min=1)
        guesses = ((2 * (area * parent - total) + left) // (2 * left)).clamp(0, HIGHEST)
    return taken(guesses, maps.cells[targets])


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
