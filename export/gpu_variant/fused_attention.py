"""Attention as one operator again.

torch writes scaled dot-product attention out as two products and a softmax, with the scale split
between queries and keys. Requires: that shape. Ensures: one `Attention` (operator set 23) with the
same inputs, the same scale and the same bias; no softmax is left, or the pass fails. Knows ONNX
nodes; not networks.
"""

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from export.passes.editor import GraphEditor

OPSET = 23
"""The first operator set with Attention. Between 21 and 23 no other operator that the exporter
emits changes its meaning: 22 and 23 add types."""
IR_VERSION = 11
HEADS_FIRST_KEYS = [0, 2, 1]
"""The exporter's way to turn the last two axes of keys that were made three-dimensional."""


class Producers:
    """Which node makes which value."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = {name: node for node in model.graph.node for name in node.output}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def expect(self, name: str, kind: str) -> NodeProto:
        """The node that makes a value, which must be of one kind.

        Raises:
            ValueError: it is another one, or none.
        """
        node = self.nodes.get(name)
        if node is None or node.op_type != kind:
            found = "an input or a weight" if node is None else node.op_type
            raise ValueError(f"{name}: expected to come from {kind}, it comes from {found}")
        return node

    def scalar(self, name: str) -> float:
        """A constant of one number."""
        return float(numpy_helper.to_array(self.constants[name]).item())


def restore_attention(model: onnx.ModelProto) -> int:
    """Replace every written-out attention, in place.

    Returns:
        How many.

    Raises:
        ValueError: a softmax is there that is none of attention, or one of another shape.
    """
    found = Producers(model)
    whole: dict[str, NodeProto] = {}
    editor = GraphEditor(model)
    for node in model.graph.node:
        if node.op_type == "MatMul" and kind_of(found, node.input[0]) == "Softmax":
            whole[node.output[0]] = attention(found, node)
            refuse_one_for_all(whole[node.output[0]], editor)
    rebuilt = [
        whole.get(node.output[0], node) if node.output else node for node in model.graph.node
    ]
    del model.graph.node[:]
    model.graph.node.extend(rebuilt)
    for entry in model.opset_import:
        if not entry.domain:
            entry.version = max(entry.version, OPSET)
    model.ir_version = max(model.ir_version, IR_VERSION)
    drop_unused(model)
    left = [node.name for node in model.graph.node if node.op_type == "Softmax"]
    if left:
        raise ValueError(f"{left[0]}: a softmax outside attention")
    return len(whole)


def kind_of(found: Producers, name: str) -> str:
    """Operator of the node that makes a value; empty for inputs and weights."""
    node = found.nodes.get(name)
    return node.op_type if node else ""


def attention(found: Producers, product: NodeProto) -> NodeProto:
    """The operator for one `softmax(q s (k s)^T + bias) v`."""
    softmax = found.expect(product.input[0], "Softmax")
    biased = found.expect(softmax.input[0], "Add")
    logits = found.expect(biased.input[0], "MatMul")
    queries = found.expect(logits.input[0], "Mul")
    keys = found.expect(logits.input[1], "Mul")
    last = found.expect(keys.input[0], "Reshape")
    turned = found.expect(last.input[0], "Transpose")
    first = found.expect(turned.input[0], "Reshape")
    if helper.get_node_attr_value(turned, "perm") != HEADS_FIRST_KEYS:
        raise ValueError(f"{turned.name}: the keys are turned another way")
    scale = np.float32(found.scalar(queries.input[1])) * np.float32(found.scalar(keys.input[1]))
    return helper.make_node(
        "Attention",
        [queries.input[0], first.input[0], product.input[1], biased.input[1]],
        list(product.output),
        name=product.name,
        scale=float(scale),
    )


def refuse_one_for_all(node: NodeProto, editor: GraphEditor) -> None:
    """Raise where one text serves a batch: products broadcast it, the operator does not."""
    shapes = [editor.shape(name) for name in node.input[:3]]
    rows = {shape[0] for shape in shapes if shape}
    if 1 in rows and len(rows) > 1:
        raise ValueError(f"{node.name}: queries and keys have different batches")


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove nodes and weights that no output depends on."""
    needed = {info.name for info in model.graph.output}
    kept: list[NodeProto] = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
