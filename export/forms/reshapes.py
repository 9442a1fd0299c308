"""Reshapes of reshapes as one, and none where the shape stays.

Requires: a graph whose shapes are all numbers. Ensures: the same numbers, fewer copies.
"""

import onnx

from export.passes.editor import GraphEditor


def join_reshapes(model: onnx.ModelProto) -> int:
    """Rewrite every reshape whose source is one, in place.

    Returns:
        How many went.
    """
    editor = GraphEditor(model)
    before = len(model.graph.node)
    for node in editor.of_type("Reshape"):
        target, source = editor.shape(node.output[0]), node.input[0]
        if target is None:
            continue
        sizes = [size for size in target if isinstance(size, int)]
        if len(sizes) != len(target):
            continue
        while (first := editor.maker(source, "Reshape")) is not None:
            source = first.input[0]
        if editor.shape(source) == target:
            editor.replace(node.output[0], source)
        else:
            node.input[0], node.input[1] = source, editor.integers(*sizes)
    editor.finish()
    return before - len(model.graph.node)
