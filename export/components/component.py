"""What every component goes through on its way into a bundle, whatever its family.

One network becomes one graph in three states, and the stored one is proven against the network
before anything is kept. Elsewhere this is a model export pipeline: trace, graph optimisation,
weight compression, numerical validation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

import onnx
from torch import nn

from cascade.diffusion.spec import TEXT_PADDING, DiffusionSpec
from cascade.engines.ort import OrtEngine
from cascade.errors import UnsupportedModel
from cascade.graph_spec import GraphSpec, TensorSpec
from cascade.labels.spec import LabelEncoderSpec
from cascade.latents.spec import AutoencoderSpec
from cascade.pixels.spec import PixelSpec
from cascade.precision import BLOCKS, Precision
from cascade.request import Handoff
from cascade.stage import Stage
from cascade.text.spec import TextEncoderSpec
from cascade.types import Array, ContextF16
from cascade.weights.source import ExternalGraph
from export.components.gpu_forms import add_gpu_forms
from export.components.web_forms import add_web_form
from export.description import AnyStageDescription, EncoderDescription
from export.exact_proof import prove_exactly
from export.gpu_variant.verify import GpuFormSource
from export.graphs import export_graph
from export.passes.expectations import check_fusions
from export.passes.pipeline import optimize
from export.proof import Claim, prove
from export.quantize.sampled_runs import SampledRuns
from export.streamed import export_streamed
from export.subjects import Subject
from export.weights.beside import MovedWeights, complete_files, move_weights
from export.weights.exact_storage import store_exactly
from stages.evaluation.torch_engine import TorchEngine

Report = Callable[[str], None]
"""Called with lines for the person who waits."""

Spec = TypeVar("Spec", TextEncoderSpec, LabelEncoderSpec, DiffusionSpec, PixelSpec, AutoencoderSpec)

WeightsPlace = Literal["auto", "beside", "inside"]

BESIDE_BYTES = 1 << 28
"""Files of a component that are larger together have their weights beside them. Smaller ones are
opened as fast either way, and any tool reads them without a second file."""

StorageName = Literal["float32", "float16", "int8"]

MAX_PARAMETERS = (1 << 29) - (1 << 22)
"""Float32 weights of one graph: protobuf holds 2 GiB, and a bundle holds no external data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What a bundle is to hold besides its float32 graphs."""

    precisions: frozenset[Precision] = frozenset({Precision.FP32})
    """Graphs of every component: int8 of diffusion stages, blocks where matrices are most of the
    weights. The float32 one is always there."""
    gpu_forms: frozenset[Precision] = frozenset()
    """Forms of every component for compilers of GPUs, in these precisions."""
    web_forms: bool = False
    """Whether graphs that browsers would compute wrongly get a form for them."""
    weights: WeightsPlace = "auto"
    """Whether a component's weights lie in a file beside its graphs; `auto` from 256 MiB on."""

    def __post_init__(self) -> None:
        """Refuse what nobody here can write."""
        unknown = self.precisions - {Precision.FP32, Precision.INT8, *BLOCKS}
        if unknown:
            raise ValueError(
                f"precisions: no file is written for {', '.join(sorted(unknown))}; engines compute "
                "fp16 and bf16 from the float32 file (`--precision`), use --storage to shrink it"
            )

    def blocks_for(self, source: "NetworkSource") -> frozenset[Precision]:
        """The precisions in blocks that a network gets; none where its results are exact."""
        return frozenset() if source.exact else self.precisions & BLOCKS


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportJob:
    """What the components of one export share."""

    encoder: EncoderDescription | None
    """None where no stage reads a context."""
    prompts: tuple[Subject, ...]
    """Or what else the cascade starts from."""
    options: ExportOptions
    requires_gpu_forms: bool
    """Whether a component that gets no form for GPUs is an error."""
    report: Report
    folder: Path = Path()
    """Where files of weights are written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedComponent(Generic[Spec]):
    """One component as it goes into the bundle, and its stage over each of its graphs."""

    spec: Spec
    files: Mapping[str, bytes]
    original: Stage
    """Runs the torch network."""
    exported: Stage
    """Runs the float32 graph as it is stored."""
    quantized: Stage
    """Runs the int8 graph where there is one, else the same as `exported`."""
    runs: SampledRuns | None = None
    """What int8 was proven on; the next stage's runs begin with these pictures."""
    weights: MovedWeights | None = None
    """The file of its weights, where they lie beside the graphs; the graphs are in it anew."""


