"""A diffusion stage's part of a bundle: graph, null context, int8 variant, manifest entry."""

from collections.abc import Callable
from dataclasses import replace

from cascade.boundary import BoundaryValue, Context, Image, Tensor
from cascade.diffusion.run_start import late_start
from cascade.diffusion.spec import DiffusionSpec, StoredContext
from cascade.engines.ort import OrtEngine
from cascade.graph_spec import NET, GraphSpec
from cascade.precision import FROM_FILES, Precision
from cascade.request import Handoff
from cascade.stage import Stage
from cascade.types import ContextF16
from export.components.autoencoder import torch_autoencoder
from export.components.blocks import judge_pictures, with_blocks
from export.components.component import (
    ExportedComponent,
    NetworkSource,
    ProvenGraph,
    StageJob,
    prove_network,
)
from export.components.int8 import make_int8_variant
from export.components.mask_proof import prove_mask
from export.components.run_starts import starts_of
from export.components.synthetic_cases import (
    stage_inputs,
    stage_outputs,
    synthetic_case,
    synthetic_cases,
)
from export.description import AutoencoderDescription, EncoderDescription, StageDescription
from export.quantize.sampled_runs import SampledRuns, StageBlueprint, sample_images
from export.subjects import handoff_of, made_up_vectors
from stages.evaluation.torch_engine import TorchEngine


def export_stage(job: StageJob, stage: StageDescription) -> ExportedComponent[DiffusionSpec]:
    """Export and prove one diffusion stage with the variants asked for.

    Raises:
        UnsupportedModel: the network is too large.
        ParityError: a graph is not the network, or the network reads what its mask leaves out.
    """
    export = job.export
    context = job.embed(export.prompts[0]) if stage.uses_context else None
    if context is not None and export.encoder is not None and not export.encoder.context_length:
        # Before anything is traced: this takes a second, an export up to a minute.
        check_mask(stage, context)
    proven = prove_network(export, network_source(stage, export.encoder, context))
    null = None if stage.null_text is None else job.embed(stage.null_text)
    spec = stage_entry(stage, proven, null)
    late = late_start(spec, spec.steps)
    if late is not None:
        export.report(f"warning       {late}")
    shown_by = decoder_after(job, stage, context)
    blueprint = StageBlueprint(spec, job.position, null, shown_by)
    component = ExportedComponent(
        spec=spec,
        files={**proven.files, **null_file(spec, null)},
        original=blueprint.open(proven.original),
        exported=blueprint.open(proven.exported),
        quantized=blueprint.open(proven.exported),
    )
    if not (export.options.precisions & FROM_FILES and stage.has_int8_form):
        return component
    if stage.latent_channels is not None and shown_by is None:
        export.report(
            f"{spec.name:13} without int8 and blocks: no decoder after it shows its latent"
        )
        return component
    before = None if job.before is None else job.before.runs
    starts = starts_of(stage.starts, before, first_starts(job, stage))
    runs = SampledRuns(
        blueprint=blueprint,
        engine=proven.exported,
        starts=starts,
        proof_images=tuple(sample_images(blueprint, proven.exported, starts.proof)),
        described=stage.starts is not None,
    )
    if Precision.INT8 in export.options.precisions:
        component = with_int8(component, runs, proven, export.report)
    blocks = with_blocks(
        replace(proven, spec=component.spec.graph, files=dict(component.files)),
        export.options.precisions,
        judge_pictures(runs),
        export.report,
    )
    return replace(
        component,
        runs=runs,
        spec=replace(component.spec, graphs={NET: blocks.spec}),
        files=blocks.files,
    )


def decoder_after(
    job: StageJob, stage: StageDescription, context: ContextF16 | None
) -> Stage | None:
    """What makes a picture of a stage's latent: the decoder that follows, over its torch network.

    Args:
        job: of the stage.
        stage: as described.
        context: embeddings of some prompt, `[tokens, width]`, where the stage reads them.
    """
    after = job.after
    if stage.latent_channels is None or not isinstance(after, AutoencoderDescription):
        return None
    width = context.shape[1] if after.passes_words and context is not None else 0
    return None if after.encodes else torch_autoencoder(after, width)


def first_starts(job: StageJob, stage: StageDescription) -> list[Handoff]:
    """Where runs begin that have no picture of a stage before: words, a class, a picture, noise."""
    if stage.uses_context:
        starts = [job.start(subject) for subject in job.export.prompts]
    else:
        starts = [handoff_of(subject) for subject in job.export.prompts]
    return [
        replace(start, vectors={**made_up_vectors(stage.vectors), **start.vectors})
        for start in starts
    ]


