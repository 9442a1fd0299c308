"""Which operators stand in an ONNX file, counted from its bytes."""

from collections import Counter

from cascade.codecs.shared_initializers import GRAPH, NODE, children, text

OP_TYPE = 4
NORMS = ("GroupNormalization", "LayerNormalization", "InstanceNormalization")
ATTENTION = ("Attention",)


def operators(model: bytes) -> Counter[str]:
    """How often each operator stands in a graph (not in the bodies of loops and branches)."""
    return Counter(
        text(node, OP_TYPE)
        for graph in children(memoryview(model), GRAPH)
        for node in children(graph, NODE)
    )


def whole_blocks(graph: bytes) -> dict[str, int]:
    """How many normalisations and attentions stand in a graph as one operator each."""
    count = operators(graph)
    return {
        "norms": sum(count[name] for name in NORMS),
        "attention": sum(count[name] for name in ATTENTION),
    }
