"""Do the pictures of a cascade of pixels by groups show what was asked, beside another cascade's?

    python -m benchmarks.pixel_quality --beside bundles/emoji-1 [--captions 130] [--json FILE]
    python -m benchmarks.pixel_quality --sweep [--captions 44]
    python -m benchmarks.pixel_quality --sweep-guidance [--captions 130]
    python -m benchmarks.pixel_quality --sweep-floor [--captions 130]
    python -m benchmarks.pixel_quality --from-truth [--captions 130]
    python -m benchmarks.pixel_quality --sheet FILE [--captions 24]

Draws captions as trained, the same prompts and seeds for both bundles, up to 64x64, as a client
with everything on the device does. The probe (`cascade probe`) names what is drawn. `--sweep` draws
with every temperature and floor of `TEMPERATURES` and `FLOORS` instead, in all stages alike;
`--sweep-guidance` with every weight of `GUIDANCES` in each stage that reads the text;
`--sweep-floor` with every floor of `LATER_FLOORS` in all stages but the first, and counts specks.
`--from-truth` begins with every stage in turn, from the true smaller picture: what is lost is lost
before the first row that is good. `--sheet` needs no probe: renderings of the captions, and what
the first stage and all of them draw.
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.base_quality import Answers, Draw, Judge, answer, make_judge, named, variety
from benchmarks.lib.prompt_lists import PromptQuestion, spread, trained_captions
from benchmarks.lib.record import write_record
from cascade.boundary import Context, value_of
from cascade.boundary import Image as Picture
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.pixels.family import pixel_specs
from cascade.pixels.request_options import PixelOptions
from cascade.pixels.spec import PASS, PixelSpec
from cascade.request import FamilyOptions, GenerateRequest
from cascade.types import ImageU8
from runtime_client import Client
from stages.data.dataset import Dataset, open_dataset
from stages.evaluation.pixel_bits import parent_by
from stages.evaluation.probe import SIZE, load_probe

TEMPERATURES, FLOORS = (4, 6, 8, 10, 12), (0, 2, 4)
"""In sixteenths; what a sweep tries of each."""
GUIDANCES = (16, 24, 32)
"""Likewise; 16 is none."""
LATER_FLOORS = (0, 2, 8, 16)
"""In sixteenths, of all stages but the first."""
UNLIKE, ALONE = 60, 6
"""Levels of 255 by which a speck differs from its neighbours, and from how many of eight."""
COLUMNS, CELL = 12, 96
"""Of a sheet; pixels per side of a cell."""
SEEDS, PROMPTS = 8, 6
"""Seeds of one prompt, and how many prompts, for the distance between pictures of one prompt."""
Row = dict[str, Any]


def judged_stage(bundle: Bundle, size: int) -> str:
    """The name of the stage that makes pictures of a size."""
    for spec in bundle.manifest.components:
        if isinstance(spec.makes, Picture) and spec.makes.width == size:
            return spec.name
    raise SystemExit(f"{bundle.folder}: no stage makes pictures of {size}x{size} pixels")


def drawing(client: Client, stage: str, options: Mapping[str, FamilyOptions]) -> Draw:
    """Pictures of one stage of an opened cascade."""

    def draw(prompt: str, seed: int) -> ImageU8:
        request = GenerateRequest(prompt=prompt, seed=seed, options=options, last_stage=stage)
        return client.run(request).image

    return draw


def measured(
    folder: Path, judged: Judge, asked: Sequence[PromptQuestion], seeds: int = SEEDS
) -> Row:
    """One bundle by its defaults: what the probe names, and the distance between seeds."""
    bundle = open_bundle(folder)
    with Client(bundle, cut=len(bundle.manifest.components), threads=1) as client:
        draw = drawing(client, judged_stage(bundle, len(judged.real[0])), {})
        found = named(judged, answer(draw, asked))
        apart = variety(judged, draw, [q.prompt for q in spread(asked, PROMPTS)], seeds)
    return {"bundle": bundle.manifest.name, **found, "over_seeds": apart["over_seeds"]}


def swept(folder: Path, judged: Judge, asked: Sequence[PromptQuestion]) -> list[Row]:
    """One row for every temperature and floor."""
    bundle = open_bundle(folder)
    stage, rows = judged_stage(bundle, len(judged.real[0])), []
    names = [spec.name for spec in pixel_specs(bundle.manifest.components)]
    with Client(bundle, cut=len(bundle.manifest.components), threads=1) as client:
        for temperature, floor in product(TEMPERATURES, FLOORS):
            chosen = PixelOptions(temperature_16=temperature, floor_16=floor)
            draw = drawing(client, stage, dict.fromkeys(names[: names.index(stage) + 1], chosen))
            found = named(judged, answer(draw, asked))
            rows.append({"temperature_16": temperature, "floor_16": floor, **found})
            show(rows[-1:])
    return rows


def guided(folder: Path, judged: Judge, asked: Sequence[PromptQuestion]) -> list[Row]:
    """One row for every weight of guidance in every stage that reads the text."""
    bundle = open_bundle(folder)
    stage, rows = judged_stage(bundle, len(judged.real[0])), []
    readers = [
        spec.name
        for spec in pixel_specs(bundle.manifest.components)
        if any(tensor.name == "context_mask" for tensor in spec.graphs[PASS].inputs)
    ]
    with Client(bundle, cut=len(bundle.manifest.components), threads=1) as client:
        for weights in product(GUIDANCES, repeat=len(readers)):
            chosen = dict(zip(readers, weights, strict=True))
            options = {name: PixelOptions(guidance_16=weight) for name, weight in chosen.items()}
            found = named(judged, answer(drawing(client, stage, options), asked))
            rows.append({"guidance_16": chosen, **found})
            show(rows[-1:])
    return rows


def floored(folder: Path, judged: Judge, asked: Sequence[PromptQuestion]) -> list[Row]:
    """One row for every floor of the stages behind the first, then the true renderings' specks."""
    bundle = open_bundle(folder)
    stage = judged_stage(bundle, len(judged.real[0]))
    later = [spec.name for spec in pixel_specs(bundle.manifest.components)][1:]
    rows: list[Row] = []
    with Client(bundle, cut=len(bundle.manifest.components), threads=1) as client:
        for floor in LATER_FLOORS:
            chosen = PixelOptions(floor_16=floor)
            options = dict.fromkeys(later[: later.index(stage) + 1], chosen)
            answers = answer(drawing(client, stage, options), asked)
            found = {**named(judged, answers), "specks": mean_specks(answers.pictures)}
            rows.append({"floor_16": floor, **found})
            show(rows[-1:])
    wanted = [(question.icon, question.style) for question in asked]
    true = [judged.real[judged.shown.index(pair)] for pair in wanted]
    rows.append({"floor_16": "of the truth", "specks": mean_specks(true)})
    show(rows[-1:])
    return rows