@dataclass(frozen=True, slots=True)
class StageJob:
    """What an export knows when it comes to one stage."""

    export: ExportJob
    start: Callable[[Subject], Handoff]
    """What the exported encoder makes of a text or a class."""
    position: int
    """The stage's place in the cascade: the noise's stage number."""
    before: ExportedComponent[Any] | None = None
    """The stage before it, if there is one; int8 runs begin with its pictures."""
    after: AnyStageDescription | None = None
    """The stage after it, if there is one; a decoder there shows what a latent is worth."""

    def embed(self, subject: Subject) -> ContextF16:
        """Embeddings `[tokens, width]` float16 of a text or a class.

        Raises:
            UnsupportedModel: nothing encodes it.
        """
        context = self.start(subject).context
        if context is None:
            raise UnsupportedModel(
                f"text_encoder: nothing encodes {subject!r}", field="text_encoder"
            )
        return context


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSource:
    """A torch network and the graph that it is to become."""

    name: str
    """The component's."""
    network: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    cases: Sequence[Mapping[str, Array]]
    """Batches of inputs, by name, that parity is measured on."""
    optimized: bool
    """Whether the graph passes run: they know diffusion networks."""
    fusions: Mapping[str, int] | None = None
    """How often each pass has to fire, where the network's structure is known."""
    exact: bool = False
    """Whether parity is the very same bits."""


@dataclass(frozen=True, slots=True)
class GraphStates:
    """One graph in the three states that something is made from; none is changed afterwards."""

    traced: onnx.ModelProto
    """As torch exported it: what forms for GPUs are made from."""
    optimized: onnx.ModelProto
    """After the passes, weights in float32: what int8 is made from."""
    stored: bytes
    """The optimised graph with its weights in the smallest exact format: the bundle's file."""
    fusions: dict[str, int]
    """How often each pass fired."""
    sizes: Mapping[str, int]
    """Bytes of weights by format."""
    nodes: int
    """Of the stored graph."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvenGraph:
    """A graph that is its network, with what runs either."""

    spec: GraphSpec
    files: dict[str, bytes]
    optimized: onnx.ModelProto
    """After the passes, weights in float32."""
    provenance: Mapping[str, Any]
    """What of the export nothing that runs reads."""
    original: TorchEngine
    exported: OrtEngine
    """Runs the graph as it is stored."""
    cases: Sequence[Mapping[str, Array]]
    """What parity was measured on."""
    weights: MovedWeights | None = None
    """The file of its weights, where they were written beside the graph as it was made."""
    block_graphs: Mapping[Precision, tuple[ExternalGraph, int]] = field(default_factory=dict)
    """Graphs over that file with matrices in blocks, and how many products each has."""


def prove_network(job: ExportJob, source: NetworkSource) -> ProvenGraph:
    """Export a network, prove the stored graph on every engine, add the forms asked for.

    Raises:
        UnsupportedModel: the network is too large for one file.
        ParityError: the graph is not its network, or a pass fired more or less often than it has
            to.
    """
    if is_streamed(job.options, source):
        return prove_streamed(job, source)
    check_size(source.name, source.network)
    graph = make_graph(source, job.report)
    names = [output.name for output in source.outputs]
    original = TorchEngine(source.network, *names)
    claim = Claim(
        name=source.name,
        original=original,
        graph=graph.stored,
        cases=source.cases,
        outputs=names,
    )
    parity = (prove_exactly if source.exact else prove)(claim, job.report)
    job.report(
        f"{source.name:13} max abs error {parity.max_abs_error:.1e}, {parity.psnr_db:.1f} dB, "
        f"{graph.nodes} nodes, {dict(graph.sizes)}"
        + (f", fused {graph.fusions}" if source.optimized else "")
    )
    forms = add_gpu_forms(
        GpuFormSource(
            name=source.name,
            traced=graph.traced,
            stored=graph.stored,
            original=original,
            cases=source.cases,
            outputs=names,
        ),
        job.options.gpu_forms,
        required=job.requires_gpu_forms,
        report=job.report,
    )
    web = add_web_form(claim, job.report) if job.options.web_forms else {}
    spec = GraphSpec(
        file=f"{source.name}.onnx",
        inputs=source.inputs,
        outputs=source.outputs,
        storage=most_common_storage(graph.sizes),
        parity=parity,
        padded_by=padding_of(source),
        gpu_forms=tuple(forms),
        web_form=next(iter(web), None),
    )
    files = {spec.file: graph.stored, **{form.file: data for form, data in forms.items()}}
    return ProvenGraph(
        spec=spec,
        files={**files, **{form.file: data for form, data in web.items()}},
        optimized=graph.optimized,
        provenance={"fusions": dict(graph.fusions), "parity_samples": len(source.cases)},
        original=original,
        exported=OrtEngine(graph.stored),
        cases=source.cases,
    )


def is_streamed(options: ExportOptions, source: NetworkSource) -> bool:
    """Whether a network's weights never enter the graph: large ones that no pass looks at."""
    size = 4 * sum(parameter.numel() for parameter in source.network.parameters())
    large = options.weights == "auto" and size >= BESIDE_BYTES
    return not source.optimized and (large or options.weights == "beside")


