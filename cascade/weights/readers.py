"""Which weights of a graph an engine may read where they lie: those of some operators alone.

A weight that only products and look-ups read is computed with as it is. One that an operator folds,
turns over or lays out anew is copied by the engine anyway. Walks bytes; loads no engine.
"""

from collections import defaultdict
from collections.abc import Collection

from cascade.codecs.onnx_files import GRAPH
from cascade.codecs.shared_initializers import NODE, NODE_INPUT, children, text

OP_TYPE, ATTRIBUTE, DOMAIN = 4, 5, 7
SUBGRAPHS = (6, 11)
"""Fields of an attribute that hold graphs."""
PRODUCTS = frozenset({"MatMul", "Gemm"})
LOOK_UPS = frozenset({"Gather"})
BLOCK_PRODUCT = "MatMulNBits"
"""Slow unless the engine packs its weight, which then takes the weight's place in memory."""


def readable_in_place(graph: bytes, names: Collection[str]) -> frozenset[str]:
    """Those of some weights that ONNX Runtime computes with where they lie.

    Args:
        graph: an ONNX file's bytes, its references checked.
        names: of the weights.
    """
    readers = operators_by_input(graph)
    allowed = LOOK_UPS if has_block_products(graph) else LOOK_UPS | PRODUCTS
    return frozenset(name for name in names if readers[name] <= allowed)


def has_block_products(graph: bytes) -> bool:
    """Whether a graph multiplies with weights that are quantised in blocks."""
    return any(BLOCK_PRODUCT in operators for operators in operators_by_input(graph).values())


def operators_by_input(graph: bytes) -> defaultdict[str, set[str]]:
    """The operators that read each value of a graph; another domain's by a name of its own."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for main in children(memoryview(graph), GRAPH):
        collect(main, found, "")
    return found


def collect(graph: memoryview, found: defaultdict[str, set[str]], inside: str) -> None:
    """Add the readers of one graph; what a loop or a branch reads is no plain product."""
    for node in children(graph, NODE):
        operator = inside + text(node, OP_TYPE)
        for name in children(node, NODE_INPUT):
            found[str(name, "utf-8")].add(operator)
        for attribute in children(node, ATTRIBUTE):
            for number in SUBGRAPHS:
                for body in children(attribute, number):
                    collect(body, found, "inside ")
