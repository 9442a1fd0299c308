"""Which nodes of a graph can compute in eight bits: those that multiply by a constant weight.

Knows ONNX nodes; not ranges, errors or engines.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One node that multiplies an activation by a constant weight."""

    name: str
    """The node's first output: the one name that every graph has and never twice."""
    label: str
    """For people: the weight's name, which torch took from the module."""
    kind: str
    activation: str
    weight: str
    bias: str | None
    channel_axis: int
    """Axis of the weight that is the output channel."""
    channels: int
    macs_per_output: float
    """Multiply-accumulates behind one output value."""


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Initialisers by name, without those that a graph input may replace."""
    inputs = {info.name for info in model.graph.input}
    return {t.name: t for t in model.graph.initializer if t.name not in inputs}


def find_layers(model: onnx.ModelProto) -> list[Layer]:
    """Every such node of the graph in order."""
    weights = constants(model)
    layers = (describe(node, weights) for node in model.graph.node if node.op_type in HEAVY)
    return [layer for layer in layers if layer is not None]


def describe(node: NodeProto, weights: dict[str, onnx.TensorProto]) -> Layer | None:
    """One node as a layer; None where it is none."""
    # A domain of its own is a fused operator; a constant on the left is a table, not an activation.
    if node.domain or node.input[1] not in weights or node.input[0] in weights:
        return None
    weight = weights[node.input[1]]
    bias = node.input[2] if len(node.input) > 2 else ""
    if weight.data_type != onnx.TensorProto.FLOAT or (bias and bias not in weights):
        return None
    axis = channel_axis(node, len(weight.dims))
    if axis is None:
        return None
    size = float(np.prod(weight.dims))
    groups = attribute(node, "group", 1)
    channels = weight.dims[axis] * (groups if node.op_type == "ConvTranspose" else 1)
    macs = size / channels
    if node.op_type == "ConvTranspose":
        # Each input value meets the whole kernel once, spread over stride x stride outputs.
        strides = next((a.ints for a in node.attribute if a.name == "strides"), [1])
        macs /= float(np.prod(strides))
    return Layer(
        name=node.output[0],
        label=node.input[1],
        kind=node.op_type,
        activation=node.input[0],
        weight=node.input[1],
        bias=bias or None,
        channel_axis=axis,
        channels=int(channels),
        macs_per_output=macs,
    )


def channel_axis(node: NodeProto, rank: int) -> int | None:
    """Axis of the weight that is the output channel; None where the node's form is not ours."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        # With groups the channels are spread over both axes, and one step per channel has no axis.
        return 1 if attribute(node, "group", 1) == 1 else None
    if rank != 2:
        return None
    if node.op_type == "MatMul":
        return 1
    # Factors would have to go into the steps of weight and bias, each into the right one.
    plain = not attribute(node, "transA", 0) and scale(node, "alpha") == scale(node, "beta") == 1
    if not plain:
        return None
    return 0 if attribute(node, "transB", 0) else 1


def attribute(node: NodeProto, name: str, default: int) -> int:
    """A whole-number attribute."""
    return next((a.i for a in node.attribute if a.name == name), default)


def scale(node: NodeProto, name: str) -> float:
    """A float attribute of Gemm; 1 where it is not given."""
    return next((a.f for a in node.attribute if a.name == name), 1.0)


def array(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    """An initialiser's values."""
    return np.asarray(numpy_helper.to_array(tensor), np.float32)
