"""A described cascade to a bundle: every component exported, the whole proven, written at once.

The reference cascade and anybody's take the same way; nothing is written unproven.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cascade.bundle.manifest import FORMAT_VERSION, Manifest
from cascade.diffusion.family import diffusion_specs
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec
from cascade.errors import ParityError, UnsupportedModel
from cascade.families import family_of
from cascade.graph_spec import FileEntry
from cascade.labels.spec import LabelEncoderSpec
from cascade.latents.spec import AutoencoderSpec
from cascade.pixels.spec import PixelSpec
from cascade.precision import FROM_FILES, Precision
from cascade.request import Handoff
from cascade.stage import Stage
from cascade.system.memory_limits import memory_here
from cascade.text.spec import TextEncoderSpec
from export.bundle_folder import check_out, file_entries, weights_folder, write_bundle
from export.components.autoencoder import export_autoencoder
from export.components.component import (
    ExportedComponent,
    ExportJob,
    ExportOptions,
    StageJob,
    with_weights_placed,
)
from export.components.diffusion import export_stage
from export.components.label_encoder import export_label_encoder
from export.components.pixels import export_pixels
from export.components.text_encoder import embed, export_text_encoder
from export.description import (
    AutoencoderDescription,
    CascadeDescription,
    LabelEncoderDescription,
    PixelStageDescription,
    StageDescription,
    TextEncoderDescription,
)
from export.memory_estimate import check_memory, estimate_memory
from export.parity import compare_cascades
from export.subjects import Subject, handoff_of, made_up_vectors

PLAIN = ExportOptions()
"""Float32 graphs alone."""

MIN_END_TO_END_DB = 50.0
"""Below this a picture of 8 bits differs visibly somewhere; rounding alone leaves 80 and more."""

PROOF_STEPS = 8
"""Most steps per stage of the end-to-end comparison: the default runs of the reference cascade are
whole, a hundred steps of a brought one would take an hour of torch."""

LEAST_PROMPTS = 2


AnyStage = (
    ExportedComponent[DiffusionSpec]
    | ExportedComponent[PixelSpec]
    | ExportedComponent[AutoencoderSpec]
)
AnyEncoder = ExportedComponent[TextEncoderSpec] | ExportedComponent[LabelEncoderSpec]

ENCODERS: Mapping[type[Any], Callable[[ExportJob], AnyEncoder]] = {
    TextEncoderDescription: export_text_encoder,
    LabelEncoderDescription: export_label_encoder,
}
EXPORTERS: Mapping[type[Any], Callable[[StageJob, Any], AnyStage]] = {
    StageDescription: export_stage,
    PixelStageDescription: export_pixels,
    AutoencoderDescription: export_autoencoder,
}
"""By the kind of description."""


@dataclass(frozen=True, slots=True)
class ExportedCascade:
    """All components of one bundle."""

    encoder: AnyEncoder | None
    """None where no stage reads a context."""
    stages: tuple[AnyStage, ...]

    @property
    def components(self) -> tuple[AnyEncoder | AnyStage, ...]:
        """All of them, in the order of the work."""
        return self.stages if self.encoder is None else (self.encoder, *self.stages)

    @property
    def files(self) -> dict[str, bytes | Path]:
        """Every file by name: its bytes, or where it lies."""
        found: dict[str, bytes | Path] = {}
        for component in self.components:
            found.update(component.files)
            if component.weights is not None:
                found[component.weights.entry.name] = component.weights.path
        return found

    @property
    def weights(self) -> list[FileEntry]:
        """Entries of the files of weights."""
        moved = [component.weights for component in self.components]
        return [weights.entry for weights in moved if weights is not None]

    @property
    def original(self) -> list[Stage]:
        """The cascade over the torch networks."""
        return [component.original for component in self.components]

    @property
    def exported(self) -> list[Stage]:
        """The cascade over the float32 graphs."""
        return [component.exported for component in self.components]

    @property
    def quantized(self) -> list[Stage]:
        """The cascade over the int8 graphs, where there are any."""
        return [component.quantized for component in self.components]


def write_cascade(
    description: CascadeDescription,
    out: Path,
    *,
    report: Callable[[str], None],
    options: ExportOptions = PLAIN,
) -> Manifest:
    """Export a described cascade.

    Args:
        description: networks in evaluation mode and choices; its text encoder is there.
        out: folder of the bundle; replaced as a whole once everything is proven.
        report: called with lines for the person who waits.
        options: forms for GPUs and precisions besides the float32 graphs.

    Raises:
        InvalidRequest: `out` holds something else than a bundle.
        UnsupportedModel: a component is too large for one graph or for this machine's memory, or
            there is no text encoder.
        ParityError: a component or the whole cascade is too far from its original.
    """
    check_out(out)
    check_prompts(description, options)
    needed = estimate_memory(description, options)
    report(f"memory        {needed}")
    check_memory(needed, memory_here())
    with weights_folder(out) as folder:
        cascade = export_components(description, options, folder, report)
        refuse_nothing_written(cascade, options)
        prove_end_to_end(cascade, description.subjects, report)
        files = cascade.files
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            name=out.name,
            licence=description.licence,
            provenance={"made_of": description.provenance},
            components=tuple(component.spec for component in cascade.components),
            files=file_entries(files, cascade.weights),
        )
        write_bundle(out, manifest, files)
    total = sum(entry.size_bytes for entry in manifest.files)
    report(f"{out}: {total / 1e6:.1f} MB, bundle id {manifest.bundle_id}")
    return manifest


def check_prompts(description: CascadeDescription, options: ExportOptions) -> None:
    """Refuse int8 of a cascade that has none, or too few prompts for it.

    Raises:
        UnsupportedModel: no stage has an int8 form, or one without starts of its own would be
            proven on what calibrated it.
    """
    if options.precisions & FROM_FILES:
        refuse_exact_alone(description)
    own = not any(stage.calibrates_on_prompts for stage in description.stages)
    words = description.reads_context and description.label_encoder is None
    few = words and len(set(description.prompts)) < LEAST_PROMPTS
    if Precision.INT8 in options.precisions and few and not own:
        raise UnsupportedModel(
            "prompts: int8 is calibrated on one prompt and proven on another; describe two",
            field="prompts",
        )


def refuse_exact_alone(description: CascadeDescription) -> None:
    """Refuse files of other precisions where every stage draws its values.

    Raises:
        UnsupportedModel: naming the option.
    """
    if not any(stage.has_int8_form for stage in description.stages):
        raise UnsupportedModel(
            "precisions: stages of pixels by groups are exact in fp32 alone, any other would make "
            "other pictures, and autoencoders and stages that start from a latent are written in "
            "fp32 alone: leave it out",
            field="precisions",
        )


def export_components(
    description: CascadeDescription,
    options: ExportOptions,
    folder: Path,
    report: Callable[[str], None],
) -> ExportedCascade:
    """Every component, each proven against its network.

    Args:
        description: of the cascade.
        options: forms for GPUs and precisions besides the float32 graphs.
        folder: where files of weights are written.
        report: called with lines for the person who waits.

    Raises:
        UnsupportedModel: there is no text encoder, or a component is too large.
        ParityError: a component is not its original.
    """
    described = description.encoder
    job = ExportJob(
        encoder=described,
        prompts=description.subjects,
        options=options,
        requires_gpu_forms=description.requires_gpu_forms,
        report=report,
        folder=folder,
    )
    encoder: Any = None
    starts: Callable[[Subject], Handoff] = handoff_of
    if described is not None:
        made_encoder: Any = ENCODERS[type(described)](job)
        encoder = with_weights_placed(job, made_encoder)
        starts = partial(embed, encoder.exported)
    stages: list[AnyStage] = []
    for position, stage in enumerate(description.stages, start=0 if encoder is None else 1):
        before = stages[-1] if stages else None
        later = description.stages[len(stages) + 1 :]
        after = later[0] if later else None
        made: Any = EXPORTERS[type(stage)](StageJob(job, starts, position, before, after), stage)
        stages.append(with_weights_placed(job, made))
    return ExportedCascade(encoder, tuple(stages))


def prove_end_to_end(
    cascade: ExportedCascade, prompts: Sequence[Subject], report: Callable[[str], None]
) -> None:
    """Compare the whole cascades on the same noise, and say what int8 makes of them.

    Args:
        cascade: what is to be written.
        prompts: one run each; classes, pictures or None where a cascade starts from those.
        report: called with lines for the person who waits.

    Raises:
        ParityError: a stage's picture is below `MIN_END_TO_END_DB` of its original.
    """
    specs = [stage.spec for stage in cascade.stages]
    options = {
        spec.name: DiffusionOptions(steps=min(spec.steps, PROOF_STEPS))
        for spec in diffusion_specs(specs)
    }
    compared = comparable(cascade)
    if compared == len(cascade.components) - len(cascade.stages):
        report("end to end    every stage draws its values; each was proven alone, to the bit")
        return
    original, exported, quantized = (
        stages[:compared] for stages in (cascade.original, cascade.exported, cascade.quantized)
    )
    vectors = made_up_vectors(v for spec in diffusion_specs(specs) for v in spec.vectors)
    found = compare_cascades(original, exported, prompts, options, vectors)
    report(
        f"end to end    {decibels(found.psnr_db)}; {found.differing:.4%} of the last stage's "
        "samples differ"
    )
    low = {name: value for name, value in found.psnr_db.items() if value < MIN_END_TO_END_DB}
    if low:
        raise ParityError(f"end to end below {MIN_END_TO_END_DB} dB: {low}")
    if any(graph.variants for spec in specs for graph in spec.graphs.values()):
        # Each stage was proven alone. A base picture that differs a little gives a larger picture
        # that differs as much: the last figures are the first stage's, carried through.
        found = compare_cascades(exported, quantized, prompts, options, vectors)
        report(f"all in int8   {decibels(found.psnr_db)} from the float32 graphs")


def comparable(cascade: ExportedCascade) -> int:
    """How many components can be compared end to end: those before the first that draws values.

    One bit less in what such a stage is given makes another picture of it. It was proven alone, on
    the same inputs, to the bit.
    """
    drawing = [family_of(stage.spec).is_discrete for stage in cascade.stages]
    before = len(cascade.components) - len(cascade.stages)
    return before + (drawing.index(True) if True in drawing else len(drawing))


def decibels(psnr_db: Mapping[str, float]) -> str:
    """PSNR of every stage, for the report."""
    return ", ".join(f"{name} {value:.1f} dB" for name, value in psnr_db.items())


def refuse_nothing_written(cascade: ExportedCascade, options: ExportOptions) -> None:
    """Refuse forms or int8 that no component has.

    Raises:
        UnsupportedModel: naming the option.
    """
    specs = [component.spec for component in cascade.components]
    graphs = [graph for spec in specs for graph in spec.graphs.values()]
    for asked, written, field in (
        (options.gpu_forms, [form for graph in graphs for form in graph.gpu_forms], "gpu_forms"),
        (
            options.precisions - {Precision.FP32},
            [variant for graph in graphs for variant in graph.variants],
            "precisions",
        ),
    ):
        if asked and not written:
            raise UnsupportedModel(
                f"{field}: no component of this cascade has one, see above: leave "
                f"--{field.replace('_', '-')} out",
                field=field,
            )
