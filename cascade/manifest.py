"""The bundle's table of contents: what both halves of the cascade must agree on.

Records only: everything the runtime needs to know about a component is here and nothing of it is
special-cased in code. It does not open files; `cascade.bundle` does.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

from cascade.errors import ManifestError
from cascade.parametrization import Prediction
from cascade.precision import Precision
from cascade.record import from_json, to_json
from cascade.schedule import ScheduleKind

FORMAT_VERSION = 2
"""Raised whenever an older reader would misread a newer manifest."""

SamplerKind = Literal["ddim", "ddpm", "stochastic"]
DtypeName = Literal["float32", "float16", "int64", "int8", "uint8"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file of the bundle."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One input or output of a graph; an axis is a size or the name of a free one."""

    name: str
    dtype: DtypeName
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityRecord:
    """How far the exported graph is from its torch original, as measured at export."""

    max_abs_error: float
    psnr_db: float
    tolerance_abs: float
    """Above this the exporter writes nothing."""
    samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantSpec:
    """The same graph in another precision: same inputs and outputs, another file."""

    precision: Precision
    file: str
    parity: ParityRecord
    """Against the same torch original as the float32 graph; of whole pictures see `picture_db`."""
    picture_db: float
    """Worst PSNR of the stage's 8-bit picture against the float32 graph's over the exporter's
    prompts, same noise, decibels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphSpec:
    """One exported graph and its variants."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    storage: Literal["float32", "float16", "int8"]
    """How most weights lie in the file; they compute in float32."""
    parity: ParityRecord
    fusions: dict[str, int] = field(default_factory=dict)
    """How often each graph pass found what it looks for; the exporter fails when one finds less."""
    variants: tuple[VariantSpec, ...] = ()

    def file_for(self, precision: Precision) -> str:
        """The file whose graph computes in `precision`; the float32 one where there is none.

        An engine may still compute a float32 graph in a lower precision of its own.
        """
        for variant in self.variants:
            if variant.precision == precision:
                return variant.file
        return self.file

    @property
    def all_files(self) -> tuple[str, ...]:
        """Every file of the graph, the float32 one first."""
        return (self.file, *(variant.file for variant in self.variants))


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidanceSpec:
    """Default guidance; the convention is `uncond + w (cond - uncond)`."""

    kind: Literal["constant", "oscillating"]
    weight: float
    low_weight: float = 1.0
    """Oscillating only."""
    first_steps: int = 0
    """Oscillating only: steps with the high weight before it starts to alternate."""
    convention: Literal["uncond + w (cond - uncond)"] = "uncond + w (cond - uncond)"


@dataclass(frozen=True, kw_only=True, slots=True)
class ThresholdSpec:
    """How the estimate of the clean image is kept in range."""

    kind: Literal["static", "dynamic"]
    percentile: float = 1.0
    cap: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationSpec:
    """Noise-conditioning augmentation of the low-resolution image."""

    lowest: float
    highest: float
    default: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderSpec:
    """The component that turns a prompt into a context."""

    name: str
    family: Literal["text_encoder"]
    graph: GraphSpec
    tokenizer_file: str
    max_tokens: int
    context_width: int
    provenance: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionSpec:
    """A stage that denoises: the base stage, or super-resolution if it has an input resolution."""

    name: str
    family: Literal["diffusion"]
    graph: GraphSpec
    input_resolution: int | None
    output_resolution: int
    schedule: ScheduleKind
    prediction: Prediction
    sampler: SamplerKind
    steps: int
    gamma: float
    """Stochasticity of the `ddpm` sampler."""
    guidance: GuidanceSpec
    null_context: Literal["mask"]
    """How the unconditional half is asked for: every token masked out."""
    threshold: ThresholdSpec
    augmentation: AugmentationSpec | None
    skip_scale: Literal["long_skips"]
    """Where 1/sqrt(2) is applied: to the long skip connections (arXiv 2205.11487, B.1)."""
    training: dict[str, str | float]


Component = TextEncoderSpec | DiffusionSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The whole table; `bundle_id` names the bundle."""

    format_version: int
    name: str
    licence: str
    provenance: str
    text_encoder: TextEncoderSpec
    stages: tuple[DiffusionSpec, ...]
    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.format_version != FORMAT_VERSION:
            raise ManifestError(
                f"manifest.format_version: this reader knows {FORMAT_VERSION}, the bundle has "
                f"{self.format_version}: update edge-cascade or export the bundle again",
                field="manifest.format_version",
            )
        listed = {entry.name for entry in self.files}
        if len(listed) != len(self.files):
            raise ManifestError("manifest.files: a file is listed twice", field="manifest.files")
        needed = [self.text_encoder.tokenizer_file]
        for component in self.components:
            needed.extend(component.graph.all_files)
        for name in needed:
            if name not in listed:
                raise ManifestError(
                    f"manifest.files: {name} is used but not listed", field="manifest.files"
                )
        self._check_variants()
        self._check_chain()

    def _check_variants(self) -> None:
        """One file per precision, and none that calls itself another float32."""
        for component in self.components:
            found = [Precision.FP32, *(v.precision for v in component.graph.variants)]
            if len(set(found)) != len(found):
                raise ManifestError(
                    f"{component.name}: two files of one precision: {', '.join(found)}",
                    field=f"{component.name}.graph.variants",
                )

    def _check_chain(self) -> None:
        """Every stage starts where the one before it ended."""
        before: int | None = None
        for index, stage in enumerate(self.stages):
            if stage.input_resolution != before:
                raise ManifestError(
                    f"manifest.stages[{index}].input_resolution: expected {before}, got "
                    f"{stage.input_resolution}",
                    field=f"manifest.stages[{index}].input_resolution",
                )
            before = stage.output_resolution
        if len({component.name for component in self.components}) != len(self.components):
            raise ManifestError("manifest.stages: two components share a name")

    @property
    def components(self) -> tuple[Component, ...]:
        """All components in order, the text encoder first."""
        return (self.text_encoder, *self.stages)

    @property
    def bundle_id(self) -> str:
        """sha256 over the canonical manifest; covers every file through its hash."""
        return hashlib.sha256(canonical(self)).hexdigest()

    def position(self, name: str) -> int:
        """Place of a component in the cascade.

        Raises:
            ManifestError: no component has that name.
        """
        names = [component.name for component in self.components]
        if name not in names:
            raise ManifestError(f"no component {name!r}; this bundle has {', '.join(names)}")
        return names.index(name)


def canonical(manifest: Manifest) -> bytes:
    """The one way to write a manifest as bytes: keys sorted, no spaces, ASCII."""
    return json.dumps(to_json(manifest), sort_keys=True, separators=(",", ":")).encode("ascii")


def write_manifest(manifest: Manifest) -> str:
    """A manifest for people: the same content, indented."""
    return json.dumps(to_json(manifest), sort_keys=True, indent=1) + "\n"


def read_manifest(text: bytes) -> Manifest:
    """A manifest from the bytes of its file.

    Raises:
        ManifestError: not JSON, or any field unknown, missing or wrong.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ManifestError(f"manifest.json is not JSON: {exc}") from exc
    return from_json(Manifest, value)
