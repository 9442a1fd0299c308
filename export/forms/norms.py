"""Norms as accelerators of phones bear them: layer norms over constant shapes, `Mul` and `Add`.

Requires: a graph whose shapes are all numbers; norms as `export.passes.group_norm` leaves them.
Ensures: the same numbers up to rounding. `InstanceNormalization` becomes `LayerNormalization` of
rows, which every converter takes right also where means are large; `BatchNormalization` becomes one
multiplication and one addition per channel. Knows no networks.
"""

import numpy as np
import onnx
from onnx import NodeProto

from export.passes.editor import GraphEditor, attribute
from export.passes.shape_rules import Shape


def restate_norms(model: onnx.ModelProto) -> int:
    """Rewrite every instance, group and batch norm, in place.

    Returns:
        How many there were.

    Raises:
        ValueError: the shape of one's input is not known.
    """
    editor = GraphEditor(model)
    count = 0
    for node in editor.of_type(*RESTATED):
        shape = editor.shape(node.input[0])
        if shape is None or any(not isinstance(n, int) for n in shape):
            raise ValueError(f"{node.output[0]}: a norm over sizes that are not known: {shape}")
        editor.replace(node.output[0], RESTATED[node.op_type](editor, node, shape))
        count += 1
    if count:
        editor.finish()
    return count


def instance_norm(editor: GraphEditor, node: NodeProto, shape: Shape) -> str:
    """Each channel of each sample with mean 0 and variance 1, then its gain and offset."""
    rows = normalised(editor, node, shape, int(shape[1]))  # type: ignore[arg-type]
    return affine(editor, rows, (node.input[1], node.input[2]), len(shape))


def group_norm(editor: GraphEditor, node: NodeProto, shape: Shape) -> str:
    """The same over groups of channels."""
    rows = normalised(editor, node, shape, attribute(node, "num_groups"))
    return affine(editor, rows, (node.input[1], node.input[2]), len(shape))


def normalised(editor: GraphEditor, node: NodeProto, shape: Shape, groups: int) -> str:
    """Rows `[B, groups, n]` with mean 0 and variance 1, in the shape that they had."""
    sizes = [int(n) for n in shape if isinstance(n, int)]
    width = int(np.prod(sizes[1:])) // groups
    rows = editor.add("Reshape", [node.input[0], editor.integers(sizes[0], groups, width)])
    ones = editor.add_constant(np.ones(width, np.float32), "ones")
    epsilon = attribute(node, "epsilon", 1e-5)
    rows = editor.add("LayerNormalization", [rows, ones], axis=-1, epsilon=epsilon)
    return editor.add("Reshape", [rows, editor.integers(*sizes)])


def batch_norm(editor: GraphEditor, node: NodeProto, shape: Shape) -> str:
    """The affine that a norm with stored mean and variance is.

    Raises:
        ValueError: gain and offset are computed, and mean and variance are not 0 and 1.
    """
    gain, offset, mean, variance = (editor.constant(name) for name in node.input[1:5])
    epsilon = attribute(node, "epsilon", 1e-5)
    if mean is None or variance is None:
        raise ValueError(f"{node.output[0]}: a batch norm of computed statistics")
    if not mean.any() and (variance + np.float32(epsilon) == 1).all():
        return affine(editor, node.input[0], (node.input[1], node.input[2]), len(shape))
    if gain is None or offset is None:
        raise ValueError(f"{node.output[0]}: a batch norm of computed gain and stored statistics")
    root = np.sqrt(variance.astype(np.float64) + epsilon)
    slope = gain / root
    pair = (
        editor.add_constant(slope.astype(np.float32), "gain"),
        editor.add_constant((offset - mean * slope).astype(np.float32), "offset"),
    )
    return affine(editor, node.input[0], pair, len(shape))


def affine(editor: GraphEditor, source: str, pair: tuple[str, str], axes: int) -> str:
    """`source * gain + offset` along the second of some axes, without what changes nothing."""
    gain, offset = (editor.constant(name) for name in pair)
    if gain is None or (gain != 1).any():
        source = editor.add("Mul", [source, per_channel(editor, pair[0], axes)])
    if offset is None or offset.any():
        source = editor.add("Add", [source, per_channel(editor, pair[1], axes)])
    return source


def per_channel(editor: GraphEditor, name: str, axes: int) -> str:
    """A vector `[C]` as `[1, C, 1, ...]`."""
    value = editor.constant(name)
    if value is not None:
        return editor.add_constant(value.reshape(1, -1, *[1] * (axes - 2)), "per_channel")
    return editor.add("Reshape", [name, editor.integers(1, -1, *[1] * (axes - 2))])


RESTATED = {
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "BatchNormalization": batch_norm,
}
