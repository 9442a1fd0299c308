"""Splits into many parts as splits of splits.

A shader of WebGPU writes to ten buffers at most, one of which the operator needs itself. Requires:
parts of known sizes. Ensures: the same parts, no node of more than `MOST` outputs. Knows no
networks.
"""

import onnx
from onnx import NodeProto

from export.passes.editor import GraphEditor, attribute

MOST = 8
"""Outputs of one node."""


def narrow_splits(model: onnx.ModelProto) -> int:
    """Rewrite every wider split, in place.

    Returns:
        How many there were.

    Raises:
        ValueError: the sizes of one's parts are not known.
    """
    editor = GraphEditor(model)
    wide = [node for node in editor.of_type("Split") if len(node.output) > MOST]
    for node in wide:
        sizes, axis = part_sizes(editor, node), attribute(node, "axis", 0)
        for old, new in zip(node.output, parts(editor, node.input[0], sizes, axis), strict=True):
            editor.replace(old, new)
    if wide:
        editor.finish()
    return len(wide)


def parts(editor: GraphEditor, source: str, sizes: list[int], axis: int) -> list[str]:
    """The parts of a value, by as many levels of splits as their number needs."""
    if len(sizes) <= MOST:
        return editor.add_many("Split", [source, editor.integers(*sizes)], len(sizes), axis=axis)
    step = -(-len(sizes) // MOST)
    groups = [sizes[start : start + step] for start in range(0, len(sizes), step)]
    joined = [sum(group) for group in groups]
    pieces = editor.add_many("Split", [source, editor.integers(*joined)], len(groups), axis=axis)
    found: list[str] = []
    for piece, group in zip(pieces, groups, strict=True):
        found += parts(editor, piece, group, axis) if len(group) > 1 else [piece]
    return found


def part_sizes(editor: GraphEditor, node: NodeProto) -> list[int]:
    """How wide each part is.

    Raises:
        ValueError: that is decided at run time.
    """
    if len(node.input) > 1 and node.input[1]:
        stated = editor.constant(node.input[1])
        if stated is None:
            raise ValueError(f"{node.output[0]}: a split into parts of computed sizes")
        return [int(size) for size in stated]
    shape = editor.shape(node.input[0])
    whole = shape[attribute(node, "axis", 0)] if shape else None
    if not isinstance(whole, int):
        raise ValueError(f"{node.output[0]}: a split of an axis of unknown size")
    # As the operator has it: where the number does not divide, the last part is smaller.
    size = -(-whole // len(node.output))
    return [size] * (len(node.output) - 1) + [whole - size * (len(node.output) - 1)]
