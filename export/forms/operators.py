"""Operators that accelerators of phones lack, one by one as others that they have.

Requires: a graph whose shapes are all numbers (`export.forms.static_shapes`). Ensures: the same
numbers, from operators that ONNX Runtime's CoreML provider lists for MLProgram; each rewriting says
what of. What it does not know stays. Norms are in `export.forms.norms`, attention in
`export.forms.attention`.

References:
    https://onnxruntime.ai/docs/execution-providers/CoreML-ExecutionProvider.html
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from export.passes.editor import GraphEditor, attribute

Rewriting = Callable[[GraphEditor, NodeProto], str | None]
"""What to read in a node's place; None where the node stays."""


def replace_operators(model: onnx.ModelProto) -> int:
    """Rewrite every node of `REWRITINGS`, in place.

    Returns:
        How many were.
    """
    editor = GraphEditor(model)
    count = sum(pad_in_convolution(editor, node) for node in editor.of_type("Pad"))
    for node in editor.of_type(*REWRITINGS):
        new = REWRITINGS[node.op_type](editor, node)
        if new is not None:
            editor.replace(node.output[0], new)
            count += 1
    editor.finish()
    return count


def swish(editor: GraphEditor, node: NodeProto) -> str:
    """`x sigmoid(alpha x)`."""
    source, alpha = node.input[0], attribute(node, "alpha", 1.702)
    inner = source
    if alpha != 1:
        inner = editor.add(
            "Mul", [source, editor.add_constant(np.array(alpha, np.float32), "alpha")]
        )
    return editor.add("Mul", [source, editor.add("Sigmoid", [inner])])


def negative(editor: GraphEditor, node: NodeProto) -> str | None:
    """Times -1."""
    if not editor.is_float(node.input[0]):
        return None
    return editor.add(
        "Mul", [node.input[0], editor.add_constant(np.array(-1, np.float32), "minus_one")]
    )


def greater(editor: GraphEditor, node: NodeProto) -> str | None:
    """Whether `relu(x - y)` is not 0: floats whose difference is 0 are equal."""
    first, second = node.input
    if not (editor.is_float(first) and editor.is_float(second)):
        return None
    limit = editor.constant(second)
    difference = first
    if limit is None or limit.any():
        difference = editor.add("Sub", [first, second])
    return editor.add("Cast", [editor.add("Relu", [difference])], to=TensorProto.BOOL)


def rows_of_table(editor: GraphEditor, node: NodeProto) -> str | None:
    """Rows looked up by `GatherND`, which needs an axis more in the indices."""
    table, ids = node.input
    shape = editor.shape(ids)
    if attribute(node, "axis", 0) != 0 or editor.constant(table) is None or not shape:
        return None
    return editor.add("GatherND", [table, editor.add("Unsqueeze", [ids, editor.integers(-1)])])


def pad_in_convolution(editor: GraphEditor, node: NodeProto) -> bool:
    """Let the one convolution that reads a map with zeros around it add them itself."""
    pads, conv = zero_pads(editor, node), editor.only_user(node.output[0], "Conv")
    if pads is None or conv is None or attribute(conv, "auto_pad", b"NOTSET") != b"NOTSET":
        return False
    count = len(pads) // 2
    around = [*pads[2:count], *pads[count + 2 :]]
    if conv.input[0] != node.output[0] or any(pads[:2] + pads[count : count + 2]):
        return False
    own = attribute(conv, "pads", [0] * len(around))
    attributes = {a.name: helper.get_attribute_value(a) for a in conv.attribute}
    attributes["pads"] = [first + second for first, second in zip(own, around, strict=True)]
    result = editor.add("Conv", [node.input[0], *conv.input[1:]], **attributes)
    editor.replace(conv.output[0], result)
    return True


def zero_pads(editor: GraphEditor, node: NodeProto) -> list[int] | None:
    """Zeros before each axis, then after each; None where a `Pad` does another thing."""
    shape, pads = editor.shape(node.input[0]), editor.constant(node.input[1])
    value = node.input[2] if len(node.input) > 2 else ""
    filled = editor.constant(value) if value else np.zeros(1)
    if attribute(node, "mode", b"constant") != b"constant" or len(node.input) > 3:
        return None
    if pads is None or shape is None or pads.size != 2 * len(shape) or (pads < 0).any():
        return None
    return None if filled is None or filled.any() else [int(n) for n in pads]


def padded(editor: GraphEditor, node: NodeProto) -> str | None:
    """Zeros at the ends by `Concat`, axis after axis."""
    pads, shape = zero_pads(editor, node), editor.shape(node.input[0])
    if pads is None or shape is None or any(not isinstance(n, int) for n in shape):
        return None
    if not editor.is_float(node.input[0]):
        return None
    sizes, count, result = [int(n) for n in shape if isinstance(n, int)], len(shape), node.input[0]
    for axis in range(count):
        before, after = pads[axis], pads[axis + count]
        parts = [zeros(editor, sizes, axis, before), result, zeros(editor, sizes, axis, after)]
        sizes[axis] += before + after
        if before + after:
            result = editor.add("Concat", [part for part in parts if part], axis=axis)
    return result


def zeros(editor: GraphEditor, sizes: list[int], axis: int, count: int) -> str:
    """A constant block of zeros as wide as `sizes` but on one axis; empty for none."""
    if not count:
        return ""
    return editor.add_constant(
        np.zeros([*sizes[:axis], count, *sizes[axis + 1 :]], np.float32), "padding"
    )


def repeated(editor: GraphEditor, node: NodeProto) -> str | None:
    """A float value times ones of the shape that it is repeated to; itself where it has it."""
    source, shape, target = node.input[0], editor.shape(node.input[0]), editor.shape(node.output[0])
    if shape == target and shape is not None:
        return str(source)
    if target is None or any(not isinstance(n, int) for n in target):
        return None
    if not editor.is_float(source):
        return None
    ones = np.ones([n for n in target if isinstance(n, int)], np.float32)
    return editor.add("Mul", [source, editor.add_constant(ones, "ones")])


REWRITINGS: Mapping[str, Rewriting] = {
    "QuickGelu": swish,
    "Neg": negative,
    "Greater": greater,
    "Gather": rows_of_table,
    "Pad": padded,
    "Expand": repeated,
}
