"""How a smaller picture is brought to the size that a super-resolution network is shown it at.

Each kind is one that published cascades were trained with, so a picture enlarged by another kind is
a picture that the network never saw. Sums are in an order of our own, so every machine gets the
same bits. Knows pictures; not noise, networks or where a picture came from.

References:
    `bicubic_pil`: Pillow's `resize(..., BICUBIC)` of 8-bit pictures, in its whole numbers.
"""

import math
from functools import lru_cache

import numpy as np

from cascade.codecs.image import to_network
from cascade.diffusion.conditioning import (
    UpsampleKind,
    cubic_kernel,
    upsample,
    upsample_height_between,
)
from cascade.diffusion.spec import EnlargeKind
from cascade.types import Array, Batch, ImageU8

Size = tuple[int, int]
"""Width and height, in pixels."""

FRACTION_BITS = 22
"""Of Pillow's weights: four of them times 255 stay below 2^31."""


def enlarge(picture: ImageU8, size: Size, kind: EnlargeKind) -> Batch:
    """A picture as the network is shown it.

    Args:
        picture: `[h, w, 3]` uint8.
        size: of the result, at least that of the picture. A whole multiple of it for `cubic` and
            `bilinear_corners`; any for the others. `none` ignores it.
        kind: how the pixels between are made.

    Returns:
        `[1, 3, H, W]` float32 in [-1, 1] and, for `cubic`, a little beyond.
    """
    if kind == "bicubic_pil":
        turned = pil_columns(picture, size[0]).swapaxes(0, 1)
        return to_network(np.ascontiguousarray(pil_columns(turned, size[1]).swapaxes(0, 1)))
    return enlarge_planes(to_network(picture), size, kind)


def enlarge_planes(planes: Batch, size: Size, kind: EnlargeKind) -> Batch:
    """Planes of numbers, those of a latent say, as the network is shown them.

    Args:
        planes: `[1, C, h, w]` float32.
        size: see `enlarge`.
        kind: any but `bicubic_pil`, which is of 8-bit pictures.

    Returns:
        `[1, C, H, W]` float32; the planes themselves for `none`.
    """
    height, width = planes.shape[2:]
    if kind == "none":
        return planes
    if kind == "nearest":
        rows, places = nearest(height, size[1]), nearest(width, size[0])
        return np.ascontiguousarray(planes[:, :, rows][..., places])
    if kind == "bilinear":
        columns = planes.swapaxes(2, 3)
        wide = upsample_height_between(columns, centres(width, size[0])).swapaxes(2, 3)
        return upsample_height_between(np.ascontiguousarray(wide), centres(height, size[1]))
    factor: UpsampleKind = "bilinear_corners" if kind == "bilinear_corners" else "cubic"
    return upsample(planes, size[0] // width, factor)


def nearest(small: int, large: int) -> Array:
    """Which small pixel each of `large` pixels shows, `[large]` int64: the place rounded down."""
    return np.arange(large) * small // large


def centres(small: int, large: int) -> Array:
    """Where the centres of `large` pixels lie among `small` ones, `[large]` float64, inside."""
    return np.asarray(np.clip((np.arange(large) + 0.5) * (small / large) - 0.5, 0, small - 1))


def pil_columns(picture: ImageU8, width: int) -> ImageU8:
    """A picture resized along its rows as Pillow does it: whole numbers, rounded to 8 bits.

    Args:
        picture: `[h, w, 3]` uint8.
        width: of the result, from `w`.

    Returns:
        `[h, width, 3]` uint8.
    """
    places, weights = pil_weights(picture.shape[1], width)
    total = np.full((picture.shape[0], width, picture.shape[2]), 1 << (FRACTION_BITS - 1), np.int32)
    for place, weight in zip(places, weights, strict=True):
        total += picture[:, place].astype(np.int32) * weight[:, None]
    return np.asarray(np.clip(total >> FRACTION_BITS, 0, 255), np.uint8)


@lru_cache(maxsize=16)
def pil_weights(small: int, large: int) -> tuple[Array, Array]:
    """The taps of Pillow's bicubic: those beyond the edge are left out and the rest made one.

    Args:
        small: pixels of a row.
        large: of the result, from `small`.

    Returns:
        Places `[5, large]` int64 and weights `[5, large]` int32 in units of 2^-22; a tap that is
        left out has weight 0.
    """
    scale = small / large
    places, weights = np.zeros((5, large), np.int64), np.zeros((5, large), np.int32)
    for pixel in range(large):
        centre = (pixel + 0.5) * scale
        first, last = max(int(centre - 2 + 0.5), 0), min(int(centre + 2 + 0.5), small)
        distances = np.arange(first, last, dtype=np.float64) - centre + 0.5
        found = [float(value) for value in cubic_kernel(distances)]
        # One after another, as Pillow adds them: `sum` of newer Pythons corrects its rounding.
        whole = 0.0
        for value in found:
            whole += value
        for tap, value in enumerate(found):
            scaled = value / whole * (1 << FRACTION_BITS)
            places[tap, pixel] = first + tap
            weights[tap, pixel] = int(scaled + math.copysign(0.5, scaled))
    return places, weights
