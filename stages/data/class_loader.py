"""Labelled pictures: concepts as classes, each rendering a sample of its class.

Knows the data set and a stage's sizes; not networks, noise levels or optimizers.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cascade.codecs.image import to_network
from cascade.types import Batch, ImageU8
from stages.data.class_batch import ClassBatch
from stages.data.dataset import Dataset, Example, box_average
from stages.refinement_presets import RefinementPreset


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One rendering and the number of its class."""

    example: Example
    pixels: ImageU8
    label: int


def class_names(data: Dataset, classes: int) -> tuple[str, ...]:
    """The concepts that are classes, spread over all that are trained on.

    Args:
        data: the prepared data set.
        classes: how many.
    """
    known = list(dict.fromkeys(e.icon for e in data.examples if not e.held_out))
    places = np.linspace(0, len(known) - 1, min(classes, len(known))).round().astype(int)
    return tuple(known[place] for place in places)


class ClassLoader:
    """Draws labelled batches at random; all randomness comes from the generator it is given."""

    def __init__(self, data: Dataset, preset: RefinementPreset) -> None:
        """Decode the classes' pictures once.

        Args:
            data: the prepared data set.
            preset: the stage.
        """
        self.preset = preset
        self.names = class_names(data, preset.classes)
        numbers = {name: number for number, name in enumerate(self.names)}
        self.pictures = [
            LabelledPicture(example, sized(data, index, preset.resolution), numbers[example.icon])
            for index, example in enumerate(data.examples)
            if example.icon in numbers
        ]
        self.high = planar([picture.pixels for picture in self.pictures])
        low = preset.low_resolution
        self.low = None if low is None else planar([shrunk(p.pixels, low) for p in self.pictures])
        self.labels = torch.tensor([picture.label for picture in self.pictures])

    def batch(self, count: int, generator: torch.Generator, *, shrink: int = 1) -> ClassBatch:
        """`count` random samples, each rendering as often; `shrink` has no meaning here."""
        del shrink
        chosen = torch.randint(len(self.pictures), (count,), generator=generator)
        return ClassBatch(
            x0=torch.from_numpy(self.high[chosen.numpy()]),
            small=None if self.low is None else torch.from_numpy(self.low[chosen.numpy()]),
            label=self.labels[chosen],
        )


def sized(data: Dataset, index: int, resolution: int) -> ImageU8:
    """A picture of the data set at a size that divides 64, `[resolution, resolution, 3]` uint8."""
    return shrunk(data.picture(index, 64), resolution)


def shrunk(pixels: ImageU8, resolution: int) -> ImageU8:
    """A picture as the means of whole blocks, `[resolution, resolution, 3]` uint8."""
    return box_average(pixels, len(pixels) // resolution)


def planar(pictures: list[ImageU8]) -> Batch:
    """Pictures of one size as a network takes them, `[N, 3, H, W]` float32 in [-1, 1]."""
    return np.concatenate([to_network(pixels) for pixels in pictures])
