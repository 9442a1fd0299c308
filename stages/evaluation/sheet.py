"""Sample sheets during training: a few captions, drawn with the weights of the moment.

Knows the data set, a preset and the averaged network; writes PNG files beside the checkpoints.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from cascade.request import GenerateRequest, Handoff
from cascade.types import ImageU8
from stages.data.dataset import Dataset, box_average
from stages.evaluation.sampling import run_stage, torch_stage
from stages.networks.efficient_unet import EfficientUNet
from stages.reference import StagePreset

COLUMNS, ROWS = 8, 4


def tile(pictures: list[ImageU8], columns: int) -> ImageU8:
    """Pictures of one size side by side, row by row."""
    rows = [
        np.concatenate(pictures[i : i + columns], axis=1) for i in range(0, len(pictures), columns)
    ]
    return np.concatenate(rows, axis=0)


class SheetWriter:
    """Writes a sheet every so many minutes of training."""

    def __init__(
        self, preset: StagePreset, data: Dataset, folder: Path, *, every_minutes: float
    ) -> None:
        self._preset = preset
        self._data = data
        self._folder = folder
        self._every = every_minutes
        self._next = every_minutes
        shown = [i for i, e in enumerate(data.examples) if not e.held_out]
        if preset.resolution == 1024:
            shown = [i for i in range(len(data.examples)) if data.pictures_1024[i]]
        spread = np.linspace(0, len(shown) - 1, COLUMNS * ROWS).round().astype(int)
        self._shown = [shown[i] for i in spread]

    def __call__(self, minutes: float, step: int, network: EfficientUNet) -> None:
        """Write a sheet if one is due."""
        if not self._every or minutes < self._next:
            return
        self._next = minutes + self._every
        sheet = self.draw(network)
        path = self._folder / f"{self._preset.name}-{step:06d}.png"
        Image.fromarray(sheet).save(path)

    def draw(self, network: EfficientUNet) -> ImageU8:
        """The sheet as pixels."""
        stage = torch_stage(self._preset, network)
        many = self._shown if self._preset.resolution < 1024 else self._shown[:4]
        pictures = []
        for number, index in enumerate(many):
            example = self._data.examples[index]
            image = None
            if self._preset.low_resolution is not None:
                large = self._data.picture(index, self._preset.resolution)
                image = box_average(large, self._preset.resolution // self._preset.low_resolution)
            context = self._data.embeddings[example.captions[0]].astype(np.float16)
            request = GenerateRequest(seed=number)
            pictures.append(run_stage(stage, request, Handoff(context=context, image=image)))
        return tile(pictures, COLUMNS)
