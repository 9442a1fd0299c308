"""Pictures from networks of pixels by groups, walked through as the product walks.

Decisions are the product's (`cascade.pixels`), in integers with words by address; the networks are
torch's. Knows presets and frozen networks; not checkpoints, graphs or requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cascade.pixels.logits import Arithmetic, Logits
from cascade.pixels.mixture import PLAIN, Sharpness
from cascade.pixels.pictures import Decider, Drawn, Pictures
from cascade.pixels.words import words
from cascade.types import Array, ImageU8
from stages.data.loader import pad
from stages.networks.pixel_network import CHANNELS
from stages.networks.subscale_network import AnyPixelNetwork
from stages.pixel_presets import PixelPreset

DIGITS = 2
"""Of a value: its symbol's two halves."""


@dataclass(frozen=True, slots=True)
class Walker:
    """One stage: its preset and its frozen network."""

    preset: PixelPreset
    network: AnyPixelNetwork

    @torch.no_grad()
    def walk(
        self,
        parents: Array | None,
        texts: Sequence[Array],
        decider: Decider,
        *,
        level: float = 0.0,
        sharpness: Sharpness = PLAIN,
    ) -> Array:
        """Make pictures pass by pass, `[B, H, W, 3]` uint8.

        Args:
            parents: `[B, h, w, 3]` uint8; None for a first stage.
            texts: `[tokens, width]` each; of no tokens for none.
            decider: draws values, or knows them.
            level: what the network is told of its inputs' truth, 0 to 1.
            sharpness: temperature and floor.
        """
        size = (self.preset.resolution, self.preset.resolution)
        pictures = Pictures(self.preset.scheme, size, parents, rows=len(texts))
        context, mask = pad(list(texts))
        more = {"context": context, "context_mask": mask}
        more["aug_level"] = torch.full((len(texts),), level)
        for index, step in enumerate(pictures.passes):
            inputs = {n: torch.from_numpy(v) for n, v in pictures.begin(index).items()}
            features = self.network.body(**inputs, **more)
            for channel in step.channels:
                logits = self.asked(features, pictures.heads_inputs(channel))
                pictures.decide(channel, logits, decider, sharpness)
        return pictures.canvas.values()

    def asked(self, features: Tensor, question: dict[str, Array]) -> Logits:
        """What the head answers about features `[B, n, F]`, for all values in a row."""
        tensors = {name: torch.from_numpy(value) for name, value in question.items()}
        answers = [a.flatten(0, 1).numpy() for a in self.network.heads(features, **tensors)]
        copies = answers.pop() if "match" in question else None
        low = answers[1] if len(answers) > 1 else None
        kind: Arithmetic = "exact" if self.preset.exact else "float"
        return Logits(answers[0], low, copies, kind)


def drawn(preset: PixelPreset, stage: int, seeds: Sequence[int]) -> Drawn:
    """Words for one picture per seed, of the stage's place in the cascade."""
    count = preset.resolution**2 * CHANNELS
    return Drawn(
        tuple(
            np.stack([words(count, seed=s, image=0, stage=stage, digit=d) for s in seeds])
            for d in range(DIGITS)
        )
    )


def sampled(
    walkers: Sequence[Walker],
    texts: Sequence[Array],
    seeds: Sequence[int],
    *,
    parents: Array | None = None,
    sharpness: Sharpness = PLAIN,
) -> list[list[ImageU8]]:
    """The pictures of every stage in turn, one per text and seed.

    Args:
        walkers: of the stages, each the parent of the next.
        texts: `[tokens, width]` each.
        seeds: as many.
        parents: what the first stage starts from, `[B, h, w, 3]` uint8.
        sharpness: temperature and floor.
    """
    found = []
    for place, walker in enumerate(walkers, start=1):
        decider = drawn(walker.preset, place, seeds)
        parents = walker.walk(parents, texts, decider, sharpness=sharpness)
        found.append(list(parents))
    return found
