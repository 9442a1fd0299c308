"""Is white white: the corners of finished pictures, and what the pictures take without loss.

    python -m benchmarks.white_corners [--bundle DIR] [--prompts 40] [--json FILE]

Every corner is a square a sixteenth as wide as its picture. Of each size the table has the share of
corner pixels that are 255 in all channels, how many of the prompts have four corners of which at
least 99 % are, mean and deviation of the values, the share of all pixels that are white, and the
bytes of the format that goes over the wire (`--image-format auto`). Prompts are spread over the 64
of the sheets; every seed is 0.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.lib.local_cascade import open_cascade
from benchmarks.lib.prompt_lists import spread
from benchmarks.lib.record import write_record
from benchmarks.sheet import all_prompts
from cascade.assignments import AUTO
from cascade.bundle.bundle import open_bundle
from cascade.codecs.image import encode_image, lossless_format
from cascade.tuning.options import parse_engine_options
from cascade.types import ImageU8

CORNER = 16
"""A corner is one such part of the picture's width."""
NEARLY = 0.99
"""Share of a corner's pixels from which on it counts as white."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CornerFacts:
    """Of all pictures of one size."""

    pictures: int
    corner_pixels_white: float
    four_white_corners: int
    mean: float
    deviation: float
    least: int
    white_share: float
    lossless_bytes: float

    def line(self) -> str:
        """A row of the table."""
        return (
            f"{self.corner_pixels_white:10.2%}{self.four_white_corners:7} of {self.pictures}"
            f"{self.mean:10.3f}{self.deviation:9.3f}{self.least:7}{self.white_share:9.1%}"
            f"{self.lossless_bytes:12,.0f}"
        )


def corners(picture: ImageU8) -> ImageU8:
    """The four corners of `[H, W, 3]`, `[4, H / 16, W / 16, 3]`."""
    tall, wide = len(picture) // CORNER, picture.shape[1] // CORNER
    return np.stack(
        [picture[rows, columns] for rows in (np.s_[:tall], np.s_[-tall:]) for columns in
         (np.s_[:wide], np.s_[-wide:])]
    )  # fmt: skip


def corner_facts(pictures: Sequence[ImageU8]) -> CornerFacts:
    """What the corners of pictures of one size hold."""
    cut = np.stack([corners(picture) for picture in pictures])
    white = (cut == 255).all(axis=-1)
    size = [len(encode_image(p, lossless_format(*p.shape[:2]))) for p in pictures]
    return CornerFacts(
        pictures=len(pictures),
        corner_pixels_white=float(white.mean()),
        four_white_corners=int((white.mean(axis=(2, 3)) >= NEARLY).all(axis=1).sum()),
        mean=float(cut.mean()),
        deviation=float(cut.std()),
        least=int(cut.min()),
        white_share=float(np.mean([(p == 255).all(axis=-1).mean() for p in pictures])),
        lossless_bytes=float(np.mean(size)),
    )


def facts_by_size(drawn: Iterable[Sequence[ImageU8]]) -> dict[int, CornerFacts]:
    """Facts of each size, from the pictures of every prompt, the smallest first."""
    return {len(kind[0]): corner_facts(kind) for kind in zip(*drawn, strict=True)}


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", type=Path, default=Path("bundles/emoji-1"))
    add("--prompts", type=int, default=40, help="of the 64 of the sheets")
    add("--engine", default=AUTO, help="as for `cascade generate`")
    add("--precision", default=AUTO, help="ditto")
    add("--json", type=Path)
    args = parser.parse_args()
    options = parse_engine_options(args.engine, args.precision)
    cascade, run = open_cascade(open_bundle(args.bundle), options)
    drawn = [cascade.pictures(prompt, seed=0) for prompt in spread(all_prompts(), args.prompts)]
    cascade.close()
    found = facts_by_size(drawn)
    print(f"{'size':6}{'white':>10}{'prompts':>13}{'mean':>8}{'std':>9}{'least':>7}"
          f"{'picture':>9}{'bytes':>12}")  # fmt: skip
    for size, facts in found.items():
        print(f"{size:<6}{facts.line()}")
    write_record(args.json, {"run": run, "sizes": {s: asdict(f) for s, f in found.items()}})


if __name__ == "__main__":
    main()
