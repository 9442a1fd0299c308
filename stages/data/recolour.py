"""Pictures in other colours, and the captions that say so: what teaches that colour is a word.

A picture of mainly one hue is turned to another one; white, greys and shading stay. Some pairs of
colour and concept are kept from training, to ask whether the two words combine. Knows pictures and
words; not who trains.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cascade.types import Array, ImageU8
from stages.data.captions import concept_name, with_article

HUES = {
    "red": 2, "orange": 28, "yellow": 50, "green": 125, "blue": 212, "purple": 275, "pink": 325,
}  # fmt: skip
"""Degrees of the colours that are asked for by name."""
PALE = {"pink": 0.6}
"""Colours that are less saturated than their hue at full strength."""
ALREADY = 30.0
"""Degrees within which a picture has a colour already."""
ONE_HUE = 0.8
"""Length of the mean direction of all hues from which a picture counts as of one hue."""
COVERED = 0.5
"""Share of the ink that has to have a hue."""
VIVID, INK = 60, 245
"""Of 255: saturation from which a pixel has a hue; its weakest channel below which it is ink."""
TURNS = 256
"""Steps of a full turn in 8-bit hues."""
KEPT_SHARE = 4
"""One pair of colour and concept in so many is in no caption, decided by a hash."""
FEW = 3
"""Of a thing that the concept list has in so many colours nothing is turned."""
ASKED_BY_THE_SHEETS = {
    ("green", "cat face"), ("green", "cat"), ("blue", "apple"), ("purple", "banana"),
    ("red", "elephant"), ("pink", "frog"), ("yellow", "octopus"), ("blue", "strawberry"),
    ("green", "soccer ball"),
}  # fmt: skip
"""Pairs kept back besides."""


def hsv(pixels: ImageU8) -> Array:
    """`[H, W, 3]` RGB to hue, saturation, value, 8 bits each."""
    return np.asarray(Image.fromarray(pixels).convert("HSV"))


def main_hue(pixels: ImageU8) -> float | None:
    """The hue that a picture mainly has, degrees; None if it has several or hardly any.

    Args:
        pixels: `[H, W, 3]` uint8 on white.
    """
    hue, saturation, _ = np.moveaxis(hsv(pixels), -1, 0).astype(np.float64)
    ink = pixels.min(axis=-1) < INK
    coloured = ink & (saturation >= VIVID)
    if coloured.sum() < COVERED * max(1, ink.sum()):
        return None
    angles = hue[coloured] * (2 * np.pi / TURNS)
    mean = np.average(np.exp(1j * angles), weights=saturation[coloured])
    return float(np.degrees(np.angle(mean)) % 360) if abs(mean) >= ONE_HUE else None


def apart(one: float, other: float) -> float:
    """Degrees between two hues, at most 180."""
    return abs((one - other + 180) % 360 - 180)


def nearest_colour(hue: float) -> str:
    """The name for a hue in degrees."""
    return min(HUES, key=lambda name: apart(hue, HUES[name]))


def recoloured(pixels: ImageU8, hue: float, colour: str) -> ImageU8:
    """A picture of mainly `hue` turned to a colour; what is white, grey or black stays.

    Args:
        pixels: `[H, W, 3]` uint8.
        hue: its `main_hue`, degrees.
        colour: one of `HUES`.
    """
    changed = hsv(pixels).astype(np.int64)
    turn = round((HUES[colour] - hue) * TURNS / 360)
    changed[..., 0] = (changed[..., 0] + turn) % TURNS
    changed[..., 1] = np.rint(changed[..., 1] * PALE.get(colour, 1.0))
    return np.asarray(Image.fromarray(changed.astype(np.uint8), "HSV").convert("RGB"))


def bare_name(icon: str) -> str:
    """The name without a colour in front: `red-apple -> apple`."""
    first, _, rest = concept_name(icon).partition(" ")
    return rest if first in HUES and rest else concept_name(icon)


def is_kept_pair(colour: str, name: str) -> bool:
    """Whether a colour and a bare name are in no caption together, decided by the pair alone."""
    if (colour, name) in ASKED_BY_THE_SHEETS:
        return True
    return hashlib.sha256(f"{colour} {name}".encode()).digest()[0] % KEPT_SHARE == 0


def coloured_caption(colour: str, icon: str, style: str) -> str:
    """`a blue apple, noto style`."""
    name = bare_name(icon)
    # Before a colour the article is the colour's own, and plurals still take none.
    said = f"{colour} {name}"
    if with_article(name) != name:
        said = f"{'an' if colour == 'orange' else 'a'} {said}"
    return f"{said}, {style} style"


def other_colours(icon: str, pixels: ImageU8, icons: Sequence[str]) -> list[str]:
    """Colours that a picture can be turned to and does not have; none where it has no main hue.

    Args:
        icon: its concept.
        pixels: `[H, W, 3]` uint8.
        icons: the concept list, in which the thing may stand in several colours already.
    """
    name = bare_name(icon)
    same = [other for other in icons if bare_name(other) == name]
    hue = main_hue(pixels)
    if hue is None or len(same) >= FEW:
        return []
    known = {concept_name(other).partition(" ")[0] for other in same}
    return [c for c in HUES if apart(hue, HUES[c]) > ALREADY and c not in known]
