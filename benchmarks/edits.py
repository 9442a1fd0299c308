"""What do edits and kept pictures cost against the whole way, and what comes of them?

    python -m benchmarks.edits [--bundle B] [--rounds 3] [--sheet FILE]

The whole way from a prompt; image-to-image by strength; inpainting with a mask in the last stage's
size, each step taken once and several times; and the kept first picture enlarged again by its
request id, from a server in a process of its own. Processor seconds of one thread, client and
server together, medians of rounds in turns. Checked on the way: strength 0 is the picture itself
and 1 plain generation, known pixels are equal to the byte at every stage, and a kept picture comes
to the pixels of the whole way. `--sheet` draws a row of each.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.lib.record import write_record
from benchmarks.own_pictures import drawn
from cascade.boundary import Image as Picture
from cascade.bundle.manifest import Manifest
from cascade.diffusion.request_options import DiffusionOptions
from cascade.edit import Edit, at_sizes, resized
from cascade.request import GenerateRequest, KeptPicture
from cascade.types import ImageU8, PlaneU8
from runtime_client import Client

PROMPT, OTHER, SEED = "a red apple, noto style", "a green pear, noto style", 7
STRENGTHS = (0.25, 0.5, 0.75, 0.9)
RESAMPLES = (1, 4)
CELL = 192
"""Pixels of a picture's side on the sheet."""


def made_by(manifest: Manifest) -> dict[str, Picture]:
    """What each stage of a bundle makes, in order."""
    return {
        spec.name: spec.makes for spec in manifest.components if isinstance(spec.makes, Picture)
    }


