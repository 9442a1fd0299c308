"""Manifests of format 2, as they were, and what format 3 makes of them: for `cascade upgrade`.

The records are frozen copies: with them an old manifest is checked as strictly as it was when it
was written, and its bundle id can be computed. Files are not touched; only the manifest changes.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.boundary import Context, Image, Prompt
from cascade.bundle.manifest import FORMAT_VERSION, UPGRADED_FROM, Manifest, manifest_from
from cascade.codecs.strict_json import canonical_json, from_json, to_json
from cascade.diffusion.schedule import TableSpec
from cascade.diffusion.spec import TEXT_PADDING
from cascade.graph_spec import NET, PICTURE_DB, DtypeName, FileEntry
from cascade.precision import Precision

OLD_FORMAT = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class OldTensor:
    """One input or output of a graph."""

    name: str
    dtype: DtypeName
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OldParity:
    """How far a graph is from its torch original."""

    max_abs_error: float
    psnr_db: float
    tolerance_abs: float
    samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OldVariant:
    """The same graph in another precision."""

    precision: Precision
    file: str
    parity: OldParity
    picture_db: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OldGpuForm:
    """The same graph for compilers of GPUs."""

    precision: Precision
    file: str
    parity: OldParity


@dataclass(frozen=True, kw_only=True, slots=True)
class OldGraph:
    """One exported graph."""

    file: str
    inputs: tuple[OldTensor, ...]
    outputs: tuple[OldTensor, ...]
    storage: Literal["float32", "float16", "int8"]
    parity: OldParity
    fusions: dict[str, int] = field(default_factory=dict)
    variants: tuple[OldVariant, ...] = ()
    gpu_forms: tuple[OldGpuForm, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class OldGuidance:
    """Default guidance."""

    kind: Literal["constant", "oscillating"]
    weight: float
    low_weight: float = 1.0
    first_steps: int = 0
    convention: Literal["uncond + w (cond - uncond)"] = "uncond + w (cond - uncond)"
    taught: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class OldThreshold:
    """How the estimate of the clean image is kept in range."""

    kind: Literal["none", "static", "dynamic"]
    percentile: float = 1.0
    cap: float | None = None


OldSchedule = Literal["cosine", "linear"] | TableSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class OldAugmentation:
    """Noise-conditioning augmentation."""

    lowest: float
    highest: float
    default: float
    schedule: OldSchedule = "cosine"


@dataclass(frozen=True, kw_only=True, slots=True)
class OldStoredContext:
    """A null context kept in the bundle."""

    file: str
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OldStage:
    """A diffusion stage."""

    name: str
    family: Literal["diffusion"]
    graph: OldGraph
    input_resolution: int | None
    output_resolution: int
    schedule: OldSchedule
    prediction: Literal["epsilon", "v", "x0"]
    variance: Literal["fixed", "learned_range"] = "fixed"
    sampler: Literal["ddim", "ddpm", "ddpm_final_noise", "stochastic"]
    steps: int
    timesteps: tuple[int, ...] = ()
    gamma: float
    guidance: OldGuidance
    null_context: Literal["mask"] | OldStoredContext
    threshold: OldThreshold
    enlarge: Literal["cubic", "bilinear_corners"] = "cubic"
    augmentation: OldAugmentation | None
    skip_scale: Literal["long_skips", "inside"]
    training: dict[str, str | float]


@dataclass(frozen=True, kw_only=True, slots=True)
class OldTextEncoder:
    """The component that turns a prompt into a context."""

    name: str
    family: Literal["text_encoder"]
    graph: OldGraph
    tokenizer_file: str
    max_tokens: int
    pad_token: int | None = None
    context_width: int
    provenance: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OldManifest:
    """The whole table, in format 2."""

    format_version: int
    name: str
    licence: str
    provenance: str
    text_encoder: OldTextEncoder
    stages: tuple[OldStage, ...]
    files: tuple[FileEntry, ...]


def upgraded(value: Any) -> Manifest:
    """A manifest of format 2 in the present format.

    Args:
        value: what the JSON parser returned.

    Returns:
        The same bundle; its `provenance` keeps the id from before.

    Raises:
        ManifestError: any field is unknown, missing or wrong, in the old format or the new.
    """
    old = from_json(OldManifest, value)
    before = hashlib.sha256(canonical_json(to_json(old))).hexdigest()
    components = [encoder_entry(old.text_encoder)]
    components += [stage_entry(stage, old.text_encoder.context_width) for stage in old.stages]
    return manifest_from(
        {
            "format_version": FORMAT_VERSION,
            "name": old.name,
            "licence": old.licence,
            "provenance": {"made_of": old.provenance, UPGRADED_FROM: before},
            "components": components,
            "files": to_json(old.files),
        }
    )


def encoder_entry(old: OldTextEncoder) -> dict[str, Any]:
    """The text encoder's entry, as JSON."""
    entry: dict[str, Any] = to_json(old)
    del entry["graph"], entry["context_width"]
    return {
        **entry,
        "graphs": {NET: graph_entry(old.graph, masked=False)},
        "starts_from": [to_json(Prompt())],
        "makes": to_json(Context(width=old.context_width)),
        "provenance": {"made_of": old.provenance, **facts_of(old.graph)},
    }


def stage_entry(old: OldStage, width: int) -> dict[str, Any]:
    """A stage's entry, as JSON.

    Args:
        old: the stage.
        width: of the text encoder's embeddings.
    """
    entry: dict[str, Any] = to_json(old)
    for gone in ("graph", "input_resolution", "output_resolution", "skip_scale", "training"):
        del entry[gone]
    low, high = old.input_resolution, old.output_resolution
    starts = [Context(width=width), *([] if low is None else [Image(width=low, height=low)])]
    return {
        **entry,
        "graphs": {NET: graph_entry(old.graph, masked=True)},
        "starts_from": to_json(tuple(starts)),
        "makes": to_json(Image(width=high, height=high)),
        "provenance": {
            "training": dict(old.training),
            "skip_scale": old.skip_scale,
            **facts_of(old.graph),
        },
    }


def graph_entry(old: OldGraph, *, masked: bool) -> dict[str, Any]:
    """A graph's entry, as JSON.

    Args:
        old: the graph.
        masked: whether an input named `context_mask` leaves out what texts are filled with.
    """
    entry: dict[str, Any] = to_json(old)
    del entry["fusions"]
    for record in (entry, *entry["variants"], *entry["gpu_forms"]):
        del record["parity"]["samples"]
    for variant in entry["variants"]:
        variant["quality"] = {"metric": PICTURE_DB, "value": variant.pop("picture_db")}
    ((axis, mask),) = TEXT_PADDING.items()
    free = any(tensor.name == mask and axis in tensor.shape for tensor in old.inputs)
    entry["padded_by"] = dict(TEXT_PADDING) if masked and free else {}
    return entry


def facts_of(old: OldGraph) -> dict[str, Any]:
    """What of a graph's record nothing that runs reads."""
    return {"fusions": dict(old.fusions), "parity_samples": old.parity.samples}