def mean_specks(pictures: Sequence[ImageU8]) -> float:
    """Specks of a picture, in the mean over pictures `[H, W, 3]`."""
    return round(sum(specks(picture) for picture in pictures) / len(pictures), 1)


def specks(picture: ImageU8) -> int:
    """How many pixels of `[H, W, 3]` differ from all but two of their neighbours; see `UNLIKE`."""
    height, width, _ = picture.shape
    wide = np.pad(picture.astype(np.int16), ((1, 1), (1, 1), (0, 0)), mode="edge")
    places = [place for place in product(range(3), repeat=2) if place != (1, 1)]
    around = np.stack([wide[dy : dy + height, dx : dx + width] for dy, dx in places])
    unlike = np.abs(around - picture).max(axis=-1) > UNLIKE
    return int((unlike.sum(axis=0) >= ALONE).sum())


def begun(folder: Path, judged: Judge, data: Dataset, asked: Sequence[PromptQuestion]) -> list[Row]:
    """One row for every stage to begin with; all but the first get the true smaller picture."""
    bundle, size = open_bundle(folder), len(judged.real[0])
    stage = judged_stage(bundle, size)
    specs = pixel_specs(bundle.manifest.components)
    specs = specs[: [spec.name for spec in specs].index(stage) + 1]
    places = rendering_places(data)
    true = [data.picture(places[question.icon, question.style], size) for question in asked]
    with Client(bundle, cut=len(bundle.manifest.components), threads=1) as client:
        first = named(judged, answer(drawing(client, stage, {}), asked))
        rows: list[Row] = [{"first": specs[0].name, **first}]
        for spec in specs[1:]:
            reads = value_of(Context, spec.starts_from) is not None
            pictures = []
            for seed, question in enumerate(asked):
                request = GenerateRequest(
                    prompt=question.prompt if reads else None,
                    picture=true_parent(spec, true[seed]),
                    own_picture=True,
                    seed=seed,
                    first_stage=spec.name,
                    last_stage=stage,
                )
                pictures.append(client.run(request).image)
            rows.append({"first": spec.name, **named(judged, Answers(asked, pictures))})
    return rows


