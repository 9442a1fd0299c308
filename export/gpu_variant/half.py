"""Heavy layers in sixteen bits; what is sensitive and cheap stays in float32.

Requires: a float32 graph in which norms and attention are whole. Ensures: every node between the
first and the last heavy layer computes in half precision (or bfloat16), except normalisations,
whose sums of squares would overflow, and what `sensitive` names; conditioning before, and the sum
with the noisy image after, stay in float32; inputs and outputs keep their types. Knows ONNX types;
not which library reads it.
"""

from collections.abc import Sequence

import onnx
from onnx import NodeProto, TensorProto, helper

from cascade.precision import Precision
from export.fresh_names import FreshNames
from export.gpu_variant.element_types import can_be, float_outputs, narrow_inputs
from export.gpu_variant.sensitive import sensitive

KINDS = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
PRODUCTS = frozenset({"MatMul", "Gemm"})
IN_FLOAT = frozenset({"GroupNormalization", "LayerNormalization"})
"""Normalisations. Nodes whose output type their inputs do not decide stay too."""
REFUSED = {Precision.FP16: frozenset[str](), Precision.BF16: frozenset({"ConvTranspose"})}
"""TensorRT for RTX 1.7 cannot build a transposed convolution in bfloat16."""


def halve(model: onnx.ModelProto, precision: Precision) -> int:
    """Convert in place.

    Args:
        model: float32, operator set 23.
        precision: FP16 or BF16.

    Returns:
        How many heavy layers compute in the narrow type now.

    Raises:
        ValueError: another precision, or a graph without heavy layers.
    """
    kind = KINDS.get(precision)
    if kind is None:
        raise ValueError(f"{precision} is not a type to convert to: choose fp16 or bf16")
    version = standard_version(model)
    inside = region(model)
    rewriter = Rewriter(model, kind, version)
    heavy = 0
    wide = IN_FLOAT | REFUSED[precision]
    inside -= sensitive(model, kind)
    for position, node in enumerate(list(model.graph.node)):
        narrow = position in inside and node.op_type not in wide and can_be(node, kind, version)
        rewriter.add(node, narrow=narrow)
        heavy += narrow and node.op_type in CONVOLUTIONS | PRODUCTS
    rewriter.finish()
    return heavy


def standard_version(model: onnx.ModelProto) -> int:
    """The version of the standard operator set."""
    return max(entry.version for entry in model.opset_import if not entry.domain)


def float_values(model: onnx.ModelProto, version: int) -> set[str]:
    """Names of all float32 values.

    (Not onnx's own inference: it stops at GroupNormalization.)
    """
    floats = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    for info in model.graph.input:
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            floats.add(info.name)
    for node in model.graph.node:
        floats.update(float_outputs(node, floats, version))
    return floats


def region(model: onnx.ModelProto) -> set[int]:
    """Positions of the nodes between the first and the last heavy layers, those included.

    Heavy are convolutions, or products where there are none.
    """
    nodes = list(model.graph.node)
    present = {node.op_type for node in nodes}
    heavy = CONVOLUTIONS if present & CONVOLUTIONS else PRODUCTS
    if not present & heavy:
        raise ValueError("the graph has no layer that is worth halving")
    # After some heavy layer and before some other: what is only one of the two stays in float32.
    return reach(nodes, heavy, forwards=True) & reach(nodes, heavy, forwards=False)


def reach(nodes: Sequence[NodeProto], heavy: frozenset[str], *, forwards: bool) -> set[int]:
    """Positions of heavy nodes and of everything after them, or before them."""
    touched: set[str] = set()
    found: set[int] = set()
    # One walk is enough either way: the list is in topological order.
    order = range(len(nodes)) if forwards else reversed(range(len(nodes)))
    for position in order:
        node = nodes[position]
        near, far = (node.input, node.output) if forwards else (node.output, node.input)
        if node.op_type in heavy or touched.intersection(near):
            found.add(position)
            touched.update(name for name in far if name)
    return found


class Rewriter:
    """Puts a graph's nodes one after the other, casts where types meet."""

    def __init__(self, model: onnx.ModelProto, kind: int, version: int) -> None:
        self.graph = model.graph
        self.floats = float_values(model, version)
        self.kind, self.version = kind, version
        self.names = FreshNames(model)
        self.narrow: set[str] = set()
        self.casts: dict[tuple[str, bool], str] = {}
        self.nodes: list[NodeProto] = []

    def add(self, node: NodeProto, *, narrow: bool) -> None:
        """One node, computing in the narrow type or not."""
        copy = NodeProto()
        copy.CopyFrom(node)
        places = narrow_inputs(node, self.kind, self.version) if narrow else set()
        for i, name in enumerate(node.input):
            if name in self.floats:
                copy.input[i] = self.cast(name, narrow=i in places)
        if narrow:
            self.narrow.update(name for name in node.output if name in self.floats)
        self.nodes.append(copy)

    def cast(self, name: str, *, narrow: bool) -> str:
        """A value's name in the type that is wanted."""
        # Already of that type; casts are made where types meet and nowhere else.
        if (name in self.narrow) == narrow:
            return name
        known = self.casts.get((name, narrow))
        if known is None:
            known = self.names.fresh(f"{name}_narrow" if narrow else f"{name}_float")
            to = self.kind if narrow else TensorProto.FLOAT
            self.nodes.append(
                helper.make_node("Cast", [name], [known], name=f"cast_{known}", to=to)
            )
            self.casts[name, narrow] = known
        return known

    def finish(self) -> None:
        """Give the outputs their types back and put the nodes in place."""
        for info in self.graph.output:
            if info.name in self.narrow:
                inner = self.names.fresh(f"{info.name}_inner")
                for node in self.nodes:
                    for names in (node.input, node.output):
                        for i, name in enumerate(names):
                            if name == info.name:
                                names[i] = inner
                self.nodes.append(
                    helper.make_node("Cast", [inner], [info.name], to=TensorProto.FLOAT)
                )
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        # Declared types are those of before; engines infer them anew.
        del self.graph.value_info[:]
