"""The bundle's table of contents: what both halves of the cascade must agree on.

Records only: everything the runtime needs to know about a component is here and nothing of it is
special-cased in code. It does not open files; `cascade.bundle` does.
"""

import hashlib
import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from cascade.conditioning import EnlargeKind
from cascade.errors import ManifestError
from cascade.parametrization import Prediction
from cascade.precision import Precision
from cascade.record import from_json, to_json
from cascade.schedule import ScheduleSpec, TableSpec, training_steps

FORMAT_VERSION = 2
"""Raised whenever an older reader would misread a newer manifest."""

SamplerKind = Literal["ddim", "ddpm", "ddpm_final_noise", "stochastic"]
"""`ddpm_final_noise` is `ddpm` with noise at the last step too, unless that is training step 0; a
reader that does not know it refuses the bundle."""
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
class GpuFormSpec:
    """The same graph with normalisations and attention whole, as compilers for GPUs want it.

    The file leaves out the large weights: `cascade.borrowed_weights` takes them from the graph's
    own file.
    """

    precision: Precision
    file: str
    parity: ParityRecord
    """Against the same torch original, computed by ONNX Runtime on a CPU."""


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
    """How often each graph pass found what it looks for; the exporter fails when one finds less in
    a stage of its own. A pass that was undone for a network has 0, and 1 under `NAME_undone`."""
    variants: tuple[VariantSpec, ...] = ()
    gpu_forms: tuple[GpuFormSpec, ...] = ()

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
        variants = (variant.file for variant in self.variants)
        return (self.file, *variants, *(form.file for form in self.gpu_forms))


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
    taught: tuple[float, ...] = ()
    """Students of guidance only: the lowest and the highest weight of their training. The graph
    takes the weight as its input `guidance` and is asked once a step, not twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThresholdSpec:
    """How the estimate of the clean image is kept in range."""

    kind: Literal["none", "static", "dynamic"]
    percentile: float = 1.0
    cap: float | None = None
    """Dynamic only: the divisor never exceeds it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationSpec:
    """Noise-conditioning augmentation of the low-resolution image."""

    lowest: float
    highest: float
    default: float
    schedule: ScheduleSpec = "cosine"
    """A level `s` is this schedule's forward process at time `s`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredContext:
    """A null context kept in the bundle: the embeddings of some fixed text, usually none."""

    file: str
    """`tokens` rows of the text encoder's width, float16, little endian, nothing else."""
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderSpec:
    """The component that turns a prompt into a context."""

    name: str
    family: Literal["text_encoder"]
    graph: GraphSpec
    tokenizer_file: str
    max_tokens: int
    pad_token: int | None = None
    """Fills every prompt to `max_tokens` tokens, masked out, and the rows it leads to are part of
    the context: for stages trained to see them. None sends the real tokens alone."""
    context_width: int
    provenance: str

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the component."""
        return (*self.graph.all_files, self.tokenizer_file)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionSpec:
    """A stage that denoises: the base stage, or super-resolution if it has an input resolution."""

    name: str
    family: Literal["diffusion"]
    graph: GraphSpec
    input_resolution: int | None
    output_resolution: int
    schedule: ScheduleSpec
    prediction: Prediction
    variance: Literal["fixed", "learned_range"] = "fixed"
    """Where the `ddpm` sampler takes the variance of a step from: `gamma`, or the graph's second
    output `variance`: per pixel, -1 for the lower bound and 1 for the upper."""
    sampler: SamplerKind
    steps: int
    timesteps: tuple[int, ...] = ()
    """Training steps that a run of just so many steps keeps, the noisiest first, counted from 0;
    empty for the schedule's own choice."""
    gamma: float
    """Stochasticity of the `ddpm` sampler where the variance is fixed."""
    guidance: GuidanceSpec
    null_context: Literal["mask"] | StoredContext
    """How the unconditional half is asked for: every token masked out, or another context."""
    threshold: ThresholdSpec
    enlarge: EnlargeKind = "cubic"
    """How the input image is brought to the output resolution."""
    augmentation: AugmentationSpec | None
    skip_scale: Literal["long_skips", "inside"]
    """Where 1/sqrt(2) is applied: to the long skip connections (arXiv 2205.11487, B.1), or as only
    the graph knows."""
    training: dict[str, str | float]

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the component."""
        stored = self.null_context
        return (*self.graph.all_files, *(() if stored == "mask" else (stored.file,)))


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
        needed: list[str] = []
        for component in self.components:
            needed.extend(component.files)
        for name in needed:
            if name not in listed:
                raise ManifestError(
                    f"manifest.files: {name} is used but not listed", field="manifest.files"
                )
        self._check_variants()
        self._check_chain()
        for index, stage in enumerate(self.stages):
            check_choices(stage, f"manifest.stages[{index}]")

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


def check_choices(spec: DiffusionSpec, path: str) -> None:
    """Refuse choices of one stage that contradict each other.

    Raises:
        ManifestError: naming the field under `path`.
    """
    learned = spec.variance == "learned_range"
    outputs = {output.name for output in spec.graph.outputs}
    if learned and (spec.sampler != "ddpm" or "variance" not in outputs):
        raise ManifestError(
            f"{path}.variance: learned_range needs the sampler ddpm and a graph with the output "
            f"variance; here are {spec.sampler} and {', '.join(sorted(outputs))}",
            field=f"{path}.variance",
        )
    check_taught(spec, path)
    known = training_steps(spec.schedule)
    noisy = spec.sampler == "ddpm_final_noise"
    if noisy and (spec.gamma != 1 or known is None):
        raise ManifestError(
            f"{path}.sampler: ddpm_final_noise needs gamma 1 and a schedule of training steps; "
            f"here are {spec.gamma:g} and {known}",
            field=f"{path}.sampler",
        )
    if spec.timesteps:
        kept = (*spec.timesteps, -1)
        falling = all(a > b for a, b in pairwise(kept))
        if known is None or not falling or kept[0] >= known or len(kept) - 1 != spec.steps:
            raise ManifestError(
                f"{path}.timesteps: expected {spec.steps} falling training steps of a schedule "
                f"that has them ({known}), got {len(kept) - 1}",
                field=f"{path}.timesteps",
            )
    schedules = [spec.schedule, spec.augmentation.schedule if spec.augmentation else "cosine"]
    for schedule in schedules:
        if isinstance(schedule, TableSpec):
            powers = (1.0, *schedule.alpha_bar, 0.0)
            if len(powers) < 3 or any(a <= b for a, b in pairwise(powers)):
                raise ManifestError(
                    f"{path}.schedule.alpha_bar: expected falling numbers between 1 and 0",
                    field=f"{path}.schedule.alpha_bar",
                )


def check_taught(spec: DiffusionSpec, path: str) -> None:
    """Refuse a student of guidance without its input, its range or a default inside it.

    Raises:
        ManifestError: naming the field under `path`.
    """
    taught = spec.guidance.taught
    takes = "guidance" in {tensor.name for tensor in spec.graph.inputs}
    if not taught and not takes:
        return
    if len(taught) != 2 or not takes or not taught[0] <= spec.guidance.weight <= taught[1]:
        raise ManifestError(
            f"{path}.guidance.taught: expected the lowest and the highest weight around "
            f"{spec.guidance.weight:g}, and a graph with the input guidance; got {list(taught)}, "
            f"{'with' if takes else 'without'} it",
            field=f"{path}.guidance.taught",
        )


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
