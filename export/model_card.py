"""The model card of a bundle: what it was made of, how good it is, where it ends.

Written from the manifest, for every cascade, and from the figures of `benchmarks/quality.py` where
there are any, which is for the reference cascade; a number that is in neither is not in the card.
The card lies in the bundle, listed with its hash like every other file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cascade.boundary import Image
from cascade.bundle.bundle import open_bundle
from cascade.bundle.manifest import Manifest
from cascade.diffusion.family import diffusion_specs
from cascade.errors import InvalidRequest
from cascade.families import family_of
from cascade.family import ComponentSpec
from cascade.pixels.family import pixel_specs
from cascade.precision import BLOCKS
from cascade.text.family import text_encoder_of
from export.bundle_folder import file_entries, write_bundle
from export.quality_tables import NOTHING, quality_tables, table

CARD = "MODEL_CARD.md"
DATA = """\
Noto Emoji (Apache-2.0), Fluent Emoji flat (MIT) and Twemoji (CC-BY 4.0), drawn from SVG on white at
up to 1024x1024; captions from the icons' names and from emojibase keywords (MIT), naming the style
or not. One concept in 16, chosen by a hash of its name, is kept from all training; every figure
that says "held out" is of those. No photographs, no people's data, no scraped captions.
"""
LIMITS = """\
- It draws single emoji-like objects on white, in three styles, from short English prompts. Other
  subjects, scenes, counts, text and photographs are outside of what it has seen.
- The text encoder is small and frozen: prompts beyond the captions' vocabulary are served by
  likeness.
- What was seen wrong in its pictures is described in `docs/reference/model-card.md`, from sheets on
  which no picture is left out.
- The probe that judges it was trained on few renderings of each concept; the last rows of its table
  say how far its word counts.
