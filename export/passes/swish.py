"""Swish as one operator.

Requires: `x * Sigmoid(x)`. Ensures: `QuickGelu` with alpha 1, ONNX Runtime's own name for it: one
pass over memory instead of two, and one of the few operators that its blocked layout passes
through. Does not know what `x` is.
"""

import onnx

from export.passes.editor import MICROSOFT, GraphEditor


def fuse_swish(model: onnx.ModelProto) -> int:
    """Rewrite every swish.

    Returns:
        How many there were.
    """
    editor = GraphEditor(model)
    count = 0
    for gate in editor.of_type("Sigmoid"):
        product = editor.only_user(gate.output[0], "Mul")
        if product is None or set(product.input) != {gate.input[0], gate.output[0]}:
            continue
        fused = editor.add("QuickGelu", [gate.input[0]], domain=MICROSOFT, alpha=1.0)
        editor.replace(product.output[0], fused)
        count += 1
    editor.finish()
    return count
