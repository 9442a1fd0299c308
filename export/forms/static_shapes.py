"""Every free axis of a graph as a number, and no arithmetic on shapes left.

Requires: free axes of inputs named. Ensures: the same numbers at the sizes given; what `Shape` and
nodes behind it worked out are constants, `Reshape` targets too. Weights are not folded: they stay
in the format that they are stored in. Knows no networks.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from export.passes.editor import GraphEditor, attribute


def fix_axes(model: onnx.ModelProto, sizes: Mapping[str, int]) -> None:
    """Write sizes in the place of names into a graph's inputs and outputs.

    Raises:
        ValueError: an axis of an input is free and has no size.
    """
    for info in (*model.graph.input, *model.graph.output):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    for info in model.graph.input:
        free = [d.dim_param or "?" for d in info.type.tensor_type.shape.dim if not d.dim_value]
        if free:
            raise ValueError(f"{info.name}: the axis {free[0]} has no size")
    del model.graph.value_info[:]


def fold_shapes(model: onnx.ModelProto) -> int:
    """Make constants of all that shapes decide, in place, until nothing more can be.

    Returns:
        How many nodes went.
    """
    before = len(model.graph.node)
    while fold_once(model):
        pass
    return before - len(model.graph.node)


def fold_once(model: onnx.ModelProto) -> bool:
    """One walk over the graph; whether anything became a constant."""
    editor = GraphEditor(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    widened: set[str] = set()
    changed = False
    for node in list(model.graph.node):
        if widens(node, stored, widened):
            # What weights are made of at loading: as constants they would be four times as large.
            widened.update(node.output)
            continue
        value = known(editor, node)
        if value is not None:
            editor.replace(node.output[0], editor.add_constant(value, "known"))
            changed = True
    if changed:
        editor.finish()
    return changed


def widens(node: NodeProto, stored: set[str], widened: set[str]) -> bool:
    """Whether a node is one of those that widen a stored weight."""
    if node.op_type in ("Cast", "DequantizeLinear") and node.input[0] in stored:
        return True
    return bool(widened.intersection(node.input)) and stored | widened >= set(node.input)


def known(editor: GraphEditor, node: NodeProto) -> NDArray[Any] | None:
    """What a node gives whatever it is fed, if that is known and small."""
    if len(node.output) != 1:
        return None
    if node.op_type == "Shape":
        shape = editor.shape(node.input[0])
        if shape is None or any(not isinstance(n, int) for n in shape):
            return None
        piece = slice(attribute(node, "start", 0), attribute(node, "end"))
        return np.array(shape, np.int64)[piece]
    return editor.constant(node.output[0])