def true_parent(spec: PixelSpec, picture: ImageU8) -> ImageU8:
    """What a stage with a parent starts from when it makes its size of a picture `[H, W, 3]`."""
    (height, _), (low, _) = spec.size, spec.small or spec.size
    step = len(picture) // height
    made = picture[::step, ::step]
    return np.ascontiguousarray(parent_by(spec.scheme, height // low, made))


def rendering_places(data: Dataset) -> dict[tuple[str, str], int]:
    """Where the trained renderings are, by concept and style."""
    return {(e.icon, e.style): n for n, e in enumerate(data.examples) if not e.held_out}


def sheet(folder: Path, data: Dataset, asked: Sequence[PromptQuestion]) -> Image.Image:
    """Rows of a dozen: the rendering of a caption, below it the first picture, below it the last.

    Every picture is enlarged to `CELL` pixels, and none is left out.
    """
    places = rendering_places(data)
    bundle = open_bundle(folder)
    first, last = pixel_specs(bundle.manifest.components)[0].name, judged_stage(bundle, SIZE)
    dozens = -(-len(asked) // COLUMNS)
    drawn = Image.new("RGB", (COLUMNS * CELL, 3 * dozens * CELL), "white")
    with Client(bundle, cut=len(bundle.manifest.components), threads=1) as client:
        for seed, question in enumerate(asked):
            request = GenerateRequest(prompt=question.prompt, seed=seed, last_stage=last)
            images = client.run(request).images
            true = data.picture(places[question.icon, question.style], 256)
            for row, pixels in enumerate((true, images[first], images[last])):
                down = row == 0
                kind = Image.Resampling.LANCZOS if down else Image.Resampling.NEAREST
                cell = Image.fromarray(pixels).resize((CELL, CELL), kind)
                across, block = seed % COLUMNS, seed // COLUMNS
                drawn.paste(cell, (across * CELL, (3 * block + row) * CELL))
    return drawn


def show(rows: Sequence[Row]) -> None:
    """Print rows as they are."""
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def main() -> None:
    """Print, write."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", type=Path, default=Path("bundles/emoji-pixels-1"))
    add("--beside", type=Path, help="another bundle, asked the same")
    add("--data", type=Path, default=Path("data/emoji.npz"), help="prepared data")
    add("--checkpoints", type=Path, default=Path("checkpoints"), help="folder with the probe")
    add("--captions", type=int, default=130, help="prompts to ask, each of another concept")
    add("--sweep", action="store_true", help="try temperatures and floors instead")
    add("--sheet", type=Path, help="write a picture of the first captions instead")
    add("--sweep-guidance", action="store_true", help="try weights of guidance instead")
    add("--sweep-floor", action="store_true", help="try floors of the later stages instead")
    add("--from-truth", action="store_true", help="begin with every stage in turn instead")
    add("--json", type=Path, help="where the figures go")
    args = parser.parse_args()
    data = open_dataset(args.data)
    if args.sheet is not None:
        picture = sheet(args.bundle, data, trained_captions(data, args.captions))
        picture.save(args.sheet, quality=70)
        return
    probe, facts = load_probe(args.checkpoints / "probe")
    judged = make_judge(probe, facts["names"], data, SIZE)
    asked = trained_captions(data, args.captions)
    if args.sweep:
        rows = swept(args.bundle, judged, asked)
    elif args.sweep_guidance:
        rows = guided(args.bundle, judged, asked)
    elif args.sweep_floor:
        rows = floored(args.bundle, judged, asked)
    elif args.from_truth:
        rows = begun(args.bundle, judged, data, asked)
        show(rows)
    else:
        rows = [
            measured(folder, judged, asked)
            for folder in (args.bundle, args.beside)
            if folder is not None
        ]
        show(rows)
    write_record(args.json, {"probe": facts["check"], "rows": rows})


if __name__ == "__main__":
    main()
