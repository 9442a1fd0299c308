"""The form of a stored graph for accelerators of phones: one batch, one number of tokens.

Puts the rewritings of this package in order. Knows graphs; not bundles.
"""

from collections.abc import Mapping

import onnx

from export.forms.attention import write_attention_out
from export.forms.norms import restate_norms
from export.forms.operators import replace_operators
from export.forms.reshapes import join_reshapes
from export.forms.static_shapes import fix_axes, fold_shapes

MICROSOFT = "com.microsoft"


def phone_form(
    model: onnx.ModelProto, batch: int, tokens: int, sides: Mapping[str, int] | None = None
) -> onnx.ModelProto:
    """A copy whose sizes are all numbers, of operators that ONNX Runtime's CoreML provider lists.

    Weights stay in the format that they are stored in: a runtime widens them when it loads the
    graph, before it looks for what its accelerator takes.

    Args:
        model: with its weights inside; left alone.
        batch: rows of every run; with guidance by two rows that many.
        tokens: of every text; shorter ones are padded, and masked.
        sides: `height` and `width` of pictures, where the graph leaves them free.

    Raises:
        ValueError: an axis has no size, or an operator has a shape that the rewritings do not know.
    """
    form = onnx.ModelProto()
    form.CopyFrom(model)
    fix_axes(form, {"batch": batch, "tokens": tokens, **(sides or {})})
    write_attention_out(form)
    fold_shapes(form)
    restate_norms(form)
    replace_operators(form)
    join_reshapes(form)
    drop_unused_domains(form)
    onnx.checker.check_model(form)
    return form


def drop_unused_domains(model: onnx.ModelProto) -> None:
    """Leave out operator sets that no node is of."""
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
