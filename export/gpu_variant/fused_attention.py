"""Attention as one operator again.

torch writes scaled dot-product attention out as two products and a softmax, with the scale split
between queries and keys; networks that write it themselves scale the logits. Requires: one of these
shapes, with a bias or without. Ensures: one `Attention` (operator set 23) with the
same inputs, the same scale and the same bias; no softmax is left, or the pass fails. Knows ONNX
nodes; not networks.
"""

from dataclasses import dataclass

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
LAST_AXES = [0, 1, 3, 2]
"""And of keys with an axis for the heads."""


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

    def is_scalar(self, name: str) -> bool:
        """Whether a value is a constant of one number."""
        return name in self.constants and numpy_helper.to_array(self.constants[name]).size == 1

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


@dataclass(frozen=True, slots=True)
class Scaled:
    """A value, without the number that it is multiplied by."""

    name: str
    factor: np.float32


def attention(found: Producers, product: NodeProto) -> NodeProto:
    """The operator for one `softmax(q s (k s)^T + bias) v`, or `softmax(s q k^T) v`."""
    softmax = found.expect(product.input[0], "Softmax")
    seen, bias = softmax.input[0], []
    if kind_of(found, seen) == "Add":
        biased = found.expect(seen, "Add")
        seen, bias = biased.input[0], [biased.input[1]]
    whole = unscaled(found, seen)
    logits = found.expect(whole.name, "MatMul")
    queries, keys = (unscaled(found, name) for name in logits.input)
    return helper.make_node(
        "Attention",
        [queries.name, unturned(found, keys.name), product.input[1], *bias],
        list(product.output),
        name=product.name,
        scale=float(queries.factor * keys.factor * whole.factor),
    )


def unscaled(found: Producers, name: str) -> Scaled:
    """What a value is before it is multiplied or divided by a constant of one number."""
    kind = kind_of(found, name)
    if kind not in ("Mul", "Div"):
        return Scaled(name, np.float32(1))
    left, right = found.nodes[name].input
    if not found.is_scalar(right):
        return Scaled(name, np.float32(1))
    number = np.float32(found.scalar(right))
    return Scaled(left, number if kind == "Mul" else np.float32(1) / number)


def unturned(found: Producers, name: str) -> str:
    """Keys `[B, heads, L, D]` before their last two axes were turned.

    Raises:
        ValueError: they were turned another way.
    """
    if kind_of(found, name) == "Reshape":
        last = found.expect(name, "Reshape")
        turned = found.expect(last.input[0], "Transpose")
        source, perm = found.expect(turned.input[0], "Reshape").input[0], HEADS_FIRST_KEYS
    else:
        turned = found.expect(name, "Transpose")
        source, perm = turned.input[0], LAST_AXES
    if list(helper.get_node_attr_value(turned, "perm")) != perm:
        raise ValueError(f"{turned.name}: the keys are turned another way")
    return str(source)


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
