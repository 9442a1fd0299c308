"""A prepared data file of the true size, nothing drawn: 834 pictures, few of them distinct.

As large in number as the concept list asks for, so that the training commands take it; what is in
the pictures means nothing.
"""

from pathlib import Path

import numpy as np

from stages.data.captions import STYLES
from stages.data.dataset import is_held_out, pack_image, read_concepts, write_dataset
from tests.support.tiny_training import smooth_picture

WIDTH = 384
"""Of the true encoder's embeddings: the networks' presets ask for it."""


def write_made_up_data(path: Path) -> None:
    """Write the file; every 40th picture and a few held-out ones have their large rendering."""
    jobs = [(icon, style) for icon in read_concepts() for style in STYLES]
    small = [pack_image(smooth_picture(256, seed)) for seed in range(3)]
    large = pack_image(smooth_picture(1024, 0))
    held_out = [n for n, (icon, _) in enumerate(jobs) if is_held_out(icon)]
    keep = {*range(0, len(jobs), 40), *held_out}
    rng = np.random.default_rng(0)
    captions = ["a thing, noto style", "a thing"]
    write_dataset(
        path,
        [small[n % len(small)] for n in range(len(jobs))],
        [large if n in keep else b"" for n in range(len(jobs))],
        [[0, 1]] * len(jobs),
        [],
        captions,
        [rng.standard_normal((3 + n, WIDTH)).astype(np.float32) for n in range(len(captions))],
    )
