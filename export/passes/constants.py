"""Values that small constants decide, though nodes make them: `ConstantOfShape`, a gain times one.

The exporter writes a norm without weights and one whose weights are computed in this way. Requires:
an operator listed here. Ensures: the value that a runtime would compute, up to the last bit of a
function. Large weights are not worked out: a runtime does that once when it loads the graph.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto
from onnx.reference import ReferenceEvaluator

FOLDED = {
    *("Abs", "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Exp", "Expand"),
    *("Flatten", "Identity", "Mul", "Neg", "Pow", "ReduceMean", "ReduceSum", "Reciprocal"),
    *("Reshape", "Shape", "Sigmoid", "Slice", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose"),
    "Unsqueeze",
}
LARGE = 1 << 14
"""Numbers above which neither an input nor the result is looked at."""


def fold(node: NodeProto, constant: Callable[[str], NDArray[Any] | None]) -> NDArray[Any] | None:
    """What a node makes of constants; None where it reads something else, or is not listed.

    Args:
        node: with one output.
        constant: gives the value, of any shape, of a constant by name; None for other values.
    """
    if node.op_type not in FOLDED or node.domain or len(node.output) != 1:
        return None
    inputs: dict[str, NDArray[Any]] = {}
    for name in filter(None, node.input):
        value = constant(name)
        if value is None or value.size > LARGE:
            return None
        inputs[name] = value
    if node.op_type in ("ConstantOfShape", "Expand") and not small_target(node, inputs):
        return None
    with np.errstate(all="ignore"):  # a constant may be infinite: masks are
        (result,) = ReferenceEvaluator(node).run(None, inputs)
    return np.asarray(result)


def small_target(node: NodeProto, inputs: dict[str, NDArray[Any]]) -> bool:
    """Whether the shape that a node fills is one of few numbers."""
    return int(np.prod(np.abs(inputs[node.input[-1]]), dtype=np.float64)) <= LARGE
