"""Random batches for a stage that makes its picture by groups: one pass of every picture.

Pictures are moved, mirrored, cut and recoloured, and what the network is shown of them is falsified
a little, as its own mistakes will. Knows the data set; not networks or optimizers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cascade.types import Array, ImageU8
from stages.data.dataset import Dataset, Example
from stages.data.loader import COLOURED_SHARE, caption_of, hue_of, kept_examples, pad
from stages.data.pixel_batch import PixelBatch
from stages.data.pixel_passes import one_pass
from stages.data.recolour import recoloured
from stages.pixel_presets import PixelPreset

WHITE = 255
FLIPPED, PERMUTED = 0.5, 0.3
"""Shares of an upscaler's samples that are mirrored and that have their channels exchanged; the
latter are shown without text, for it would name other colours."""
TEXT_DROPPED = 0.1
CLEAN = 0.5
"""Share of samples in which nothing is falsified."""
LEVELS = 0.25
"""Largest share of known pixels that are falsified."""
OFF = 24
"""Largest error of a falsified value that is not a neighbour's."""
NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))
WHOLE = 0.2
"""Share of batches of whole pictures where a stage trains on crops."""


@dataclass(frozen=True, slots=True)
class PixelPicture:
    """One training picture held in memory."""

    example: Example
    pixels: ImageU8
    """At `PixelPreset.drawn_at`; smaller stages take every second, fourth or eighth."""
    hue: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture or crop and the text shown with it; a token of zeros for none."""

    pixels: ImageU8
    text: Array


class PixelLoader:
    """Draws batches at random; all randomness comes from the generator it is given."""

    def __init__(self, data: Dataset, preset: PixelPreset, *, held_out: bool = False) -> None:
        """Decode the stage's pictures once.

        Args:
            data: the prepared data set.
            preset: the stage.
            held_out: take the held-out concepts instead of the others.
        """
        self.data = data
        self.preset = preset
        self.pictures: list[PixelPicture] = []
        for index, example in kept_examples(data, held_out=held_out):
            pixels = data.picture(index, preset.drawn_at)
            self.pictures.append(PixelPicture(example, pixels, hue_of(data, index)))

    def batch(self, count: int, generator: torch.Generator, *, shrink: int = 1) -> PixelBatch:
        """A batch of `count` random samples, each with a random pass.

        Args:
            count: number of samples.
            generator: source of every random choice.
            shrink: for the trainer's sake; always 1.
        """
        del shrink
        preset = self.preset
        size = preset.crop
        if size < preset.resolution and float(torch.rand((), generator=generator)) < WHOLE:
            count, size = max(1, count * size**2 // preset.resolution**2), preset.resolution
        pixels, text = self.captioned(count, size, generator)
        passes = self.drawn_passes(count, generator)
        level = LEVELS * torch.rand(count, generator=generator)
        level = level * (torch.rand(count, generator=generator) >= CLEAN)
        shown = falsified(pixels, level, generator)
        batch = one_pass(preset, pixels, shown, passes, level, text, later=preset.later)
        return self.asked(pixels, batch)

    def captioned(
        self, count: int, size: int, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Pictures or crops `[count, 3, size, size]` uint8, their texts and masks."""
        chosen = torch.randint(len(self.pictures), (count,), generator=generator).tolist()
        samples = [self.sample(self.pictures[i], size, generator) for i in chosen]
        pixels = torch.from_numpy(np.stack([s.pixels for s in samples])).permute(0, 3, 1, 2)
        context, mask = pad([s.text for s in samples])
        # No word is all zeros: that is no text.
        return pixels, (context, mask * (context.abs().amax(dim=2) > 0))

    def drawn_passes(self, count: int, generator: torch.Generator) -> Tensor:
        """Which pass each sample is at, `[count]` int64."""
        passes = torch.randint(self.preset.passes, (count,), generator=generator)
        passes[torch.rand(count, generator=generator) < self.preset.first_share] = 0
        return passes

    def asked(self, pixels: Tensor, batch: PixelBatch) -> PixelBatch:
        """The batch with the questions that are asked about its samples.

        Args:
            pixels: `[B, 3, H, W]` uint8, the truth.
            batch: asked about every pixel of a pass.
        """
        del pixels
        return batch

    def sample(self, picture: PixelPicture, size: int, generator: torch.Generator) -> Sample:
        """A picture in some colour, moved, perhaps mirrored, cut to `size`, and its text."""

        def draw() -> float:
            return float(torch.rand((), generator=generator))

        reach, step = self.preset.shift, self.preset.drawn_at // self.preset.resolution
        dy, dx = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
        pixels = shifted(picture.pixels, dy, dx)[::step, ::step]
        text = self.data.embeddings[caption_of(picture.example, draw())]
        if picture.hue is not None and draw() < COLOURED_SHARE:
            others = picture.example.coloured
            colour, said = others[int(draw() * len(others))]
            pixels, text = recoloured(pixels, picture.hue, colour), self.data.embeddings[said]
        silent = draw() < TEXT_DROPPED
        if self.preset.low_resolution is not None:
            pixels = pixels[:, ::-1] if draw() < FLIPPED else pixels
            if draw() < PERMUTED:
                pixels = pixels[..., torch.randperm(3, generator=generator).numpy()]
                silent = True
        pixels = self.cut(pixels, size, generator)
        return Sample(np.ascontiguousarray(pixels), np.zeros_like(text[:1]) if silent else text)

    def cut(self, pixels: ImageU8, size: int, generator: torch.Generator) -> ImageU8:
        """A crop `[size, size, 3]` whose corner is a cell's."""
        cell = self.preset.factor
        last = (len(pixels) - size) // cell + 1
        if last == 1:
            return pixels
        top, left = (cell * torch.randint(last, (2,), generator=generator)).tolist()
        return pixels[top : top + size, left : left + size]


def shifted(pixels: ImageU8, dy: int, dx: int) -> ImageU8:
    """`[H, W, 3]` moved by whole pixels; what comes in is white."""
    height, width, _ = pixels.shape
    room = max(abs(dy), abs(dx))
    wide = np.full((height + 2 * room, width + 2 * room, 3), WHITE, np.uint8)
    wide[room + dy : room + dy + height, room + dx : room + dx + width] = pixels
    return wide[room : room + height, room : room + width]


def falsified(pixels: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures in which a share of the pixels is a neighbour's or somewhat off.

    Args:
        pixels: `[B, 3, H, W]` uint8.
        level: `[B]`, the share of each picture.
        generator: source of every draw.

    Returns:
        `[B, 3, H, W]` float32, 0 to 255.
    """
    shape = (len(pixels), 1, *pixels.shape[2:])
    values = pixels.float()
    roll = int(torch.randint(4, (), generator=generator))
    other = torch.roll(values, NEIGHBOURS[roll], (2, 3))
    off = torch.randint(-OFF, OFF + 1, values.shape, generator=generator)
    near = (values + off).clamp(0, WHITE)
    wrong = torch.where(torch.rand(shape, generator=generator) < 0.5, other, near)
    hit = torch.rand(shape, generator=generator) < level[:, None, None, None]
    return torch.where(hit, wrong, values)
