"""A cascade of pixels by groups, described like any: checkpoints, presets, held-out figures."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cascade.errors import InvalidRequest
from cascade.pixels.spec import PixelAugmentation
from export.adapters.reference_cascade import LICENCE, PROMPTS, reference_encoder
from export.description import CascadeDescription, PixelStageDescription
from export.weights.training_metadata import METADATA_NAMES
from stages.data.dataset import Dataset, open_dataset
from stages.data.pixel_loader import LEVELS
from stages.evaluation.pixel_bits import evaluate_pixels, load_frozen
from stages.pixel_presets import PIXEL_PRESETS, PixelPreset
from stages.training.checkpoint import load_metadata

HELD_OUT = 54
"""Held-out pictures that the bits in the manifest are measured on, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSource:
    """Where a cascade of pixels by groups comes from."""

    stages: tuple[str, ...]
    """Names of presets, the smallest first."""
    checkpoints: Path
    """Folder with one checkpoint folder per stage."""
    data_file: Path
    """The prepared data."""


def describe_pixels(source: PixelSource) -> CascadeDescription:
    """The cascade, with the bits that its stages take for held-out pictures.

    Raises:
        InvalidRequest: the stages are no chain, or one was not trained.
        UnsupportedModel: the sums of a network are not exact.
    """
    presets = chain_of(source.stages)
    data = open_dataset(source.data_file)
    return CascadeDescription(
        stages=tuple(describe_stage(p, source.checkpoints / p.name, data) for p in presets),
        licence=LICENCE,
        provenance="trained from scratch by this project: `cascade train`, `cascade export`",
        text_encoder=reference_encoder(),
        prompts=PROMPTS,
    )


def chain_of(names: tuple[str, ...]) -> list[PixelPreset]:
    """The presets of a cascade.

    Raises:
        InvalidRequest: one is not known, or does not start from the picture of the one before.
    """
    for name in names:
        if name not in PIXEL_PRESETS:
            raise InvalidRequest(
                f"stages: expected some of {', '.join(PIXEL_PRESETS)}, got {name}", field="stages"
            )
    presets = [PIXEL_PRESETS[name] for name in names]
    for before, after in pairwise(presets):
        if after.low_resolution != before.resolution:
            raise InvalidRequest(
                f"stages: {after.name} starts from a picture of {after.low_resolution} pixels, "
                f"{before.name} makes one of {before.resolution}: name them the smallest first",
                field="stages",
            )
    return presets


def describe_stage(preset: PixelPreset, checkpoint: Path, data: Dataset) -> PixelStageDescription:
    """One stage.

    Args:
        preset: which one.
        checkpoint: folder of its networks.
        data: prepared data.
    """
    network = load_frozen(preset, checkpoint)
    facts = load_metadata(checkpoint)
    return PixelStageDescription(
        name=preset.name,
        body=network.body,
        heads=network.heads,
        features=preset.config.features,
        scheme=preset.scheme,
        output_resolution=preset.resolution,
        input_resolution=preset.low_resolution,
        augmentation=PixelAugmentation(lowest=0.0, highest=LEVELS, default=0.0),
        temperature_16=preset.temperature_16,
        floor_16=preset.floor_16,
        evidence=evaluate_pixels(preset, data, checkpoint, limit=HELD_OUT),
        training={
            **{entry: float(facts[name]) for entry, name in METADATA_NAMES.items()},
            "parameters": float(sum(p.numel() for p in network.parameters())),
        },
    )
