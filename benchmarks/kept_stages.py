"""What is saved where a kept stage is enlarged again? Seconds against the whole way.

    python -m benchmarks.kept_stages [--bundle B] [--prompt P] [--rounds 5] [--sheet FILE]

The whole way once, then in turns: the whole way with another seed, and the stages that enlarge,
begun from the kept picture of every stage before them, with the same prompt and another seed.
Processor seconds of one thread, everything in this process. With the first seed each way must come
to the pixels of the whole way, which is checked.
`--sheet` draws what came of the kept picture of the first stage: the whole way, other seeds, words
left out, and the largest augmentation.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.lib.record import write_record
from cascade.boundary import Image as Picture
from cascade.boundary import value_of
from cascade.bundle.manifest import Manifest
from cascade.diffusion.family import diffusion_specs
from cascade.diffusion.request_options import DiffusionOptions
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from runtime_client import Client

SEED = 7
CELL = 240
"""Pixels of a picture's side on the sheet."""


def kept_starts(manifest: Manifest) -> list[tuple[str, str]]:
    """Each stage whose picture the next one enlarges, and that next one."""
    specs = manifest.components
    return [
        (before.name, spec.name)
        for before, spec in pairwise(specs)
        if value_of(Picture, spec.starts_from) is not None and isinstance(before.makes, Picture)
    ]


def seconds_of(make: Callable[[], object]) -> float:
    """Processor seconds that something takes: the same on a machine that is shared."""
    begun = time.process_time()
    make()
    return time.process_time() - begun


def variants(client: Client, again: GenerateRequest, first: str) -> list[ImageU8]:
    """Other pictures of one kept stage.

    Args:
        client: makes them.
        again: with the seed of the whole way.
        first: the stage that begins.
    """
    (spec,) = diffusion_specs(c for c in client.bundle.manifest.components if c.name == first)
    others = [replace(again, seed=SEED + number) for number in (1, 2)]
    others.append(replace(again, prompt=None))
    if spec.augmentation is not None:
        level = DiffusionOptions(augmentation=spec.augmentation.highest)
        others.append(replace(again, options={first: level}))
    return [client.run(other).image for other in others]


def sheet(pictures: Sequence[ImageU8]) -> Image.Image:
    """Pictures beside each other."""
    whole = Image.new("RGB", ((CELL + 4) * len(pictures), CELL), "grey")
    for column, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels)
        way = Image.Resampling.NEAREST if picture.width < CELL else Image.Resampling.LANCZOS
        whole.paste(picture.resize((CELL, CELL), way), (column * (CELL + 4), 0))
    return whole


def main() -> None:
    """Measure, print, and write a record."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--prompt", default="a red apple, noto style")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with Client(args.bundle, cut=0) as probe:
        count = len(probe.bundle.manifest.components)
    with Client(args.bundle, cut=count, threads=1) as client:
        request = GenerateRequest(prompt=args.prompt, seed=SEED)
        whole = client.run(request)
        ways = {"whole": request}
        for kept, first in kept_starts(client.bundle.manifest):
            again = replace(
                request, picture=whole.images[kept], own_picture=True, first_stage=first
            )
            assert np.array_equal(client.run(again).image, whole.image), kept
            ways[f"from {kept}"] = again
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(args.rounds):
            for name, way in ways.items():
                other = replace(way, seed=SEED + 10 + turn)
                spent[name].append(seconds_of(lambda other=other: client.run(other)))  # type: ignore[misc]
        if args.sheet is not None:
            kept, first = kept_starts(client.bundle.manifest)[0]
            others = variants(client, ways[f"from {kept}"], first)
            sheet([whole.images[kept], whole.image, *others]).save(args.sheet, quality=70)
    medians = {name: statistics.median(times) for name, times in spent.items()}
    print(f"{'way':<16} {'s':>8} {'of the whole':>13}")
    for name, median in medians.items():
        print(f"{name:<16} {median:>8.3f} {median / medians['whole']:>12.0%}")
    if args.json is not None:
        write_record(args.json, {"seconds": spent, "medians": medians})


if __name__ == "__main__":
    main()
