"""Which bytes of a bundle a GPU engine is built from.

Knows manifests and precisions; not TensorRT.
"""

from cascade.bundle.bundle import Bundle
from cascade.errors import EngineError
from cascade.graph_spec import GraphSpec
from cascade.precision import BLOCKS, Precision
from cascade.weights.source import GraphSource


def gpu_graph(bundle: Bundle, graph: GraphSpec, precision: Precision) -> GraphSource:
    """A graph of a bundle in the form that a GPU's compiler needs, weights included.

    Args:
        bundle: where the files lie.
        graph: which graph.
        precision: what its heavy layers are to compute in.

    Raises:
        EngineError: the bundle has no form of that precision; the message names those it has.
        ManifestError: a file is not what the manifest says.
    """
    files = {form.precision: form.file for form in graph.gpu_forms}
    if precision in files:
        return bundle.read_file_of(graph, files[precision])
    choices = available_precisions(graph)
    if precision not in choices:
        raise EngineError(
            f"precision: {graph.file} has no form that computes in {precision}: choose one of "
            f"{', '.join(choices)}, or export the bundle with that form",
            field="precision",
        )
    return bundle.read_graph(graph, precision)


def available_precisions(graph: GraphSpec) -> tuple[Precision, ...]:
    """Every precision that there is a graph for."""
    present = {Precision.FP32, *(form.precision for form in graph.gpu_forms)}
    present |= {variant.precision for variant in graph.variants} - BLOCKS
    return tuple(precision for precision in Precision if precision in present)
