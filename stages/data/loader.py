"""Batches for one stage: pictures or crops at its resolution, captions, low-resolution input.

Knows the data set and a stage's sizes; not networks, noise levels or optimizers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cascade.codecs.image import to_network
from cascade.diffusion.conditioning import upsample
from cascade.types import Array, ImageU8
from stages.data.dataset import Dataset, Example, box_average
from stages.data.recolour import main_hue, recoloured
from stages.data.training_batch import TrainingBatch
from stages.reference import StagePreset

PLAIN_SHARE = 0.35
"""Share of draws that show the plain caption; the others share the rest."""
COLOURED_SHARE = 0.25
"""Share of the draws of a picture of one hue that show it in another colour, and say so."""
MARGIN = 2
"""Low-resolution pixels around a crop that the cubic kernel reads."""
REDRAWS = 4
"""An evenly white crop teaches little: it is drawn again at most so many times."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One training picture held in memory."""

    example: Example
    pixels: ImageU8
    low: ImageU8 | None
    """The smaller picture that a super-resolution stage starts from."""
    hue: float | None = None
    """Base stage: its main hue in degrees, if it is shown in other colours too."""


class Loader:
    """Draws batches at random; all randomness comes from the generator it is given."""

    def __init__(self, data: Dataset, preset: StagePreset, *, held_out: bool = False) -> None:
        """Decode the stage's pictures once.

        Args:
            data: the prepared data set.
            preset: the stage.
            held_out: take the held-out concepts instead of the others.
        """
        self.data = data
        self.preset = preset
        self.pictures: list[Picture] = []
        for index, example in kept_examples(data, held_out=held_out):
            if preset.resolution == 1024 and not data.pictures_1024[index]:
                continue
            pixels = data.picture(index, preset.resolution)
            low = hue = None
            if preset.low_resolution is not None:
                low = box_average(pixels, preset.resolution // preset.low_resolution)
            else:
                hue = hue_of(data, index)
            self.pictures.append(Picture(example, pixels, low, hue))

    def batch(self, count: int, generator: torch.Generator, *, shrink: int = 1) -> TrainingBatch:
        """A batch of `count` random samples.

        Args:
            count: number of samples.
            generator: source of every random choice.
            shrink: train on pictures so many times smaller (base stage only).
        """
        chosen = torch.randint(len(self.pictures), (count,), generator=generator).tolist()
        images, lows, texts = [], [], []
        for index in chosen:
            picture, text = self.coloured(self.pictures[index], generator)
            image, low = self.sample(picture, generator, shrink)
            images.append(image)
            if low is not None:
                lows.append(low)
            texts.append(self.text(picture.example, generator) if text is None else text)
        context, mask = pad(texts)
        return TrainingBatch(
            x0=torch.from_numpy(np.stack(images)),
            low_res=torch.from_numpy(np.stack(lows)) if lows else None,
            context=context,
            context_mask=mask,
        )

    def coloured(
        self, picture: Picture, generator: torch.Generator
    ) -> tuple[Picture, Array | None]:
        """Now and then the picture in another colour and what it is called then."""
        if picture.hue is None or float(torch.rand((), generator=generator)) >= COLOURED_SHARE:
            return picture, None
        others = picture.example.coloured
        colour, said = others[int(torch.randint(len(others), (), generator=generator))]
        pixels = recoloured(picture.pixels, picture.hue, colour)
        return replace(picture, pixels=pixels), self.data.embeddings[said]

    def sample(
        self, picture: Picture, generator: torch.Generator, shrink: int
    ) -> tuple[Array, Array | None]:
        """One picture or crop and, for super-resolution, its enlarged low-resolution input."""
        if picture.low is None:
            small = picture.pixels if shrink == 1 else box_average(picture.pixels, shrink)
            return to_network(small)[0], None
        factor = self.preset.resolution // (self.preset.low_resolution or 1)
        size = self.preset.crop // factor
        top = left = 0
        for _ in range(REDRAWS):
            last = picture.low.shape[0] - size
            top, left = torch.randint(last + 1, (2,), generator=generator).tolist()
            window = picture.low[top : top + size, left : left + size]
            if window.min() != window.max():
                break
        return self.crop(picture, top, left, size, factor)

    @staticmethod
    def crop(picture: Picture, top: int, left: int, size: int, factor: int) -> tuple[Array, Array]:
        """The crop at low-resolution position (`top`, `left`) and the same region enlarged."""
        if picture.low is None:
            raise ValueError("the base stage trains on whole pictures")
        edges = ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
        framed = np.pad(picture.low, edges, mode="edge")
        window = framed[top : top + size + 2 * MARGIN, left : left + size + 2 * MARGIN]
        wide = upsample(to_network(window), factor)[0]
        cut = MARGIN * factor
        high = picture.pixels[
            top * factor : (top + size) * factor, left * factor : (left + size) * factor
        ]
        return to_network(high)[0], wide[:, cut:-cut, cut:-cut]

    def text(self, example: Example, generator: torch.Generator) -> Array:
        """Embeddings of one of the example's captions."""
        draw = float(torch.rand((), generator=generator))
        return self.data.embeddings[caption_of(example, draw)]


def kept_examples(data: Dataset, *, held_out: bool) -> Iterator[tuple[int, Example]]:
    """The examples of the held-out concepts or of all others, with their numbers."""
    for index, example in enumerate(data.examples):
        if example.held_out == held_out:
            yield index, example


def hue_of(data: Dataset, index: int) -> float | None:
    """A picture's main hue in degrees, if it is shown in other colours too."""
    return main_hue(data.picture(index, 256)) if data.examples[index].coloured else None


def caption_of(example: Example, draw: float) -> int:
    """The number of one of an example's captions: the plain one often, the others evenly.

    Args:
        example: with two captions at least.
        draw: 0 to 1, evenly drawn.
    """
    plain, *others = example.captions
    if draw < PLAIN_SHARE:
        return plain
    place = int((draw - PLAIN_SHARE) / (1 - PLAIN_SHARE) * len(others))
    return others[min(place, len(others) - 1)]


def pad(texts: list[Array]) -> tuple[Tensor, Tensor]:
    """Embeddings of several captions as one `[B, L, D]` batch and its `[B, L]` mask."""
    longest = max(len(text) for text in texts)
    context = torch.zeros(len(texts), longest, texts[0].shape[1])
    mask = torch.zeros(len(texts), longest)
    for row, text in enumerate(texts):
        context[row, : len(text)] = torch.from_numpy(text)
        mask[row, : len(text)] = 1
    return context, mask