def prove_streamed(job: ExportJob, source: NetworkSource) -> ProvenGraph:
    """The same for a network whose weights are written beside its graph, of any size.

    Raises:
        ParityError: the graph is not its network.
    """
    path = job.folder / f"{source.name}.safetensors"
    graph = export_streamed(
        source.network, source.inputs, source.outputs, path, job.options.blocks_for(source)
    )
    names = [output.name for output in source.outputs]
    original = TorchEngine(source.network, *names)
    claim = Claim(
        name=source.name, original=original, graph=graph.source, cases=source.cases, outputs=names
    )
    parity = prove(claim, job.report)
    job.report(
        f"{source.name:13} max abs error {parity.max_abs_error:.1e}, {parity.psnr_db:.1f} dB, "
        f"{graph.nodes} nodes, {dict(graph.sizes)} beside the graph"
    )
    if job.options.gpu_forms:
        job.report(f"{source.name:13} without a form for GPUs: its weights never were in a graph")
    spec = GraphSpec(
        file=f"{source.name}.onnx",
        inputs=source.inputs,
        outputs=source.outputs,
        storage=most_common_storage(graph.sizes),
        parity=parity,
        padded_by=padding_of(source),
        weights=path.name,
    )
    files = {spec.file: graph.source.data}
    return ProvenGraph(
        spec=spec,
        files=files,
        optimized=onnx.ModelProto(),
        provenance={"parity_samples": len(source.cases)},
        original=original,
        exported=OrtEngine(graph.source),
        cases=source.cases,
        weights=MovedWeights(files, graph.entry, path),
        block_graphs=graph.blocks,
    )


def with_weights_placed(
    job: ExportJob, component: ExportedComponent[Spec]
) -> ExportedComponent[Spec]:
    """The component with its weights where the options want them.

    Its stages go on over the graphs as they were proven: the same nodes and numbers.
    """
    size = sum(map(len, component.files.values()))
    place = job.options.weights
    if (
        component.weights is not None
        or place == "inside"
        or (place == "auto" and size < BESIDE_BYTES)
    ):
        return component
    spec, name = component.spec, f"{component.spec.name}.safetensors"
    moved = move_weights(complete_files(spec.graphs.values(), component.files), job.folder / name)
    if moved is None:
        job.report(f"{spec.name:13} no weight is large enough to lie beside the graphs")
        return component
    graphs = {role: replace(graph, weights=name) for role, graph in spec.graphs.items()}
    total = moved.entry.size_bytes / 1e6
    job.report(f"{spec.name:13} weights beside the graphs: {name}, {total:.2f} MB")
    return replace(
        component,
        spec=replace(spec, graphs=graphs),
        files={**component.files, **moved.files},
        weights=moved,
    )


def padding_of(source: NetworkSource) -> dict[str, str]:
    """The axis of a graph that may be padded, by the input that masks it: that of texts.

    Not of one whose output has an entry per token: padded, it would not be what it is alone.
    """
    ((axis, mask),) = TEXT_PADDING.items()
    masked = any(t.name == mask and axis in t.shape for t in source.inputs)
    returned = any(axis in t.shape for t in source.outputs)
    return dict(TEXT_PADDING) if masked and not returned else {}


def make_graph(source: NetworkSource, report: Report) -> GraphStates:
    """Trace, optimise and store one network, each state a copy of the one before.

    Raises:
        ParityError: a pass fired more or less often than `source.fusions` says.
    """
    traced = export_graph(source.network, source.inputs, source.outputs)
    optimized = copied(traced)
    fusions = optimize(optimized, report) if source.optimized else {}
    if source.fusions is not None:
        check_fusions(fusions, source.fusions)
    stored = copied(optimized)
    sizes = store_exactly(stored)
    graph, nodes = stored.SerializeToString(), len(stored.graph.node)
    return GraphStates(traced, optimized, graph, fusions, sizes, nodes)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as it is now, whatever becomes of it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def check_size(name: str, network: nn.Module) -> None:
    """Refuse a network whose graph would not fit in one file.

    Raises:
        UnsupportedModel: naming the component.
    """
    count = sum(p.numel() for p in network.parameters())
    if count > MAX_PARAMETERS:
        raise UnsupportedModel(
            f"{name}: {count / 1e6:.0f} million parameters; one graph holds at most "
            f"{MAX_PARAMETERS / 1e6:.0f} million, for a bundle has no external data: use a smaller "
            "member of the family",
            field=name,
        )


def most_common_storage(sizes: Mapping[str, int]) -> StorageName:
    """The format that most bytes of the weights lie in."""
    kinds: tuple[Any, ...] = ("float32", "float16", "int8")
    return cast("StorageName", max(kinds, key=lambda kind: sizes.get(kind, 0)))
