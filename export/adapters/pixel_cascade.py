"""A cascade of named stages, described like any: checkpoints, presets, held-out figures.

Stages of pixels by groups, with diffusion stages before, between or behind them where sizes and
texts fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from cascade.errors import InvalidRequest
from cascade.pixels.spec import PixelAugmentation
from export.adapters.reference_cascade import (
    LICENCE,
    MAX_TOKENS,
    PROMPTS,
    ReferenceSource,
    checkpoint_of,
    reference_encoder,
    reference_tokenizer,
    token_samples,
)
from export.adapters.reference_cascade import describe_stage as describe_diffusion
from export.description import (
    AnyStageDescription,
    CascadeDescription,
    PixelStageDescription,
    TextEncoderDescription,
)
from export.weights.rounding import Storage
from export.weights.training_metadata import METADATA_NAMES
from stages.data.dataset import Dataset, open_dataset
from stages.data.pixel_loader import LEVELS
from stages.evaluation.pixel_bits import evaluate_pixels, load_frozen
from stages.networks.word_table import WordTable
from stages.pixel_presets import PIXEL_PRESETS, WORDS, PixelPreset
from stages.reference import PRESETS, StagePreset
from stages.training.checkpoint import load_metadata
from stages.training.words import load_table, open_captioned

HELD_OUT = 54
"""Held-out pictures that the bits in the manifest are measured on, at most."""
NamedPreset = PixelPreset | StagePreset


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSource:
    """Where a cascade of named stages comes from."""

    stages: tuple[str, ...]
    """Names of presets, the smallest first."""
    checkpoints: Path
    """Folder with one checkpoint folder per stage."""
    data_file: Path
    """The prepared data."""
    storage: Storage = Storage.INT8
    """How large weights of diffusion stages lie in the files; see `ReferenceSource`."""
    networks: Mapping[str, str] = field(default_factory=dict)
    """Checkpoint folders of diffusion stages whose network is a student's."""


def describe_pixels(source: PixelSource) -> CascadeDescription:
    """The cascade, with the bits that its stages take for held-out pictures.

    Raises:
        InvalidRequest: the stages are no chain, or one was not trained.
        UnsupportedModel: the sums of a network are not exact.
    """
    presets = chain_of(source.stages)
    return CascadeDescription(
        stages=tuple(describe_named(preset, source) for preset in presets),
        licence=LICENCE,
        provenance="trained from scratch by this project: `cascade train`, `cascade export`",
        text_encoder=encoder_of(presets, source.checkpoints),
        prompts=PROMPTS,
    )


def describe_named(preset: NamedPreset, source: PixelSource) -> AnyStageDescription:
    """One stage of either family from its checkpoint.

    Raises:
        InvalidRequest: it was not trained, or its student has other steps than the default.
        UnsupportedModel: the sums of a network of pixels are not exact.
    """
    if isinstance(preset, StagePreset):
        reference = ReferenceSource(
            checkpoints=source.checkpoints,
            data_file=source.data_file,
            storage=source.storage,
            networks=source.networks,
        )
        checkpoint = checkpoint_of(preset, reference)
        data = open_dataset(source.data_file)
        return describe_diffusion(preset, checkpoint, data, source.storage)
    data = open_captioned(preset, source.data_file, source.checkpoints)
    return describe_stage(preset, source.checkpoints / preset.name, data)


def context_width(preset: NamedPreset) -> int:
    """Of the text's embeddings that a stage reads; 0 for none."""
    return preset.unet.context_width if isinstance(preset, StagePreset) else preset.context_width


def encoder_of(presets: Sequence[NamedPreset], checkpoints: Path) -> TextEncoderDescription:
    """What the stages read their text by: the word table, or the reference cascade's encoder.

    Raises:
        InvalidRequest: there is no word table, or the stages read different encoders.
    """
    widths = {context_width(preset) for preset in presets} - {0}
    if len(widths) > 1:
        names = ", ".join(preset.name for preset in presets if context_width(preset))
        raise InvalidRequest(
            f"stages: {names} read texts of different widths: name stages of one text encoder",
            field="stages",
        )
    return word_encoder(load_table(checkpoints)) if widths == {WORDS} else reference_encoder()


def word_encoder(table: WordTable) -> TextEncoderDescription:
    """The word table as a text encoder, with the reference cascade's tokenizer."""
    return TextEncoderDescription(
        network=table,
        tokenizer=reference_tokenizer(),
        max_tokens=MAX_TOKENS,
        context_width=table.width,
        provenance="all-MiniLM-L6-v2 (Apache-2.0), asked about every word piece alone; "
        f"{table.width} main directions as integers",
        exact=True,
        samples=token_samples(),
    )


def chain_of(names: tuple[str, ...]) -> list[NamedPreset]:
    """The presets of a cascade.

    Raises:
        InvalidRequest: one is not known, or does not start from the picture of the one before.
    """
    known: dict[str, NamedPreset] = {**PIXEL_PRESETS, **PRESETS}
    for name in names:
        if name not in known:
            raise InvalidRequest(
                f"stages: expected some of {', '.join(known)}, got {name}", field="stages"
            )
    presets = [known[name] for name in names]
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
        uses_context=preset.context_width > 0,
        augmentation=PixelAugmentation(lowest=0.0, highest=LEVELS, default=0.0),
        temperature_16=preset.temperature_16,
        floor_16=preset.floor_16,
        guidance_16=preset.guidance_16,
        evidence=evaluate_pixels(preset, data, checkpoint, limit=HELD_OUT),
        training={
            **{entry: float(facts[name]) for entry, name in METADATA_NAMES.items()},
            "parameters": float(sum(p.numel() for p in network.parameters())),
        },
    )
