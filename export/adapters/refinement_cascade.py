"""The class-conditional cascade, described like any: checkpoints of repeated refinement.

Knows checkpoints and presets; not how a bundle is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cascade.diffusion.spec import AugmentationSpec, ThresholdSpec
from cascade.errors import InvalidRequest
from export.adapters.guided_networks import OneHotClasses
from export.adapters.reference_cascade import LICENCE
from export.description import CascadeDescription, LabelEncoderDescription, StageDescription
from export.weights.training_metadata import METADATA_NAMES
from stages.networks.refinement import TimedRefinement
from stages.refinement_presets import CLASS8, REFINE32, RefinementPreset
from stages.training.checkpoint import load_metadata, load_part

STEPS = 16
"""Of a run, where a request chooses none."""
USUAL = f"{REFINE32.name}.gaussian.l2"
"""Checkpoint folder of the upscaler, where none is named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinementSource:
    """Where a class-conditional cascade comes from."""

    checkpoints: Path
    """Folder with one checkpoint folder per stage."""
    networks: Mapping[str, str] = field(default_factory=dict)
    """Checkpoint folders that are not the usual ones: `refine32` to `refine32.blur.l2`."""
    truncated: float = 0.0
    """Level at which runs of the base stage end; 0 makes pictures, which are given noise."""


def describe_refinement(source: RefinementSource) -> CascadeDescription:
    """Label encoder, base stage and upscaler.

    Raises:
        InvalidRequest: a stage was not trained, or the level is none that the upscaler learnt.
    """
    folders = [source.checkpoints / source.networks.get(p.name, usual) for p, usual in
               ((CLASS8, CLASS8.name), (REFINE32, USUAL))]  # fmt: skip
    names = str(load_metadata(folders[0]).get("classes", "")).split(",")
    return CascadeDescription(
        stages=(
            described_base(folders[0], source.truncated),
            described_upscaler(folders[1], source.truncated),
        ),
        licence=LICENCE,
        provenance="trained from scratch by this project: `cascade train`, `cascade export`",
        label_encoder=LabelEncoderDescription(
            network=OneHotClasses(CLASS8.classes),
            classes=CLASS8.classes,
            context_width=CLASS8.classes,
            class_names=tuple(names) if len(names) == CLASS8.classes else (),
            provenance="one-hot vectors",
        ),
    )


def described_base(folder: Path, truncated: float) -> StageDescription:
    """The base stage: a picture, or with truncation a latent of a picture and its noise."""
    network, training = trained(CLASS8, folder)
    return StageDescription(
        name=CLASS8.name,
        network=network,
        output_resolution=CLASS8.resolution,
        steps=STEPS,
        schedule=CLASS8.schedule,
        prediction="epsilon",
        sampler="ddpm",
        gamma=1.0,
        ends_at=truncated,
        latent_channels=3 if truncated else None,
        threshold=ThresholdSpec(kind="static"),
        training=training,
    )


def described_upscaler(folder: Path, truncated: float) -> StageDescription:
    """The upscaler, told the level of its small picture's noise.

    Raises:
        InvalidRequest: it learnt no such level.
    """
    network, training = trained(REFINE32, folder)
    highest = float(load_metadata(folder).get("augmentation_highest", 0.0))
    if not 0 <= truncated <= highest:
        raise InvalidRequest(
            f"truncated: {folder.name} learnt levels of 0 to {highest:g}, got {truncated:g}",
            field="truncated",
        )
    low = REFINE32.low_resolution
    return StageDescription(
        name=REFINE32.name,
        network=network,
        output_resolution=REFINE32.resolution,
        input_resolution=low,
        steps=STEPS,
        schedule=REFINE32.schedule,
        prediction="epsilon",
        sampler="ddpm",
        gamma=1.0,
        input_latent_channels=3 if truncated else None,
        threshold=ThresholdSpec(kind="static"),
        augmentation=levels(highest, truncated),
        any_size=not truncated,
        training=training,
    )


def levels(highest: float, truncated: float) -> AugmentationSpec:
    """Levels of the small picture's noise: a request's, or the one of the truncation."""
    if truncated:
        return AugmentationSpec(
            lowest=truncated, highest=truncated, default=truncated, applied_to="before"
        )
    return AugmentationSpec(
        lowest=0.0, highest=highest, default=min(0.1, highest), applied_to="small"
    )


def trained(
    preset: RefinementPreset, folder: Path
) -> tuple[TimedRefinement, dict[str, str | float]]:
    """A checkpoint's network, and what the manifest says of its training.

    Raises:
        InvalidRequest: there is no checkpoint, or that of another network.
    """
    facts, weights = load_metadata(folder), load_part(folder, "ema")
    network = preset.network()
    try:
        network.load_state_dict(weights)
    except RuntimeError as exc:
        raise InvalidRequest(
            f"networks: {folder} holds another network than {preset.name}", field="networks"
        ) from exc
    said: dict[str, str | float] = {
        "parameters": float(sum(p.numel() for p in network.parameters()))
    }
    for entry, name in METADATA_NAMES.items():
        if name in facts:
            said[entry] = float(facts[name])
    for name in ("loss_kind", "augmentation"):
        if name in facts:
            said[name] = str(facts[name])
    return TimedRefinement(network.eval()), said
