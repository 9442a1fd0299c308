"""Pictures that another project's library made, kept where the library itself is not installed.

Written by `benchmarks.foreign_grid --answers`; a picture is kept at up to 16 x 16 of its pixels.
"""

from pathlib import Path

import numpy as np

from cascade.types import ImageU8

FOLDER = Path(__file__).parent.parent / "export" / "known_answers"
SIDE = 16


def thinned(picture: ImageU8) -> ImageU8:
    """At most `SIDE` x `SIDE` of a picture's pixels, evenly spread."""
    step = max(1, len(picture) // SIDE)
    return picture[::step, ::step]


def known_answers(name: str) -> dict[str, dict[str, ImageU8]]:
    """The pictures of a library, thinned: by configuration, and by stage.

    Args:
        name: of the file without its suffix.
    """
    found: dict[str, dict[str, ImageU8]] = {}
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        for key in file.files:
            case, _, stage = key.rpartition("/")
            found.setdefault(case, {})[stage] = file[key]
    return found
