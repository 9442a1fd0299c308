"""What does each picture format cost, and what does it lose? Bytes, dB and processor time.

    python -m benchmarks.picture_formats [--bundle B] [--pictures N] [--json FILE]

Draws N pictures by the whole cascade in this process, and sends each stage's picture through every
format that Pillow writes here. For each stage and format: bytes as a share of raw pixels, PSNR from
them, and milliseconds of a processor to encode and to decode; medians. Half a minute for 6.
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.lib.record import write_record
from cascade.codecs.image import FORMATS, decode_image, encode_image, writable_formats
from cascade.types import ImageU8
from runtime_client.client import Client

PROMPTS = (
    "a red apple, noto style",
    "a robot, fluent style",
    "a cactus, twemoji style",
    "a tiger, noto style",
    "a pizza, fluent style",
    "a rocket, twemoji style",
)


def psnr_db(right: ImageU8, found: ImageU8) -> float:
    """Peak signal-to-noise ratio of two `[height, width, 3]` pictures; infinite for equal ones."""
    error = float(np.mean((right.astype(np.float64) - found) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def measured(picture: ImageU8, format_: Any) -> tuple[float, float, float, float]:
    """Share of raw bytes, dB, milliseconds to encode and to decode."""
    begun = time.process_time()
    data = encode_image(picture, format_)
    packed = time.process_time()
    found = decode_image(data, format_, picture.shape[:2], field="picture")
    done = time.process_time()
    share = len(data) / picture.size
    return share, psnr_db(picture, found), 1000 * (packed - begun), 1000 * (done - packed)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--pictures", type=int, default=len(PROMPTS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    with Client(args.bundle, cut="auto") as client:
        drawn = [client.generate(p, seed=1).images for p in PROMPTS[: args.pictures]]
    rows = []
    print(f"{'stage':8} {'format':8} {'share':>8} {'dB':>8} {'encode ms':>10} {'decode ms':>10}")
    for stage in drawn[0]:
        for format_ in (name for name in FORMATS if name in writable_formats()):
            found = [measured(images[stage], format_) for images in drawn]
            share, quality, pack, unpack = (median(column) for column in zip(*found, strict=True))
            rows.append({"stage": stage, "format": format_, "share": share, "db": quality})
            rows[-1] |= {"encode_ms": pack, "decode_ms": unpack}
            print(f"{stage:8} {format_:8} {share:8.4f} {quality:8.1f} {pack:10.1f} {unpack:10.1f}")
    if args.json is not None:
        write_record(args.json, {"rows": rows})


if __name__ == "__main__":
    main()