"""
DEMONSTRATION = """\
Bits per value are those of held-out pictures, of the stage and of lossless codecs. A sheet, and how
many pictures show their prompt, are in `docs/evidence/pixel-training.md`. A cascade of pixels by
groups that was trained for about five hours of one core draws colours and rough shapes of what it
was trained on, loses thin things and most faces, leaves specks along edges.
"""
"""Of cascades of pixels by groups alone."""
UNMEASURED = """\
Not measured: no figures were given with the networks. How far the graphs are from the networks is
in the table above.
"""
REPRODUCE = """\
```
cascade data fetch && cascade data prepare
cascade train base && cascade train sr256 && cascade train sr1024     # then `cascade distill`
cascade train sr256 --regression && cascade train sr1024 --regression # the yardstick
cascade probe                                                         # the judge
cascade export --out {folder}
python -m benchmarks.quality --bundle {folder} --checkpoints checkpoints --out quality
cascade card {folder} --quality quality/quality.json
```
"""


def add_card(folder: Path, quality: Path | None = None) -> Manifest:
    """Write the card into a bundle; its id changes, its graphs do not.

    Args:
        folder: of the bundle.
        quality: what `benchmarks/quality.py` wrote about these very graphs; None for a card of what
            the manifest says alone.

    Raises:
        InvalidRequest: there are no figures, or they are not those of this bundle's graphs.
    """
    bundle = open_bundle(folder)
    bundle.verify_files()
    listed = [entry for entry in bundle.manifest.files if entry.name != CARD]
    # As they lie: files of weights are larger than memory should be.
    files: dict[str, bytes | Path] = {entry.name: folder / entry.name for entry in listed}
    if quality is None:
        card = model_card(bundle.manifest)
    else:
        card = measured_card(bundle.manifest, quality, folder)
    files[CARD] = card.encode()
    manifest = replace(bundle.manifest, files=file_entries(files, listed))
    write_bundle(folder, manifest, files)
    return manifest


def measured_card(manifest: Manifest, quality: Path, folder: Path) -> str:
    """The card of the reference cascade, with its figures.

    Raises:
        InvalidRequest: there are no figures, or they are not those of this bundle's graphs.
    """
    figures = read_figures(quality)
    try:
        check_same_graphs(manifest, figures)
        return reference_card(manifest, figures, folder)
    except (KeyError, TypeError, AttributeError) as exc:
        why = f"it has no {exc}" if isinstance(exc, KeyError) else "it is of another form"
        raise InvalidRequest(
            f"quality: {quality} is not what benchmarks.quality writes: {why}", field="quality"
        ) from exc


def read_figures(quality: Path) -> Mapping[str, Any]:
    """What `benchmarks/quality.py` wrote.

    Raises:
        InvalidRequest: there is no such file, or it is no JSON.
    """
    try:
        figures: dict[str, Any] = json.loads(quality.read_text())
    except OSError as exc:
        raise InvalidRequest(
            f"quality: {quality}: {exc.strerror}: measure with `python -m benchmarks.quality --out "
            f"{quality.parent}` first, which needs the prepared data and a probe",
            field="quality",
        ) from exc
    except ValueError as exc:
        raise InvalidRequest(f"quality: {quality} is not JSON: {exc}", field="quality") from exc
    return figures


def check_same_graphs(manifest: Manifest, figures: Mapping[str, Any]) -> None:
    """Refuse figures of other graphs.

    Raises:
        InvalidRequest: naming the first file that differs.
    """
    measured = figures["bundle"]["files"]
    here = {entry.name: entry.sha256 for entry in manifest.files if entry.name != CARD}
    for name in sorted(set(here) | set(measured)):
        if here.get(name) != measured.get(name):
            raise InvalidRequest(
                f"quality: {name} is not the file that was measured: run benchmarks.quality again",
                field="quality",
            )


def reference_card(manifest: Manifest, figures: Mapping[str, Any], folder: Path) -> str:
    """The card as Markdown, with what only the reference cascade's authors and judge can say."""
    machine = figures["surroundings"]
    measured = (
        f"Measured by `python -m benchmarks.quality` at commit {machine['commit']} on "
        f"{machine['processor']}, {machine['cores']} cores; run by "
        + ", ".join(f"{name}: {how}" for name, how in figures["bundle"]["run"].items())
        + ". SSIM and PSNR are means over pictures of 8-bit RGB. From true pictures the stages "
        "take the lowest augmentation; the default, meant for generated pictures, stands apart.\n"
    )
    return card_text(
        manifest,
        ("Data", DATA),
        ("Licences", f"{manifest.licence}.\n"),
        ("Training", training_table(manifest)),
        ("How it is sampled", sampling_table(figures)),
        ("From torch to ONNX", parity_table(manifest)),
        ("Quality", f"{measured}\n{quality_tables(figures)}"),
        ("Limits", LIMITS),
        ("Reproduce", REPRODUCE.format(folder=folder.as_posix())),
    )


def model_card(manifest: Manifest) -> str:
    """The card of any cascade as Markdown: what its manifest says."""
    return card_text(
        manifest,
        ("Licences", f"{manifest.licence}.\n"),
        ("Training", training_table(manifest)),
        ("How it is sampled", defaults_table(manifest)),
        ("From torch to ONNX", parity_table(manifest)),
        ("Quality", DEMONSTRATION if draws_alone(manifest) else UNMEASURED),
    )


def draws_alone(manifest: Manifest) -> bool:
    """Whether every stage draws its values: a cascade of pixels by groups."""
    stages = manifest.components[1:]
    return bool(stages) and all(family_of(spec).is_discrete for spec in stages)


def card_text(manifest: Manifest, *sections: tuple[str, str]) -> str:
    """A title, where the cascade comes from, and sections of title and text."""
    made_of = str(manifest.provenance.get("made_of", NOTHING))
    encoder = text_encoder_of(manifest.components)
    head = f"# Model card: {manifest.name}\n\n{made_of[:1].upper()}{made_of[1:]}."
    head += f" Text encoder: {encoder.provenance.get('made_of', NOTHING)}.\n"
    return head + "".join(f"\n## {title}\n\n{text.rstrip()}\n" for title, text in sections)


