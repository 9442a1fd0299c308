"""What do the pictures look like: 64 prompts of one seed, eight seeds, five guidance weights.

    python -m benchmarks.sheet --out docs/pictures
    python -m benchmarks.sheet --out docs/pictures --before OTHER_BUNDLE

Every prompt of `sheet_prompts.txt`, none left out, drawn by the bundle's own components on this
machine (the same pixels as through a server). Writes `sheet-64.webp`, `sheet-256.webp`,
`sheet-1024.webp`, `seeds.webp`, `guidance.webp` and `prompts.txt`; with another bundle also
`before-after.webp`, both bundles' pictures of a prompt side by side, and `crops.webp`, pieces of
them in full size.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.lib.local_cascade import LocalCascade, open_cascade
from benchmarks.lib.prompt_lists import read_sheet_prompts
from cascade.assignments import AUTO
from cascade.bundle.bundle import open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.tuning.options import EngineOptions, parse_engine_options
from cascade.types import ImageU8

COLUMNS = 8
SHOWN = (64, 160, 256)
"""Pixels of one picture in the sheet of its stage; larger pictures are averaged down."""
BESIDE = 208
"""Pixels of one picture beside that of another bundle."""
GAP = 6
"""White pixels around a pair."""
SEEDS, SEEDS_OF = 8, "a panda, fluent style"
WEIGHTS, WEIGHTS_OF = (1.0, 1.5, 2.0, 2.5, 3.0), "a red apple, noto style"
CROPS, CROP = (0, 13, 16, 28, 33), 320
"""Prompts by number of which a piece from the middle is shown in full size."""
WEBP_QUALITY = 72
"""A tenth of the bytes of PNG; the pictures themselves are drawn again by one command."""
Say = Callable[[str], None]


def all_prompts() -> list[str]:
    """The 64 prompts in the order of the sheets."""
    return [prompt for prompts in read_sheet_prompts().values() for prompt in prompts]


def tile(pictures: Sequence[ImageU8], columns: int = COLUMNS) -> ImageU8:
    """Pictures of one size in rows; the last row is filled with white."""
    white = np.full_like(pictures[0], 255)
    filled = [*pictures, *[white] * (-len(pictures) % columns)]
    rows = [np.concatenate(filled[i : i + columns], 1) for i in range(0, len(filled), columns)]
    return np.concatenate(rows, axis=0)


def shrunk(picture: ImageU8, size: int) -> ImageU8:
    """The picture averaged down to `size` pixels; smaller ones stay as they are."""
    if len(picture) <= size:
        return picture
    resized = Image.fromarray(picture).resize((size, size), Image.Resampling.BOX)
    return np.asarray(resized)


def middle(picture: ImageU8, size: int) -> ImageU8:
    """The middle `size` pixels in full size."""
    top = max(0, (len(picture) - size) // 2)
    return picture[top : top + size, top : top + size]


def pairs(before: Sequence[ImageU8], after: Sequence[ImageU8]) -> list[ImageU8]:
    """Each picture beside the other one, in a white frame."""
    edges = ((GAP, GAP), (GAP, GAP), (0, 0))
    return [
        np.pad(np.concatenate([one, other], axis=1), edges, constant_values=255)
        for one, other in zip(before, after, strict=True)
    ]


def write_sheets(cascade: LocalCascade, out: Path, seed: int, say: Say) -> list[ImageU8]:
    """Draw the 64 prompts, the seeds and the weights; the largest pictures come back.

    Args:
        cascade: the bundle's components.
        out: folder, made where it is missing.
        seed: of the 64 prompts.
        say: called with every file written.
    """
    out.mkdir(parents=True, exist_ok=True)
    prompts = all_prompts()
    drawn = [cascade.pictures(prompt, seed=seed) for prompt in prompts]
    for number, spec in enumerate(cascade.specs):
        size = SHOWN[min(number, len(SHOWN) - 1)]
        file = out / f"sheet-{spec.makes.width}.webp"
        save(file, tile([shrunk(pictures[number], size) for pictures in drawn]), say)
    last = min(1, len(cascade.stages) - 1)
    seeds = [cascade.pictures(SEEDS_OF, seed=n, last=last)[-1] for n in range(SEEDS)]
    save(out / "seeds.webp", tile(seeds, SEEDS), say)
    weighed = [
        cascade.pictures(WEIGHTS_OF, seed=seed, last=last, base=DiffusionOptions(guidance=weight))[
            -1
        ]
        for weight in WEIGHTS
    ]
    save(out / "guidance.webp", tile(weighed, len(WEIGHTS)), say)
    (out / "prompts.txt").write_text("\n".join(prompts) + "\n")
    return [pictures[-1] for pictures in drawn]


def write_comparison(
    before: LocalCascade, after: Sequence[ImageU8], out: Path, seed: int, say: Say
) -> None:
    """Another bundle's pictures of the same prompts and seed beside these."""
    earlier = [before.pictures(prompt, seed=seed)[-1] for prompt in all_prompts()]
    small = [[shrunk(picture, BESIDE) for picture in kind] for kind in (earlier, after)]
    save(out / "before-after.webp", tile(pairs(small[0], small[1])), say)
    pieces = [[middle(kind[i], CROP) for i in CROPS] for kind in (earlier, after)]
    save(out / "crops.webp", tile(pairs(pieces[0], pieces[1]), 1), say)


def save(path: Path, sheet: ImageU8, say: Say) -> None:
    """Write one sheet."""
    Image.fromarray(sheet).save(path, quality=WEBP_QUALITY, method=6)
    say(f"{path}: {sheet.shape[1]}x{sheet.shape[0]}, {path.stat().st_size / 1e6:.1f} MB")


def draw_all(
    bundle: Path,
    before: Path | None,
    out: Path,
    *,
    engine_options: EngineOptions,
    seed: int,
    say: Say,
) -> None:
    """All sheets of a bundle, beside another one where there is one."""
    cascade, _ = open_cascade(open_bundle(bundle), engine_options)
    after = write_sheets(cascade, out, seed, say)
    cascade.close()
    if before is not None:
        other, _ = open_cascade(open_bundle(before), engine_options)
        write_comparison(other, after, out, seed, say)
        other.close()


def main() -> None:
    """Draw the sheets."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", type=Path, default=Path("bundles/emoji-1"))
    add("--before", type=Path, help="another bundle, shown beside it")
    add("--out", type=Path, default=Path("docs/pictures"))
    add("--seed", type=int, default=0)
    add("--engine", default=AUTO, help="as for `cascade generate`")
    add("--precision", default=AUTO, help="ditto")
    args = parser.parse_args()
    engine_options = parse_engine_options(args.engine, args.precision)
    draw_all(
        args.bundle, args.before, args.out, engine_options=engine_options, seed=args.seed, say=print
    )


if __name__ == "__main__":
    main()
