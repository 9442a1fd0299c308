"""What does a picture of one's own cost, and do tiles show? Seconds, and tiles against one run.

    python -m benchmarks.own_pictures [--bundle B] [--threads N] [--sheet FILE]

Pictures drawn here: slopes, text, noise. Each is enlarged by the last stage; where that takes
tiles and the graph could take all at once, it is made again in one run on the same canvas. For
each: seconds, runs of the network, the largest difference to one run in levels of 255, and the
ratio of both in dB. `--sheet` draws input (pixels repeated) and result side by side.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.starting_points import last_enlargement
from cascade.diffusion.family import diffusion_specs
from cascade.diffusion.options import SamplingOptions
from cascade.diffusion.tiles import Tiling, has_free_sides
from cascade.events import StageFinished
from cascade.families import resolved, with_own_picture
from cascade.numerics.tile_joins import TiledSide
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.stage_factory import open_stages
from cascade.tuning.plan import EnginePlan
from cascade.types import ImageU8

SIZES = ((96, 64), (250, 333), (1, 1), (4096, 16), (400, 300))
"""Width and height of the pictures."""
CELL = 320
"""Pixels of a picture's longest side on the sheet."""


def drawn(kind: str, width: int, height: int) -> ImageU8:
    """A picture: `slopes`, `text` or `noise`.

    Args:
        kind: what it shows.
        width: in pixels.
        height: in pixels.
    """
    y, x = np.mgrid[0:height, 0:width]
    if kind == "noise":
        return np.random.default_rng(7).integers(0, 256, (height, width, 3)).astype(np.uint8)
    down, along = y * 255 // max(1, height - 1), x * 255 // max(1, width - 1)
    slopes = np.stack([along, down, 255 - (along + down) // 2], -1).astype(np.uint8)
    if kind == "slopes":
        return slopes
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for row in range(0, height, 14):
        draw.text((2, row), "Edge Cascade 0123456789 " * (1 + width // 120), fill=(20, 20, 90))
    return np.asarray(picture)


def one_run(tiling: Tiling) -> Tiling:
    """The same canvas as a single tile."""
    tall, wide = tiling.canvas
    return Tiling(TiledSide(tall, tall, (0,)), TiledSide(wide, wide, (0,)))


def enlarged(stage: Stage, request: GenerateRequest, picture: ImageU8) -> ImageU8:
    """What a stage makes of a picture, without words."""
    for event in stage.run(request, Handoff(image=picture)):
        if isinstance(event, StageFinished) and event.handoff.image is not None:
            return event.handoff.image
    raise AssertionError("no picture")


def measured(bundle: Bundle, stage: Stage, picture: ImageU8) -> tuple[dict[str, Any], ImageU8]:
    """Figures of one picture, and what was made of it.

    Args:
        bundle: names the stage's entry.
        stage: the last enlargement.
        picture: `[height, width, 3]` uint8.
    """
    name = stage.names[0]
    position = bundle.manifest.position(name)
    (spec,) = diffusion_specs([bundle.manifest.components[position]])
    height, width = picture.shape[:2]
    request = with_own_picture(
        bundle.manifest.components,
        resolved(bundle.manifest.components, GenerateRequest(seed=1, last_stage=name)),
        position,
        (width, height),
    )
    plan: SamplingOptions = request.plans[name]
    assert plan.own is not None
    begun = time.perf_counter()
    made = enlarged(stage, request, picture)
    found: dict[str, Any] = {
        "made": list(plan.own.made),
        "runs": plan.own.tiling.count * plan.steps,
        "seconds": round(time.perf_counter() - begun, 2),
    }
    if plan.own.tiling.count > 1 and has_free_sides(spec):
        whole = replace(plan, own=replace(plan.own, tiling=one_run(plan.own.tiling)))
        other = enlarged(stage, request.with_plans({**request.plans, name: whole}), picture)
        apart = np.abs(made.astype(int) - other)
        found["largest"] = int(apart.max())
        error = float(np.square(apart).mean())
        found["db"] = 99.0 if error == 0 else round(10 * np.log10(255**2 / error), 1)
    return found, made


def sheet(pairs: Sequence[tuple[ImageU8, ImageU8]]) -> Image.Image:
    """Input with its pixels repeated, and result, in pairs below each other."""
    whole = Image.new("RGB", (2 * CELL + 12, (CELL + 4) * len(pairs)), "grey")
    for row, pair in enumerate(pairs):
        for column, pixels in enumerate(pair):
            picture = Image.fromarray(pixels)
            scale = CELL / max(picture.size)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            way = Image.Resampling.NEAREST if column == 0 else Image.Resampling.LANCZOS
            whole.paste(picture.resize(size, way), (column * (CELL + 4) + 4, row * (CELL + 4)))
    return whole


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as rows of text."""
    lines = [f"{'picture':<20} {'made':>12} {'runs':>5} {'s':>7} {'largest':>8} {'dB':>6}"]
    for name, row in found.items():
        made = "x".join(map(str, row["made"]))
        tail = f"{row.get('largest', '-'):>8} {row.get('db', '-'):>6}"
        lines.append(f"{name:<20} {made:>12} {row['runs']:>5} {row['seconds']:>7.2f} {tail}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write a record."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    position = bundle.manifest.position(last_enlargement(bundle.manifest))
    (stage,) = open_stages(bundle, [position], EnginePlan(threads=args.threads))
    found, pairs = {}, []
    for width, height in SIZES:
        for kind in ("slopes", "text", "noise"):
            picture = drawn(kind, width, height)
            figures, made = measured(bundle, stage, picture)
            found[f"{kind} {width}x{height}"] = figures
            if (width, height) == SIZES[0] or (width, kind) == (SIZES[1][0], "text"):
                pairs.append((picture, made))
    stage.close()
    print(table(found))
    if args.sheet is not None:
        sheet(pairs).save(args.sheet, quality=70)
    if args.json is not None:
        write_record(args.json, {"pictures": found})


if __name__ == "__main__":
    main()
