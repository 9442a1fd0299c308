"""A form for GPUs that ONNX Runtime can compute on a CPU, to measure its parity.

ONNX Runtime 1.31 refuses an attention bias with one row for all queries or one column for all keys,
which the operator's definition allows, and takes eight-bit weights behind DequantizeLinear as leave
to multiply in eight bits. Requires: attention as `fused_attention` writes it. Ensures: the numbers
that the form stands for, from a copy whose biases have a row per query and a column per key and
whose weights are widened. The copy is for measuring; bundles do not hold it.
"""

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from export.fresh_names import FreshNames
from export.weights.weight_grid import along


def cpu_checkable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The copy."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = FreshNames(model)
    ones = names.fresh("checkable_ones")
    copy.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.int64), ones))
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            copy.graph.initializer.append(widened(node, weights))
        elif node.op_type == "Attention" and len(node.input) > 3:
            nodes += with_full_bias(node, ones, names)
        else:
            nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def widened(node: NodeProto, weights: dict[str, onnx.TensorProto]) -> onnx.TensorProto:
    """The float32 weight that a DequantizeLinear stands for."""
    levels, steps = (numpy_helper.to_array(weights[name]) for name in node.input[:2])
    axis = helper.get_node_attr_value(node, "axis")
    value = np.asarray(levels * along(steps, axis, levels.ndim), np.float32)
    return numpy_helper.from_array(value, node.output[0])


def with_full_bias(node: NodeProto, ones: str, names: FreshNames) -> list[NodeProto]:
    """An attention and the nodes that give its bias a row per query and a column per key."""
    ends = ("rows", "columns", "shape", "bias")
    rows, columns, shape, wide = (names.fresh(f"{node.output[0]}_{end}") for end in ends)
    changed = NodeProto()
    changed.CopyFrom(node)
    changed.input[3] = wide
    return [
        helper.make_node("Shape", [node.input[0]], [rows], start=2, end=3),
        helper.make_node("Shape", [node.input[1]], [columns], start=2, end=3),
        helper.make_node("Concat", [ones, rows, columns], [shape], axis=0),
        helper.make_node("Expand", [node.input[3], shape], [wide]),
        changed,
    ]
