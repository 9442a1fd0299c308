"""Nodes whose numbers half precision does not hold, though their operators allow it.

Three kinds: sums of squares, which overflow as those of normalisations do, written out; numbers too
small for the type, which guard a division by zero; and softmaxes, whose sums round. The first two
stay in float32 up to the division or product that they are made for. Knows ONNX nodes; not
networks.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

SUMS = frozenset({"ReduceMean", "ReduceSum"})
SUMS_OF_SQUARES = frozenset({"ReduceL2", "ReduceSumSquare"})
PASSED_ON = SUMS | {"Add", "Clip", "Expand", "Log", "Max", "Pow", "Reciprocal", "Sqrt", "Unsqueeze"}
"""Operators between a sum of squares or a guard and what is divided by it."""
ROUNDED_TO_ZERO = 2.0**-25
"""Half of the smallest number of half precision."""
LAST = frozenset({"Div", "Mul"})


def sensitive(model: onnx.ModelProto, kind: int) -> set[int]:
    """Positions of the nodes to compute in float32.

    Args:
        model: its nodes in order.
        kind: the narrow type, of `onnx.TensorProto`.
    """
    numbers = single_numbers(model)
    nodes = list(model.graph.node)
    squares = {n.output[0] for n in nodes if is_square(n, numbers)}
    summed = squares & {n.input[0] for n in nodes if n.op_type in SUMS}
    found: set[int] = set()
    passed: set[str] = set()
    for position, node in enumerate(nodes):
        begins = (
            node.op_type in SUMS_OF_SQUARES
            or node.output[0] in summed
            or (kind == TensorProto.FLOAT16 and any(too_small(node, numbers)))
        )
        follows = not passed.isdisjoint(node.input)
        if node.op_type == "Softmax" or begins or (follows and node.op_type in PASSED_ON | LAST):
            found.add(position)
        if begins or (follows and node.op_type in PASSED_ON):
            passed.update(node.output)
    return found


def single_numbers(model: onnx.ModelProto) -> Mapping[str, float]:
    """Constants of one float."""
    return {
        tensor.name: float(numpy_helper.to_array(tensor).item())
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) == 1
    }


def is_square(node: NodeProto, numbers: Mapping[str, float]) -> bool:
    """Whether a node multiplies a value by itself."""
    if node.op_type == "Mul":
        return bool(node.input[0] == node.input[1])
    return node.op_type == "Pow" and numbers.get(node.input[1]) == 2


def too_small(node: NodeProto, numbers: Mapping[str, float]) -> Iterator[bool]:
    """Whether each constant of a node is 0 in half precision and is not."""
    for name in node.input:
        yield 0 < abs(numbers.get(name, 0.0)) <= ROUNDED_TO_ZERO
