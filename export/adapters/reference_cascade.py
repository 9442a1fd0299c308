"""The reference cascade, described like anybody's: checkpoints, presets and prepared data.

What it adds to another's cascade is what only its authors know: which fusions its networks must
give, held-out pictures to measure on, true starts to calibrate int8 with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cascade.errors import InvalidRequest
from cascade.types import Array
from export.adapters.reference_cases import TIMES, stage_cases, true_starts
from export.description import (
    CascadeDescription,
    RunStarts,
    StageDescription,
    TextEncoderDescription,
)
from export.passes.expectations import expected_fusions
from export.weights.rounding import Storage, release
from export.weights.training_metadata import training_metadata
from stages.data.dataset import Dataset, open_dataset
from stages.data.prompts import TOKENIZER_FILE, text_encoder, tokenizer
from stages.evaluation.sampling import graph_inputs
from stages.networks.text_encoder import model_folder
from stages.reference import (
    PRESETS,
    SAMPLING,
    StagePreset,
    as_released,
    augmentation_of,
    guidance_of,
)
from stages.training.checkpoint import load_metadata
from stages.training.trained_network import load_network, preset_of

MAX_TOKENS = 64
CONTEXT_WIDTH = 384
PROMPTS = ("a red apple, noto style", "a robot, fluent style", "a cactus, twemoji style")
"""What parity of the text encoder and of the whole cascade is measured on."""

RUNS = 16
"""Runs that int8 is calibrated on, and as many that prove it."""

LICENCE = (
    "Apache-2.0 for the weights; trained on Noto Emoji (Apache-2.0), Fluent Emoji flat (MIT) and "
    "Twemoji (CC-BY 4.0); text encoder all-MiniLM-L6-v2 (Apache-2.0); see NOTICE"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceSource:
    """Where the reference cascade comes from."""

    checkpoints: Path
    """Folder with one checkpoint folder per stage."""
    data_file: Path
    """The prepared data."""
    storage: Storage = Storage.INT8
    """How the large weights lie in the float32 files; decides what they are rounded to."""
    networks: Mapping[str, str] = field(default_factory=dict)
    """Checkpoint folders of stages whose network is a student's: `base` to `base.guided.8`."""


def describe_reference(source: ReferenceSource) -> CascadeDescription:
    """The reference cascade, its weights rounded to what is released.

    Raises:
        InvalidRequest: a checkpoint does not say how it was trained, or a student's steps are not
            the default.
    """
    data = open_dataset(source.data_file)
    return CascadeDescription(
        stages=tuple(
            describe_stage(preset, checkpoint_of(preset, source), data, source.storage)
            for preset in PRESETS.values()
        ),
        licence=LICENCE,
        provenance="trained from scratch by this project: `cascade train`, `cascade export`",
        text_encoder=reference_encoder(),
        prompts=PROMPTS,
        requires_gpu_forms=True,
    )


def checkpoint_of(preset: StagePreset, source: ReferenceSource) -> Path:
    """The checkpoint that a stage is exported from: its own, or the student's that was named.

    Raises:
        InvalidRequest: a student of steps would be sampled by default with another number of them.
    """
    folder = source.checkpoints / source.networks.get(preset.name, preset.name)
    taught, default = (
        int(load_metadata(folder).get("sampling_steps", 0)),
        SAMPLING[preset.name].steps,
    )
    if taught and taught != default:
        raise InvalidRequest(
            f"networks: {folder.name} was distilled to {taught} steps, stages/reference.py has "
            f"{preset.name} take {default}: change one of them",
            field="networks",
        )
    return folder


def describe_stage(
    preset: StagePreset, checkpoint: Path, data: Dataset, storage: Storage
) -> StageDescription:
    """One stage of the reference cascade.

    Args:
        preset: which one.
        checkpoint: folder of its network, or of a student's.
        data: prepared data.
        storage: format that the weights are rounded to, in place of the trained ones.

    Raises:
        InvalidRequest: the checkpoint does not say how it was trained.
    """
    preset = as_released(preset_of(preset, checkpoint))
    chosen = SAMPLING[preset.name]
    network = release(load_network(preset, checkpoint), storage)
    size = fixed_size(preset)
    return StageDescription(
        name=preset.name,
        network=network,
        input_resolution=preset.low_resolution,
        output_resolution=preset.resolution,
        schedule=preset.schedule,
        sampler=chosen.sampler,
        steps=chosen.steps,
        guidance=guidance_of(preset),
        threshold=chosen.threshold,
        augmentation=augmentation_of(preset),
        any_size=size is None,
        samples=tuple(stage_cases(preset, data, TIMES)),
        starts=RunStarts(
            calibration=tuple(true_starts(preset, data, RUNS, offset=0.0)),
            proof=tuple(true_starts(preset, data, RUNS, offset=0.5)),
        ),
        fusions=expected_fusions(network, size),
        skip_scale="long_skips",
        training=training_metadata(preset, network, checkpoint),
    )


def fixed_size(preset: StagePreset) -> int | None:
    """Height and width of the graph's pictures; None where the graph leaves them free."""
    height = graph_inputs(preset)[0].shape[2]
    return height if isinstance(height, int) else None


def reference_encoder() -> TextEncoderDescription:
    """all-MiniLM-L6-v2, frozen, as the reference bundle holds it."""
    return TextEncoderDescription(
        network=text_encoder(),
        tokenizer=reference_tokenizer(),
        max_tokens=MAX_TOKENS,
        context_width=CONTEXT_WIDTH,
        provenance="all-MiniLM-L6-v2 (Apache-2.0), matrices rounded to 8 bits per row",
        samples=token_samples(),
    )


def reference_tokenizer() -> bytes:
    """The pre-trained encoder's `tokenizer.json`."""
    return (model_folder() / TOKENIZER_FILE).read_bytes()


def token_samples() -> tuple[Mapping[str, Array], ...]:
    """The prompts as a text encoder takes them, one a batch."""
    samples: list[Mapping[str, Array]] = []
    for prompt in PROMPTS:
        ids = np.array([tokenizer().encode(prompt).ids], np.int64)
        samples.append({"token_ids": ids, "token_mask": np.ones(ids.shape, np.float32)})
    return tuple(samples)
