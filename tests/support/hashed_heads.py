"""Networks for tests of the pixels family: every logit follows from a hash of all that was asked.

Whoever is shown one bit of anything else answers something else, so encoder and decoder, or two
batches, agree only where they ask exactly the same.
"""

from collections.abc import Mapping
from zlib import crc32

import numpy as np

from cascade.pixels.logits import Logits
from cascade.pixels.mixture import PLAIN, Sharpness
from cascade.pixels.pictures import Decider, Pictures
from cascade.types import Array

PARENTS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
"""The cell's own pixel of the parent, and those around."""
AROUND = tuple(offset for offset in PARENTS if offset != (0, 0))
"""Neighbours in the picture."""


def crc(arrays: Mapping[str, Array], row: int) -> int:
    """Of everything that one row is asked."""
    found = 0
    for name in sorted(arrays):
        found = crc32(np.ascontiguousarray(arrays[name][row]).tobytes(), found)
    return found


def hashed(body: Mapping[str, Array], asked: Mapping[str, Array], salt: int = 0) -> Logits:
    """Answers of all rows to one question of the heads, `[B * n, ...]`."""
    count = body["targets"].shape[1]
    candidates = asked["match"].shape[2] if "match" in asked else 0
    high, low, copy = [], [], []
    for row in range(len(body["targets"])):
        rng = np.random.default_rng([salt, crc(body, row), crc(asked, row)])
        sharp = int(rng.integers(1, 300))
        high.append(rng.integers(-sharp, sharp + 1, (count, 32)))
        low.append(rng.integers(-sharp, sharp + 1, (count, 256)))
        copy.append(rng.integers(-sharp, sharp + 1, (count, candidates + 1)))
    joined = [np.concatenate(rows).astype(np.float32) for rows in (high, low, copy)]
    return Logits(joined[0], joined[1], joined[2] if candidates else None)


def walked(
    pictures: Pictures, decider: Decider, *, salt: int = 0, sharpness: Sharpness = PLAIN
) -> Array:
    """The finished pictures, `[B, H, W, 3]` uint8.

    Args:
        pictures: nothing of which is made.
        decider: chooses.
        salt: another network.
        sharpness: temperature and floor.
    """
    for step in pictures.passes:
        body = pictures.begin(step.index)
        for channel in step.channels:
            logits = hashed(body, pictures.heads_inputs(channel), salt)
            pictures.decide(channel, logits, decider, sharpness)
    assert (pictures.canvas.decided == 8).all()
    return pictures.canvas.values()