def with_int8(
    component: ExportedComponent[DiffusionSpec],
    runs: SampledRuns,
    proven: ProvenGraph,
    report: Callable[[str], None],
) -> ExportedComponent[DiffusionSpec]:
    """The component with an int8 variant, or without one where its pictures do not survive it.

    Args:
        component: the float32 one.
        runs: of its graph; the next stage's begin with their pictures.
        proven: its graph.
        report: called with lines for the person who waits.
    """
    component = replace(component, runs=runs)
    variant = make_int8_variant(runs, proven, report)
    if variant is None:
        return component
    spec = replace(component.spec, graphs={NET: replace(proven.spec, variants=(variant.entry,))})
    return replace(
        component,
        spec=spec,
        files={**component.files, variant.entry.file: variant.file},
        quantized=replace(runs.blueprint, spec=spec).open(OrtEngine(variant.graph)),
    )


def check_mask(stage: StageDescription, context: ContextF16) -> None:
    """Refuse a network that reads the tokens that its mask leaves out.

    Args:
        stage: as described.
        context: embeddings of some prompt, `[tokens, width]`.

    Raises:
        ParityError: the masked tokens change its answer.
    """
    names = [output.name for output in stage_outputs(stage)]
    case = synthetic_case(stage, context, 0)
    prove_mask(stage.name, TorchEngine(stage.network, *names), case, names[0], per_token=False)


def network_source(
    stage: StageDescription, encoder: EncoderDescription | None, context: ContextF16 | None
) -> NetworkSource:
    """The stage's network, its signature and the batches that parity is measured on.

    Args:
        stage: as described.
        encoder: whose embeddings it reads; None where it reads none.
        context: some prompt's, `[tokens, width]`, for inputs where the description brings none.
    """
    return NetworkSource(
        name=stage.name,
        network=stage.network,
        inputs=stage_inputs(stage, encoder),
        outputs=stage_outputs(stage),
        cases=stage.samples or synthetic_cases(stage, context),
        optimized=True,
        fusions=stage.fusions,
    )


def null_file(spec: DiffusionSpec, null: ContextF16 | None) -> dict[str, bytes]:
    """The file of a stored null context, `[tokens, width]` float16 little endian, by its name."""
    if null is None or spec.null_context == "mask":
        return {}
    return {spec.null_context.file: null.astype("<f2").tobytes()}


def stage_entry(
    stage: StageDescription, proven: ProvenGraph, null: ContextF16 | None
) -> DiffusionSpec:
    """The manifest entry of a described stage.

    Args:
        stage: as described.
        proven: its graph, variants still missing.
        null: embeddings of its unconditional text, `[tokens, width]`; None where a mask asks.
    """
    stored = None if null is None else StoredContext(file=f"{stage.name}.null", tokens=len(null))
    return DiffusionSpec(
        name=stage.name,
        family="diffusion",
        graphs={NET: proven.spec},
        starts_from=starting_values(stage, proven.spec),
        makes=square(stage.output_resolution, stage.latent_channels),
        schedule=stage.schedule,
        prediction=stage.prediction,
        variance="learned_range" if stage.learned_variance else "fixed",
        sampler=stage.sampler,
        steps=stage.steps,
        timesteps=stage.timesteps,
        gamma=stage.gamma,
        guidance=stage.guidance,
        null_context=stored or "mask",
        threshold=stage.threshold,
        enlarge=stage.enlarge,
        augmentation=stage.augmentation,
        ends_at=stage.ends_at,
        start=stage.start,
        vectors=stage.vectors,
        provenance={
            "training": dict(stage.training),
            "skip_scale": stage.skip_scale,
            **proven.provenance,
        },
    )


def starting_values(stage: StageDescription, graph: GraphSpec) -> tuple[BoundaryValue, ...]:
    """Embeddings of the width that the graph takes, and what super-resolution enlarges."""
    widths = [int(t.shape[-1]) for t in graph.inputs if t.name == "context"]
    words = tuple(Context(width=width) for width in widths)
    low = stage.input_resolution
    return words if low is None else (*words, square(low, stage.input_latent_channels))


def square(size: int, channels: int | None) -> Image | Tensor:
    """A picture as wide as it is high, or a latent `[channels, size, size]` float32."""
    if channels is None:
        return Image(width=size, height=size)
    return Tensor(shape=(channels, size, size), dtype="float32")
