"""A copy of its own for every way in which a shared weight is read.

OpenVINO 2026.4 lays a layer's weight out for that layer and hands the result to whatever else reads
the same constant: a transposed convolution beside a convolution, or a square matrix beside its
transpose, computes wrong numbers without a word (findings/openvino-shared-weight.sh). Ensures: no
constant is read both ways. Knows ONNX nodes; not which engine will read them.
"""

import onnx
from onnx import NodeProto

from export.fresh_names import FreshNames

WAYS = {
    "Conv": "forwards",
    "ConvTranspose": "transposed",
    "MatMul": "columns",
    "Transpose": "rows",
}
"""How operators read a weight; `Gemm` says it in an attribute."""


def own_weights(model: onnx.ModelProto) -> int:
    """Copy, in place, what is read in several ways: the first one keeps the constant.

    Returns:
        How many copies were made.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    names = FreshNames(model)
    first: dict[str, str] = {}
    copies: dict[tuple[str, str], str] = {}
    for node in model.graph.node:
        way = way_of(node)
        for place, name in enumerate(node.input):
            if not way or name not in weights or first.setdefault(name, way) == way:
                continue
            if (name, way) not in copies:
                own = onnx.TensorProto()
                own.CopyFrom(weights[name])
                own.name = copies[name, way] = names.fresh(f"{name}_{way}")
                model.graph.initializer.append(own)
            node.input[place] = copies[name, way]
    return len(copies)


def way_of(node: NodeProto) -> str:
    """How a node reads its weight; empty where it computes with it as it lies."""
    if node.domain:
        return ""
    if node.op_type == "Gemm":
        turned = next((a.i for a in node.attribute if a.name == "transB"), 0)
        return "rows" if turned else "columns"
    return WAYS.get(node.op_type, "")
