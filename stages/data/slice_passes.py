"""All passes of one subscale slice at once, for networks whose decoder sees earlier pixels alone.

Knows passes and batches; not pictures on disk or networks.
"""

from dataclasses import replace

import torch
from torch import Tensor

from stages.data.pixel_batch import PixelBatch
from stages.data.pixel_loader import PixelLoader
from stages.data.pixel_passes import parent_of, pixel_maps, taken
from stages.pixel_presets import PixelPreset


class SliceLoader(PixelLoader):
    """Random batches of whole slices; its preset has slices and copies nothing."""

    def drawn_passes(self, count: int, generator: torch.Generator) -> Tensor:
        """The last pass of random slices, `[count]` int64."""
        size = slice_size(self.preset)
        slices = torch.randint(self.preset.passes // size, (count,), generator=generator)
        return slices * size + size - 1

    def asked(self, pixels: Tensor, batch: PixelBatch) -> PixelBatch:
        """The batch about all pixels of the slices."""
        return whole_slices(self.preset, pixels, batch)


def slice_size(preset: PixelPreset) -> int:
    """Passes of a slice: its pixels."""
    return int((preset.resolution // preset.slices) ** 2)


def whole_slices(preset: PixelPreset, pixels: Tensor, batch: PixelBatch) -> PixelBatch:
    """A batch of slices' last passes, asked about every pixel of its slice.

    Args:
        preset: has slices and copies nothing.
        pixels: `[B, 3, H, W]` uint8, the truth.
        batch: of each slice's last pass: all of it but the last pixel is known.
    """
    size = slice_size(preset)
    maps = pixel_maps(preset, *pixels.shape[2:])
    slices = maps.targets[:, 0].unflatten(0, (-1, size))
    targets = slices[batch.pass_index // size % len(slices)]
    truth = pixels.flatten(2).transpose(1, 2).long()
    values = taken(truth, targets)
    guess = torch.zeros_like(values)
    if preset.scheme.guess == "parent":
        parent = parent_of(preset, pixels.float()).flatten(2).transpose(1, 2).long()
        guess = taken(parent, maps.cells[targets])
    reach = (batch.symbols << batch.below)[:, None, None]
    least = values // reach * reach
    none = torch.zeros(*targets.shape, 0)
    return replace(
        batch,
        targets=targets,
        values=values,
        guess=torch.minimum(torch.maximum(guess, least), least + reach - 1),
        candidates=none[..., None].expand(-1, -1, -1, 3).long(),
        usable=none.bool(),
        weights=torch.full(targets.shape, 1 / targets.shape[1]),
    )
