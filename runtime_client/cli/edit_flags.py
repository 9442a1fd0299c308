"""The flags of `cascade generate` that shape a picture: one to make it of, its size, its vectors.

Knows argparse and files; what an edit does, the stages know.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
from pathlib import Path
from typing import Any

from cascade.edit import DEFAULT_STRENGTH, MAX_RESAMPLE, Edit
from cascade.errors import InvalidRequest
from cascade.types import PlaneU8


def add_edit_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--edit`, what goes with it, and `--size`."""
    add = parser.add_argument
    # fmt: off
    add("--edit", type=Path, metavar="PICTURE", help="make the picture of this one (image-to-image): PNG, WebP, JPEG, AVIF, GIF, BMP, TIFF or PPM of any size, the middle of it (default: none)")
    add("--strength", type=float, metavar="S", help=f"with --edit: share of the first stage's steps, 0 to 1; 0 is the picture itself, 1 begins from noise alone (default: {DEFAULT_STRENGTH:g}; 1 with --mask)")
    add("--mask", type=Path, metavar="PICTURE", help="with --edit: a picture of the same size; what is white is made anew, what is black is kept to the byte (inpainting; default: none)")
    add("--resample", type=int, metavar="N", help=f"with --mask: how often each step of the first stage is taken, so that both parts fit (RePaint), 1 to {MAX_RESAMPLE} (default: 1)")
    add("--size", type=size, metavar="WxH", help="width and height of the picture in pixels, where the first stage's graph has free sides (default: the bundle's)")
    # fmt: on
    add_vector_flag(parser)


def add_vector_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--vector`."""
    parser.add_argument(
        "--vector",
        dest="vectors",
        type=vector,
        metavar="NAME=NUMBERS",
        nargs="+",
        action="extend",
        default=[],
        help="numbers that stages read beside the words, with commas between them, or @FILE.npy; `cascade inspect` lists their names (default: none, or the bundle's)",
    )


def vector(text: str) -> tuple[str, str]:
    """A parser of `NAME=NUMBERS`; what the numbers are, `vectors_of` reads."""
    name, equals, numbers = text.partition("=")
    if not equals or not name or not numbers:
        raise argparse.ArgumentTypeError(
            f"expected NAME=NUMBERS, such as sizes=64,64, got {text[:80]!r}"
        )
    return name, numbers


def vectors_of(args: argparse.Namespace) -> dict[str, Any]:
    """The vectors from the command line, by name.

    Raises:
        InvalidRequest: a file cannot be read, or something else than a number is given.
    """
    found: dict[str, Any] = {}
    for name, numbers in args.vectors:
        field = f"vectors.{name[:64]}"
        if name in found:
            raise InvalidRequest(f"{field}: it is given twice", field=field)
        try:
            if numbers.startswith("@"):
                import numpy as np  # noqa: PLC0415

                # Numbers alone: a pickle in the file would run as code.
                found[name] = np.load(numbers[1:], allow_pickle=False)
            else:
                found[name] = [float(number) for number in numbers.split(",")]
        except (OSError, ValueError, EOFError) as exc:
            raise InvalidRequest(
                f"{field}: expected numbers with commas between them, or @FILE.npy: {exc}",
                field=field,
            ) from exc
    return found


def size(text: str) -> tuple[int, int]:
    """A parser of `WxH`."""
    wide, by, tall = text.partition("x")
    if not by or not wide.isdecimal() or not tall.isdecimal():
        raise argparse.ArgumentTypeError(f"expected WxH, such as 768x512, got {text!r}")
    return int(wide), int(tall)


def edit_of(args: argparse.Namespace) -> Edit | None:
    """The edit from the command line; None where there is none.

    Raises:
        ImageCodecError: a file is not a readable picture.
        InvalidRequest: a flag is wrong, or goes with one that is not given.
    """
    if args.edit is None:
        lost = [
            name for name in ("strength", "mask", "resample") if getattr(args, name) is not None
        ]
        if lost:
            raise InvalidRequest(f"{lost[0]}: it goes with --edit; give a picture", field=lost[0])
        return None
    from runtime_client.cli.own_picture import read_own_picture, refusal  # noqa: PLC0415

    pixels = read_own_picture(args.edit)
    if pixels.alpha is not None:
        raise refusal(args.edit, "it is transparent, and what is made of it is not: flatten it")
    return Edit(
        picture=pixels.rgb,
        mask=None if args.mask is None else mask_of(args.mask),
        strength=args.strength,
        resample=1 if args.resample is None else args.resample,
    )


def mask_of(path: Path) -> PlaneU8:
    """The mask in a picture file, `[height, width]` uint8: the brightest of a pixel's channels."""
    from runtime_client.cli.own_picture import read_own_picture  # noqa: PLC0415

    mask: PlaneU8 = read_own_picture(path).rgb.max(axis=2)
    return mask