def hole(side: int) -> PlaneU8:
    """A mask of a square picture: its right half."""
    mask = np.zeros((side, side), np.uint8)
    mask[:, side // 2 :] = 255
    return mask


def seconds_of(make: Callable[[], object]) -> float:
    """Processor seconds here that something takes: the same on a machine that is shared."""
    # Not `os.times`: it counts ticks of 10 ms, and a small picture takes none.
    begun = time.process_time()
    make()
    return time.process_time() - begun


def check_known(images: Mapping[str, ImageU8], edit: Edit, sizes: Mapping[str, Picture]) -> None:
    """Raise `AssertionError` unless known pixels came out to the byte at every stage."""
    parts = at_sizes(edit, [(made.width, made.height) for made in sizes.values()])
    for name, part in zip(sizes, parts, strict=True):
        assert part.redrawn is not None
        kept = ~part.redrawn
        assert np.array_equal(images[name][kept], part.picture[kept]), name


def requests_of(whole: ImageU8) -> dict[str, GenerateRequest]:
    """The ways that begin with the words and an own picture, by name."""
    plain = GenerateRequest(prompt=OTHER, seed=SEED)
    ways = {"prompt to picture": plain}
    for strength in STRENGTHS:
        edit = Edit(picture=whole, strength=strength)
        ways[f"strength {strength:g}"] = replace(plain, edit=edit)
    mask = hole(len(whole))
    for times in RESAMPLES:
        edit = Edit(picture=whole, mask=mask, resample=times)
        ways[f"mask, resample {times}"] = replace(plain, prompt=PROMPT, seed=20, edit=edit)
    return ways


def check_ends(client: Client, whole: ImageU8) -> None:
    """Raise `AssertionError` unless the ends of strength are the picture and plain generation."""
    first = next(iter(made_by(client.bundle.manifest).values()))
    none = client.generate(OTHER, seed=SEED, edit=Edit(picture=whole, strength=0.0))
    begins = next(iter(none.images.values()))
    size = (first.width, first.height)
    assert np.array_equal(begins, resized(whole, size)), "strength 0"
    full = client.generate(OTHER, seed=SEED, edit=Edit(picture=whole, strength=1.0))
    assert np.array_equal(full.image, client.generate(OTHER, seed=SEED).image), "strength 1"


def kept_rows(client: Client, rounds: int) -> tuple[dict[str, list[float]], list[ImageU8]]:
    """Wall seconds of the whole way and of a kept picture on a server, and what came of it.

    Args:
        client: all of whose stages run on a private server.
        rounds: of each, in turns.
    """
    stages = list(made_by(client.bundle.manifest))
    whole = client.generate(PROMPT, seed=SEED)
    kept = KeptPicture(request_id=whole.request_id, stage=stages[0])
    again = client.upscale_kept(kept, prompt=PROMPT, seed=SEED)
    assert np.array_equal(again.image, whole.image), "kept"
    level = {stages[1]: DiffusionOptions(augmentation=0.5)}
    others = [
        client.upscale_kept(kept, prompt=PROMPT, seed=SEED + 1).image,
        client.upscale_kept(kept, seed=SEED).image,
        client.upscale_kept(kept, prompt=PROMPT, seed=SEED, options=level).image,
    ]
    found: dict[str, list[float]] = {"server: whole": [], "server: kept": []}
    for turn in range(rounds):
        seed = SEED + 10 + turn
        done = client.generate(PROMPT, seed=seed)
        found["server: whole"].append(done.seconds["total"])
        done = client.upscale_kept(kept, prompt=PROMPT, seed=seed)
        found["server: kept"].append(done.seconds["total"])
    return found, [whole.images[stages[0]], whole.image, *others]


def sheet(rows: Sequence[Sequence[ImageU8]]) -> Image.Image:
    """Rows of pictures; small ones with their pixels repeated."""
    columns = max(map(len, rows))
    whole = Image.new("RGB", ((CELL + 4) * columns, (CELL + 4) * len(rows)), "grey")
    for down, row in enumerate(rows):
        for along, pixels in enumerate(row):
            picture = Image.fromarray(pixels)
            way = Image.Resampling.NEAREST if picture.width < CELL else Image.Resampling.LANCZOS
            scale = CELL / max(picture.size)
            size = (round(picture.width * scale), round(picture.height * scale))
            whole.paste(picture.resize(size, way), (along * (CELL + 4), down * (CELL + 4)))
    return whole


def without(picture: ImageU8, mask: PlaneU8) -> ImageU8:
    """A picture whose pixels that are made anew are white."""
    return np.where(mask[:, :, None] >= 128, np.uint8(255), picture)


def enlarged_row(client: Client) -> list[ImageU8]:
    """Pictures of one's own and what the last stage makes of them, with text across tiles."""
    row: list[ImageU8] = []
    for kind, width, height in (("slopes", 96, 64), ("text", 96, 64), ("text", 250, 250)):
        own = drawn(kind, width, height)
        row += [own, client.upscale(own, seed=1).image]
    return row


def main() -> None:
    """Measure, print, and write a record."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[list[ImageU8]] = []
    with Client(args.bundle, cut=0) as there:
        served, kept_row = kept_rows(there, args.rounds)
        count = len(there.bundle.manifest.components)
    with Client(args.bundle, cut=count, threads=1) as client:
        whole = client.generate(PROMPT, seed=SEED).image
        check_ends(client, whole)
        ways = requests_of(whole)
        images = {name: client.run(way).images for name, way in ways.items()}
        sizes = made_by(client.bundle.manifest)
        for name, way in ways.items():
            if way.edit is not None and way.edit.mask is not None:
                check_known(images[name], way.edit, sizes)
        here: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(args.rounds):
            for name, way in ways.items():
                other = replace(way, seed=SEED + 10 + turn)
                here[name].append(seconds_of(lambda other=other: client.run(other)))  # type: ignore[misc]
        if args.sheet is not None:
            last = list(sizes)[-1]
            finished = [found[last] for found in images.values()]
            mask = hole(len(whole))
            rows = [
                enlarged_row(client),
                kept_row,
                [whole, *finished[1 : 1 + len(STRENGTHS)], finished[0]],
                [whole, without(whole, mask), *finished[1 + len(STRENGTHS) :]],
            ]
            sheet(rows).save(args.sheet, quality=60, method=6)
    print_table(here, "prompt to picture", "processor s")
    print_table(served, "server: whole", "wall s")
    if args.json is not None:
        write_record(args.json, {"processor_seconds": here, "wall_seconds": served})


def print_table(found: Mapping[str, Sequence[float]], whole: str, unit: str) -> None:
    """Medians, and each against the whole way."""
    medians = {name: statistics.median(times) for name, times in found.items()}
    print(f"{'way':<20} {unit:>12} {'of the whole':>13}")
    for name, median in medians.items():
        print(f"{name:<20} {median:>12.3f} {median / medians[whole]:>12.0%}")


if __name__ == "__main__":
    main()
