"""The pixel shuffle as two transpositions that ONNX Runtime does fast.

Its DepthToSpace moves single numbers through six axes. Requires: `DepthToSpace` in mode CRD
(torch's order) with a constant block. Ensures: first the columns of each block go innermost, a
plain matrix transposition per block row; then whole picture rows change places. The same numbers,
moved. Pays on large pictures (measured: decision 8). Does not know what made them.
"""

import onnx
from onnx import NodeProto

from export.passes.editor import GraphEditor, attribute


def split_pixel_shuffles(model: onnx.ModelProto) -> int:
    """Rewrite every pixel shuffle.

    Returns:
        How many there were.
    """
    editor = GraphEditor(model)
    count = 0
    for node in editor.of_type("DepthToSpace"):
        shape = editor.shape(node.input[0])
        if attribute(node, "mode", b"DCR") != b"CRD" or shape is None:
            continue
        channels = shape[1] if len(shape) == 4 else None
        if isinstance(channels, int):
            rewrite(editor, node, channels)
            count += 1
    editor.finish()
    return count


def rewrite(editor: GraphEditor, node: NodeProto, channels: int) -> None:
    """`[B, C b b, H, W]` to `[B, C, H b, W b]`."""
    block = attribute(node, "blocksize")
    planes = channels // block**2
    height = editor.add("Shape", [node.input[0]], start=2, end=3)
    columns = editor.add("Reshape", [node.input[0], editor.integers(0, planes * block, block, -1)])
    columns = editor.add("Transpose", [columns], perm=[0, 1, 3, 2])
    by_row = [editor.integers(0, planes, block), height, editor.integers(-1)]
    rows = editor.add("Reshape", [columns, editor.add("Concat", by_row, axis=0)])
    rows = editor.add("Transpose", [rows], perm=[0, 1, 3, 2, 4])
    tall = editor.add("Mul", [height, editor.integers(block)])
    picture = editor.add("Concat", [editor.integers(0, planes), tall, editor.integers(-1)], axis=0)
    editor.replace(node.output[0], editor.add("Reshape", [rows, picture]))