def training_table(manifest: Manifest) -> str:
    """What the manifest says of each stage's training, which may be nothing."""
    told: dict[str, Mapping[str, str | float]] = {
        spec.name: spec.provenance.get("training", {})
        for spec in manifest.components
        if isinstance(spec.makes, Image)
    }
    names = list(dict.fromkeys(name for training in told.values() for name in training))
    if not names:
        return "The description says nothing of it.\n"
    return table(
        ("stage", *(name.replace("_", " ") for name in names)),
        (
            (stage, *(number(training.get(name, NOTHING)) for name in names))
            for stage, training in told.items()
        ),
    )


def number(value: str | float) -> str:
    """Whole numbers with thousands apart, others as they are."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:,g}"
    return value


def sampling_table(figures: Mapping[str, Any]) -> str:
    """The defaults of each stage, and what they cost in evaluations."""
    keys = ("sampler", "steps", "guidance", "augmentation", "evaluations")
    return table(
        ("stage", *keys),
        (
            (name, *(NOTHING if stage[key] is None else stage[key] for key in keys))
            for name, stage in figures["bundle"]["stages"].items()
        ),
    )


def defaults_table(manifest: Manifest) -> str:
    """The defaults of each stage as its entry has them, a table for each family that there is."""
    drawn = [
        rows_of(manifest.components)
        for specs_of, rows_of in (
            (diffusion_specs, diffusion_defaults),
            (pixel_specs, pixel_defaults),
        )
        if specs_of(manifest.components)
    ]
    return "\n".join(drawn)


def diffusion_defaults(components: Sequence[ComponentSpec]) -> str:
    """Sampler, steps, guidance and augmentation of the diffusion stages."""
    return table(
        ("stage", "pixels", "sampler", "steps", "guidance", "augmentation"),
        (
            (
                spec.name,
                spec.makes.width,
                spec.sampler,
                spec.steps,
                spec.guidance.weight,
                NOTHING if spec.augmentation is None else spec.augmentation.default,
            )
            for spec in diffusion_specs(components)
        ),
    )


def pixel_defaults(components: Sequence[ComponentSpec]) -> str:
    """Passes and choices of the stages of pixels by groups, and what they were measured at."""
    measured = ("bits_per_value", "png_bits_per_value", "webp_bits_per_value")
    return table(
        (
            "stage",
            "pixels",
            "passes",
            "temperature",
            "floor",
            "guidance",
            "bits per value",
            "PNG",
            "WebP",
        ),
        (
            (
                spec.name,
                spec.makes.width,
                spec.scheme.passes,
                f"{spec.temperature_16}/16",
                f"{spec.floor_16}/16",
                f"{spec.guidance_16}/16",
                *(spec.evidence.get(name, NOTHING) for name in measured),
            )
            for spec in pixel_specs(components)
        ),
    )


def parity_table(manifest: Manifest) -> str:
    """How far each graph is from torch, and its variants' results from float32."""
    components = manifest.components
    with_blocks = any(block_bits(component) != NOTHING for component in components)
    return table(
        (
            *("component", "max abs error", "PSNR, dB", "int8, worst picture, dB"),
            *(["blocks, worst picture or embeddings, dB"] * with_blocks),
        ),
        (
            (
                component.name,
                f"{max(g.parity.max_abs_error for g in component.graphs.values()):.1e}",
                min(g.parity.psnr_db for g in component.graphs.values()),
                eight_bit(component),
                *([block_bits(component)] * with_blocks),
            )
            for component in components
        ),
    )


def block_bits(spec: ComponentSpec) -> str:
    """Worst picture, or worst embeddings, of each variant in blocks, if there is one."""
    variants = [v for graph in spec.graphs.values() for v in graph.variants]
    found = [f"{v.precision} {v.quality.value}" for v in variants if v.precision in BLOCKS]
    return ", ".join(found) or NOTHING


def eight_bit(spec: ComponentSpec) -> str:
    """Worst picture of the int8 variant, if there is one."""
    variants = [v for graph in spec.graphs.values() for v in graph.variants]
    found = [v.quality.value for v in variants if v.precision.value == "int8"]
    return str(found[0]) if found else NOTHING
