"""How good are the pixel upscalers, beside the diffusion upscaler and Lanczos on the same pictures?

    python -m benchmarks.pixel_upscaling [--checkpoints checkpoints] [--pictures 18] [--json FILE]

Held-out pictures averaged to 64 pixels, then enlarged: to 128 by px128, to 256 by px128 and px256,
by sr256 of a bundle (lowest augmentation, the true picture's caption) and by Lanczos. Means of PSNR
and SSIM against the truth, and sharpness as a share of the truth's. Pixel stages run as they are
exported, in torch.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.local_cascade import LocalCascade, open_cascade
from benchmarks.lib.record import write_record
from benchmarks.upscaling_quality import held_out_examples, true_picture
from cascade.assignments import AUTO
from cascade.bundle.bundle import open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.pixels.mixture import Sharpness
from cascade.tuning.options import parse_engine_options
from cascade.types import Array, ImageU8
from stages.data.dataset import Dataset, box_average, open_dataset
from stages.evaluation.metrics import psnr_db, sharpness, ssim
from stages.evaluation.pixel_bits import load_frozen
from stages.evaluation.pixel_sampling import Walker, sampled
from stages.evaluation.upscaling import lanczos
from stages.pixel_presets import PIXEL_PRESETS

LOW = 64
SIZES = {"px128": 128, "px256": 256}
MEASURES = ("psnr_db", "ssim", "sharpness")


def walkers_of(checkpoints: Path) -> list[Walker]:
    """The trained pixel upscalers."""
    presets = (PIXEL_PRESETS[name] for name in SIZES)
    return [Walker(preset, load_frozen(preset, checkpoints / preset.name)) for preset in presets]


def by_pixels(walkers: Sequence[Walker], low: ImageU8, seed: int) -> dict[tuple[str, int], ImageU8]:
    """One picture through the pixel upscalers, by their default temperature and floor."""
    preset = walkers[0].preset
    silent: Array = np.zeros((0, 1), np.float32)
    made = sampled(
        walkers,
        [silent],
        [seed],
        parents=low[None],
        sharpness=Sharpness(preset.temperature_16, preset.floor_16),
    )
    return {("pixels", len(found[0])): found[0] for found in made}


def by_diffusion(cascade: LocalCascade) -> Callable[[ImageU8, str], ImageU8]:
    """The bundle's stage from 64 to 256 pixels, at its lowest augmentation."""
    number = next(n for n, s in enumerate(cascade.specs) if s.low and s.low.width == LOW)
    known = cascade.specs[number].augmentation
    options = DiffusionOptions(augmentation=None if known is None else known.lowest)
    return lambda low, said: cascade.picture(number, said, image=low, options=options)


def measured(
    walkers: Sequence[Walker], enlarge: Callable[[ImageU8, str], ImageU8], data: Dataset, count: int
) -> list[dict[str, Any]]:
    """A row for each way and size."""
    scores: dict[tuple[str, int], list[tuple[float, ...]]] = defaultdict(list)
    for seed, index in enumerate(held_out_examples(data, count)):
        caption = data.captions[data.examples[index].captions[0]]
        low = box_average(data.picture(index, 256), 256 // LOW)
        found = {
            **by_pixels(walkers, low, seed),
            ("sr256", 256): enlarge(low, caption),
            **{("lanczos", size): lanczos(low, size) for size in SIZES.values()},
        }
        for (way, size), picture in found.items():
            truth = true_picture(data, index, size)
            share = sharpness(picture) / sharpness(truth)
            scores[way, size].append((psnr_db(picture, truth), ssim(picture, truth), share))
    return [
        {"way": way, "size": size, "pictures": len(rows)}
        | {
            n: round(float(np.mean(v)), 3)
            for n, v in zip(MEASURES, zip(*rows, strict=True), strict=True)
        }
        for (way, size), rows in sorted(scores.items(), key=lambda item: item[0][1])
    ]


def main() -> None:
    """Print, write."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", type=Path, default=Path("bundles/emoji-1"), help="has sr256")
    add("--data", type=Path, default=Path("data/emoji.npz"), help="prepared data")
    add("--checkpoints", type=Path, default=Path("checkpoints"), help="with px128 and px256")
    add("--pictures", type=int, default=18, help="held-out pictures")
    add("--json", type=Path, help="where the figures go")
    args = parser.parse_args()
    cascade, _ = open_cascade(open_bundle(args.bundle), parse_engine_options(AUTO, "fp32", 1))
    data = open_dataset(args.data)
    rows = measured(walkers_of(args.checkpoints), by_diffusion(cascade), data, args.pictures)
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    write_record(args.json, {"rows": rows})


if __name__ == "__main__":
    main()
