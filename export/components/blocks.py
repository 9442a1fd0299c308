"""Variants of a component with its matrices in blocks: made, proven, or left out with the reason.

A text encoder is judged by its embeddings, a diffusion stage by its pictures, as int8 is. Knows
graphs and proofs; not how a block is quantised.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from cascade.codecs.shared_initializers import attach_initializers
from cascade.engine import Engine
from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from cascade.graph_spec import CONTEXT_DB, PICTURE_DB, QualityRecord, VariantSpec
from cascade.precision import BLOCKS, Precision
from cascade.types import Array
from cascade.weights.source import GraphSource
from export.blocks.graph import FORMS, make_block_graph
from export.components.component import ProvenGraph
from export.components.int8 import first_rows, least_db
from export.proof import Claim, prove
from export.quantize.sampled_runs import SampledRuns
from export.quantize.shared_weights import strip_initializers
from export.quantize.variant import worst_picture

MIN_CONTEXT_DB: Mapping[Precision, float] = {
    Precision.INT8_BLOCK: 45.0,
    Precision.INT4_BLOCK: 30.0,
}
"""Worst embeddings of a prompt. The encoder of the reference cascade reaches 59 and 41 dB."""

TOLERANCE_ABS = 8.0
"""Largest difference of one value: catches a broken graph, no more; as `INT8_TOLERANCE_ABS`."""

Report = Callable[[str], None]
Judge = Callable[[Precision, GraphSource], tuple[QualityRecord, float]]
"""How good a graph of a precision is, and the least value that is good enough."""


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A variant's file before it is proven.

    Attributes:
        file: as the bundle holds it.
        graph: what runs it.
        products: how many compute in blocks.
    """

    file: bytes
    graph: GraphSource
    products: int


def with_blocks(
    proven: ProvenGraph, asked: frozenset[Precision], judge: Judge, report: Report
) -> ProvenGraph:
    """A proven graph with a variant for each precision in blocks that is asked for and good enough.

    Args:
        proven: the float32 graph.
        asked: of the precisions that the component may have.
        judge: of its results.
        report: called with lines for the person who waits.

    Raises:
        ParityError: a graph is broken.
    """
    spec, files = proven.spec, dict(proven.files)
    name = spec.file.removesuffix(".onnx")
    for precision in (p for p in Precision if p in asked & BLOCKS):
        made = made_file(proven, name, precision)
        if made is None:
            report(f"{name:13} without {precision}: matrices hold too little of its weights")
            continue
        quality, floor = judge(precision, made.graph)
        words = f"{quality.metric.removesuffix('_db')} {quality.value:.1f} dB"
        if quality.value < floor:
            refuse_written(proven, name, precision, f"{words}, the floor is {floor:.1f}")
            report(f"{name:13} without {precision}: worst {words}, the floor is {floor:.1f}")
            continue
        entry = prove_variant(proven, precision, made.graph, quality, report)
        files[entry.file] = made.file
        spec = replace(spec, variants=(*spec.variants, entry))
        report(
            f"{name:13} {precision}: {made.products} products, worst {words}, max abs error "
            f"{entry.parity.max_abs_error:.1e}"
        )
    return replace(proven, spec=spec, files=files)


def refuse_written(proven: ProvenGraph, name: str, precision: Precision, words: str) -> None:
    """Refuse what is not good enough where it lies in the file of weights already.

    Raises:
        ParityError: saying what to leave out.
    """
    if proven.weights is not None:
        raise ParityError(
            f"{name}: {precision} reaches {words}: leave it out of --precisions", field=name
        )


def made_file(proven: ProvenGraph, name: str, precision: Precision) -> MadeFile | None:
    """A precision's file; None where matrices hold too little."""
    if proven.weights is not None:
        if precision not in proven.block_graphs:
            return None
        graph, products = proven.block_graphs[precision]
        return MadeFile(graph.data, graph, products)
    made = make_block_graph(proven.optimized, FORMS[precision])
    if made is None:
        return None
    shared = proven.files[proven.spec.file]
    stripped = onnx.load_from_string(made.data)
    strip_initializers(stripped, onnx.load_from_string(shared))
    file = stripped.SerializeToString()
    return MadeFile(file, attach_initializers(file, shared, f"{name}.{precision}"), made.products)


def prove_variant(
    proven: ProvenGraph,
    precision: Precision,
    graph: GraphSource,
    quality: QualityRecord,
    report: Report,
) -> VariantSpec:
    """A variant's entry in the manifest.

    Raises:
        ParityError: the graph is broken.
    """
    spec = proven.spec
    name = spec.file.removesuffix(".onnx")
    claim = Claim(
        name=f"{name} {precision}",
        original=proven.original,
        graph=graph,
        cases=first_rows(proven.cases),
        outputs=[output.name for output in spec.outputs],
        precision=precision,
        tolerance_abs=TOLERANCE_ABS,
    )
    parity = prove(claim, report)
    return VariantSpec(
        precision=precision, file=f"{name}.{precision}.onnx", parity=parity, quality=quality
    )


def judge_context(proven: ProvenGraph) -> Judge:
    """By the embeddings of the exporter's prompts."""

    def judge(precision: Precision, graph: GraphSource) -> tuple[QualityRecord, float]:
        engine = OrtEngine(graph)
        try:
            found = worst_context_db(proven.exported, engine, proven.cases)
        finally:
            engine.close()
        return QualityRecord(metric=CONTEXT_DB, value=round(found, 2)), MIN_CONTEXT_DB[precision]

    return judge


def worst_context_db(
    exported: Engine, candidate: Engine, cases: Sequence[Mapping[str, Array]]
) -> float:
    """Lowest PSNR of a prompt's embeddings, decibels; of tokens that its mask leaves in.

    Args:
        exported: runs the float32 graph.
        candidate: runs another one.
        cases: `token_ids` `[B, L]` int64 and `token_mask` `[B, L]` float32, by name.
    """
    worst = 200.0
    for case in cases:
        wanted, found = exported.run(case)["context"], candidate.run(case)["context"]
        for row, mask in enumerate(case["token_mask"].astype(bool)):
            true = wanted[row][mask].astype(np.float64)
            noise = max(float(((found[row][mask] - true) ** 2).mean()), 1e-20)
            # The range is -peak to peak, as in `compare_engines`.
            worst = min(worst, float(10 * np.log10((2 * np.abs(true).max()) ** 2 / noise)))
    return worst


def judge_pictures(runs: SampledRuns) -> Judge:
    """By the pictures of the runs that int8 is proven on, against the same floors."""
    floor = least_db(runs)

    def judge(precision: Precision, graph: GraphSource) -> tuple[QualityRecord, float]:
        del precision
        found = worst_picture(runs.blueprint, graph, runs.starts.proof, runs.proof_images)
        return QualityRecord(metric=PICTURE_DB, value=round(found, 2)), floor

    return judge
