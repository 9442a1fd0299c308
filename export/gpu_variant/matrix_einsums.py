"""Einstein sums that are products of stacked matrices, as products.

Requires: any graph. Ensures: an `Einsum` of two stacks of matrices, summed over one axis, is a
`MatMul` with what is turned beside it; others are left alone. Attention that a network writes so is
found by its products then. Knows ONNX nodes; not networks.
"""

import onnx

from export.passes.editor import GraphEditor, attribute

TURNED = [0, 2, 1]


def restate_einsums(model: onnx.ModelProto) -> int:
    """Replace every such sum, in place.

    Returns:
        How many.
    """
    editor = GraphEditor(model)
    count = 0
    for node in editor.of_type("Einsum"):
        found = turns_of(attribute(node, "equation").decode())
        if found is None:
            continue
        sides = [
            editor.add("Transpose", [side], perm=TURNED) if is_turned else side
            for side, is_turned in zip(node.input, found[:2], strict=True)
        ]
        result = editor.add("MatMul", sides, name=node.name)
        if found[2]:
            result = editor.add("Transpose", [result], perm=TURNED)
        editor.replace(str(node.output[0]), result)
        count += 1
    if count:
        # Only then: it orders nodes anew.
        editor.finish()
    return count


def turns_of(equation: str) -> tuple[bool, bool, bool] | None:
    """Which of left, right and result are turned, for `left @ right`; None where it is no product.

    Args:
        equation: such as `bct,bcs->bts`.
    """
    sides, _, result = equation.replace(" ", "").partition("->")
    left, _, right = sides.partition(",")
    if not all(
        len(set(term)) == len(term) == 3 and term.isalpha() for term in (left, right, result)
    ):
        return None
    batch = result[0]
    summed = (set(left) & set(right)) - {batch}
    if left[0] != batch or right[0] != batch or len(summed) != 1 or summed & set(result):
        return None
    (inner,) = summed
    (row,), (column,) = set(left) - {batch, inner}, set(right) - {batch, inner}
    if set(result) != {batch, row, column}:
        return None
    return left[1] == inner, right[1] != inner, result[1] == column
