"""What a cascade is asked for where it is compared: words, a class, a picture, or noise alone.

Knows what a first component starts from; not networks, graphs or how anything is compared.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from cascade.numerics.noise import normals
from cascade.request import Handoff
from cascade.types import ImageU8, Vector
from cascade.vectors import VectorSpec

Subject = str | int | ImageU8 | None
"""A prompt; the number of a class; a picture `[H, W, 3]` uint8; nothing."""

RUNS = 2
"""Where there are neither prompts nor classes to choose from."""


def handoff_of(subject: Subject) -> Handoff:
    """What the first component starts from."""
    if isinstance(subject, str):
        return Handoff(prompt=subject)
    if isinstance(subject, int):
        return Handoff(label=subject)
    return Handoff(image=subject)


def made_up_vectors(specs: Iterable[VectorSpec]) -> dict[str, Vector]:
    """Vectors that a request brings, `[width]` float32: the defaults, or the same noise ever."""
    return {
        spec.name: np.array(spec.default, np.float32)
        if spec.default
        else normals((spec.width,), seed=0, image=6, stage=0, step=0)
        for spec in specs
        if spec.source == "request"
    }


def made_up_pictures(size: int) -> list[ImageU8]:
    """Pictures `[size, size, 3]` uint8 of soft spots of colour, the same ones ever."""
    found = []
    for number in range(RUNS):
        spots = normals((size, size, 3), seed=number, image=4, stage=0, step=0)
        # Neighbours are alike, as in pictures: sums of sums.
        soft = np.cumsum(np.cumsum(spots, 0), 1)
        soft -= soft.min()
        found.append(np.asarray(np.rint(255 * soft / max(float(soft.max()), 1e-6)), np.uint8))
    return found


def spread(classes: int) -> Sequence[int]:
    """The first class and the last."""
    return sorted({0, classes - 1})
