"""Factors per sample multiplied with each other before they meet a picture.

Requires: `Mul(Mul(picture, a), b)` with `a` and `b` of shape `[B, 1, 1, 1]`. Ensures: `Mul(picture,
Mul(a, b))`: the same product in another order, one pass over the picture fewer. Does not know what
the factors mean.
"""

import onnx
from onnx import NodeProto

from export.passes.editor import GraphEditor
from export.passes.shape_rules import Shape


def gather_sample_factors(model: onnx.ModelProto) -> int:
    """Rewrite every chain of two.

    Returns:
        How many passes over a picture were saved.
    """
    editor = GraphEditor(model)
    count = 0
    for outer in editor.of_type("Mul"):
        picture, factor = picture_and_factor(editor, outer)
        inner = editor.maker(picture, "Mul")
        if inner is None:
            continue
        source, first = picture_and_factor(editor, inner)
        if not source or not factor:
            continue
        together = editor.add("Mul", [first, factor])
        editor.replace(outer.output[0], editor.add("Mul", [source, together]))
        count += 1
    editor.finish()
    return count


def picture_and_factor(editor: GraphEditor, product: NodeProto) -> tuple[str, str]:
    """The inputs of a `Mul`, if one is a picture and the other one number per sample."""
    for picture, factor in (product.input, reversed(product.input)):
        if is_factor(editor.shape(factor)) and is_picture(editor.shape(picture)):
            return str(picture), str(factor)
    return "", ""


def is_factor(shape: Shape | None) -> bool:
    """`[B, 1, 1, 1]`."""
    return shape is not None and len(shape) == 4 and shape[1:] == (1, 1, 1)


def is_picture(shape: Shape | None) -> bool:
    """Rank 4 with more than one position."""
    return shape is not None and len(shape) == 4 and shape[2:] != (1, 1)
