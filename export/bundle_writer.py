"""Checkpoints to a bundle: every component added, the whole proven, written at once or not at all.

Puts the other modules of this package in order. Knows the reference cascade's components; not how
a graph is made or compared.
"""

import hashlib
from pathlib import Path

from cascade.bundle.manifest import FORMAT_VERSION, Manifest
from cascade.errors import InvalidRequest, ParityError
from cascade.graph_spec import FileEntry
from cascade.precision import Precision
from export.bundle_folder import check_out, write_bundle
from export.bundle_parts import BundleParts, ExportOptions, Report
from export.parity import compare_cascades
from export.stage_component import StageSource, add_stage
from export.text_component import PROMPTS, add_text_encoder
from stages.data.dataset import Dataset, open_dataset
from stages.defaults import SAMPLING
from stages.evaluation.sampling import preset_of
from stages.presets import PRESETS, StagePreset
from stages.training.checkpoint import load_facts

MIN_END_TO_END_DB = 50.0
LICENCE = (
    "Apache-2.0 for the weights; trained on Noto Emoji (Apache-2.0), Fluent Emoji flat (MIT) and "
    "Twemoji (CC-BY 4.0); text encoder all-MiniLM-L6-v2 (Apache-2.0); see NOTICE"
)


def export_bundle(
    checkpoints: Path,
    out: Path,
    *,
    data_file: Path,
    options: ExportOptions,
    report: Report,
) -> Manifest:
    """Write the reference bundle.

    Args:
        checkpoints: folder with one checkpoint folder per stage.
        out: folder of the bundle; replaced as a whole once everything is proven.
        data_file: the prepared data; parity is measured on its held-out pictures.
        options: storage and precisions.
        report: called with lines for the person who waits.

    Raises:
        InvalidRequest: `out` holds something else than a bundle.
        ParityError: a component or the whole cascade is too far from its original.
    """
    check_out(out)
    data = open_dataset(data_file)
    parts = BundleParts()
    encoder = add_text_encoder(parts, options, report)
    for preset in PRESETS.values():
        add_stage(parts, stage_source(preset, checkpoints, data, options), options, report)
    prove_end_to_end(parts, report)
    if Precision.INT8 in options.precisions:
        report_int8_cascade(parts, report)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=out.name,
        licence=LICENCE,
        provenance="trained from scratch by this project: `cascade train`, `cascade export`",
        text_encoder=encoder,
        stages=tuple(parts.stages),
        files=tuple(
            FileEntry(name=n, sha256=hashlib.sha256(d).hexdigest(), size_bytes=len(d))
            for n, d in sorted(parts.files.items())
        ),
    )
    write_bundle(out, manifest, parts.files)
    total = sum(map(len, parts.files.values()))
    report(f"{out}: {total / 1e6:.1f} MB, bundle id {manifest.bundle_id}")
    return manifest


def stage_source(
    preset: StagePreset, checkpoints: Path, data: Dataset, options: ExportOptions
) -> StageSource:
    """The checkpoint that a stage is exported from: its own, or the student's that was named.

    Raises:
        InvalidRequest: a student of steps would be sampled by default with another number of them.
    """
    folder = checkpoints / options.networks.get(preset.name, preset.name)
    taught, default = int(load_facts(folder).get("sampling_steps", 0)), SAMPLING[preset.name].steps
    if taught and taught != default:
        raise InvalidRequest(
            f"networks: {folder.name} was distilled to {taught} steps, stages/defaults.py has "
            f"{preset.name} take {default}: change one of them",
            field="networks",
        )
    return StageSource(preset=preset_of(preset, folder), checkpoint=folder, data=data)


def prove_end_to_end(parts: BundleParts, report: Report) -> None:
    """Compare the whole cascades.

    Raises:
        ParityError: a stage's picture is below `MIN_END_TO_END_DB` of its original.
    """
    found = compare_cascades(parts.original, parts.exported, PROMPTS)
    lines = ", ".join(f"{name} {value:.1f} dB" for name, value in found.psnr_db.items())
    report(f"end to end    {lines}; {found.differing:.4%} of the last stage's samples differ")
    low = {name: value for name, value in found.psnr_db.items() if value < MIN_END_TO_END_DB}
    if low:
        raise ParityError(f"end to end below {MIN_END_TO_END_DB} dB: {low}")


def report_int8_cascade(parts: BundleParts, report: Report) -> None:
    """Say how far the cascade with every int8 graph is from the float32 one; each stage was proven.

    A base picture that differs a little gives a larger picture that differs as much: the last
    figures are those of the first stage, carried through.
    """
    found = compare_cascades(parts.exported, parts.eight_bit, PROMPTS)
    lines = ", ".join(f"{name} {value:.1f} dB" for name, value in found.psnr_db.items())
    report(f"all in int8   {lines} from the float32 graphs")
