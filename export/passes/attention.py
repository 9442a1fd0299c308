"""Scaled dot-product attention as one operator.

Requires: what the exporter makes of `scaled_dot_product_attention` on `[B, N, C]` cut into heads:
`Softmax(scale q @ k^T + bias) @ v`, each side proven to be `[B, N, C]` cut into the same number of
heads, heads put first, and the result proven to be put together again as `[B, N, C]`; no bias, or
one that broadcasts to `[B, heads, N, keys]`. Anything else stays. Ensures: one `MultiHeadAttention`
of ONNX Runtime's own domain, which takes `[B, N, C]` as it is and does not write the heads out in
another order first; the bias is repeated for every query and key, as that operator wants it, once
for all blocks of one size. Without a bias the operator works in blocks and never holds the logits,
`[B, heads, N, keys]`. Does not know where queries, keys and bias come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import NodeProto

from export.passes.editor import MICROSOFT, GraphEditor, attribute
from export.passes.shape_rules import Shape
from export.passes.sizes import Axis

HEADS_FIRST = [0, 2, 1, 3]
"""The transposition between `[B, N, heads, C / heads]` and `[B, heads, N, C / heads]`."""
KEYS_LAST = [0, 1, 3, 2]
MATRIX = [0, 2, 1]


@dataclass(frozen=True, slots=True)
class Heads:
    """`[B, N, C]`, proven to be what was cut into heads, and its sizes."""

    tokens: tuple[str, ...]
    """One value, or several that lie one after another along N."""
    batch: Axis
    length: Axis
    heads: int
    width: int


@dataclass(frozen=True, slots=True)
class AttentionMatch:
    """One attention as found: sources are `[B, N, C]`."""

    query: Heads
    key: Heads
    value: Heads
    bias: str
    """Empty where nothing is added to the logits."""
    over_keys: bool
    """Whether the bias is proven to have a number for every key; else it may have one for all."""
    scale: float
    result: str


def fuse_attention(model: onnx.ModelProto) -> int:
    """Rewrite every attention.

    Returns:
        How many there were.
    """
    editor = GraphEditor(model)
    # All are found before one is rewritten: shapes are those of the graph as the pass met it.
    found = [a for node in editor.of_type("Softmax") if (a := find_attention(editor, node))]
    for attention in found:
        sides = [
            one_value(editor, side) for side in (attention.query, attention.key, attention.value)
        ]
        # Fourth and fifth: the bias of projections, which stay outside, and a mask of keys alone,
        # which a bias says too.
        bias = ["", "", full_bias(editor, attention, *sides[:2])] if attention.bias else []
        fused = editor.add(
            "MultiHeadAttention",
            [*sides, *bias],
            domain=MICROSOFT,
            num_heads=attention.query.heads,
            scale=attention.scale,
        )
        editor.replace(attention.result, fused)
    editor.finish()
    return len(found)


def one_value(editor: GraphEditor, side: Heads) -> str:
    """Tokens as one value: networks that attend to text and picture join their heads."""
    if len(side.tokens) == 1:
        return side.tokens[0]
    return editor.add("Concat", list(side.tokens), axis=1)


def full_bias(editor: GraphEditor, attention: AttentionMatch, query: str, key: str) -> str:
    """The bias with a row for every query and a number for every key."""
    one = editor.integers(1)
    rows = editor.add("Shape", [query], start=1, end=2)
    keys = one
    if not attention.over_keys:
        keys = editor.add("Shape", [key], start=1, end=2)
    # Batch and heads may stay 1, the operator broadcasts over those; over queries and keys it does
    # not.
    shape = editor.add("Concat", [one, one, rows, keys], axis=0)
    return editor.add("Expand", [attention.bias, shape])


def find_attention(editor: GraphEditor, softmax: NodeProto) -> AttentionMatch | None:
    """The attention around a softmax, if it is proven to be one."""
    biased = editor.maker(softmax.input[0], "Add")
    scale, scaled = unscaled(editor, biased.input[0] if biased else softmax.input[0])
    logits = editor.maker(scaled, "MatMul")
    mixed = editor.only_user(softmax.output[0], "MatMul")
    # The last of four axes, however it is counted; over any other it is no attention.
    if logits is None or mixed is None or attribute(softmax, "axis", -1) % 4 != 3:
        return None
    query_scale, query = unscaled(editor, logits.input[0])
    key_scale, key = unscaled(editor, logits.input[1])
    sides = (
        cut_heads(editor, query),
        cut_heads(editor, with_keys_first(editor, key)),
        # Probabilities on the left: values times probabilities has the same nodes and another
        # meaning.
        cut_heads(editor, mixed.input[1]) if mixed.input[0] == softmax.output[0] else None,
    )
    result = merged_heads(editor, mixed)
    if None in sides or result is None:
        return None
    first, second, third = (side for side in sides if side is not None)
    bias = str(biased.input[1]) if biased else ""
    if not fit(first, second, third) or (bias and not bias_fits(editor, bias, first)):
        return None
    bias_shape = (editor.shape(bias) if bias else None) or ()
    return AttentionMatch(
        query=first,
        key=second,
        value=third,
        bias=bias,
        over_keys=bias_shape[-1:] == (second.length,),
        # torch scales query and key by the root each, so that half precision does not overflow
        # between.
        scale=scale * query_scale * key_scale,
        result=result,
    )


def fit(query: Heads, key: Heads, value: Heads) -> bool:
    """Whether all have the same batch and heads, and a value belongs to each key."""
    same = {(side.batch, side.heads) for side in (query, key, value)}
    # Widths of values may differ from those of keys; the operator allows it.
    return len(same) == 1 and query.width == key.width and key.length == value.length


def bias_fits(editor: GraphEditor, bias: str, query: Heads) -> bool:
    """Whether a bias broadcasts to the logits and makes them no larger.

    Its last axis must be that of the keys or 1, or the values, which are as many, would not fit.
    """
    return fits_within(editor.shape(bias), (query.batch, query.heads, query.length))


def fits_within(bias: Shape | None, logits: Sequence[Axis]) -> bool:
    """Whether a bias is proven to broadcast to logits and to make them no larger.

    Args:
        bias: its axes; None where not even their number is known.
        logits: all axes but the last.
    """
    if bias is None or not 1 <= len(bias) <= len(logits) + 1:
        return False
    return all(axis in (1, size) for axis, size in zip(bias[-2::-1], logits[::-1], strict=False))


def unscaled(editor: GraphEditor, name: str) -> tuple[float, str]:
    """A constant factor other than 0 and what it multiplies; 1 where there is none."""
    product = editor.maker(name, "Mul") or editor.maker(name, "Div")
    if product is not None:
        factor = editor.constant(product.input[1])
        if factor is not None and factor.size == 1 and factor.ndim <= 1 and factor.item():
            divides = product.op_type == "Div"
            return float(1 / factor.item() if divides else factor.item()), product.input[0]
    # A factor of 0 stays where it is: to the operator it would mean the root of the width.
    return 1.0, name


def with_keys_first(editor: GraphEditor, name: str) -> str:
    """`[B, heads, keys, width]` of what was turned to `[B, heads, width, keys]`; else nothing.

    The exporter turns all heads at once, or makes one stack of matrices of them and turns those.
    """
    shape = editor.shape(name)
    turned = editor.maker(name, "Transpose")
    if turned is not None and attribute(turned, "perm") == KEYS_LAST:
        return str(turned.input[0])
    back = editor.maker(name, "Reshape")
    turned = back and editor.maker(back.input[0], "Transpose")
    stacked = turned and editor.maker(turned.input[0], "Reshape")
    if turned is None or stacked is None or attribute(turned, "perm") != MATRIX:
        return ""
    before, stack = editor.shape(stacked.input[0]), editor.shape(stacked.output[0])
    if shape is None or before is None or stack is None or (len(shape), len(before)) != (4, 4):
        return ""
    kept = stack[1:] == before[2:] and shape == (*before[:2], before[3], before[2])
    return str(stacked.input[0]) if kept else ""


def cut_heads(editor: GraphEditor, name: str) -> Heads | None:
    """What `[B, heads, N, width]` was cut out of, if that is proven to be `[B, N, C]`."""
    joined = editor.maker(name, "Concat")
    if joined is not None:
        return joined_heads(editor, joined)
    turned = editor.maker(name, "Transpose")
    cut = turned and editor.maker(turned.input[0], "Reshape")
    if turned is None or cut is None or attribute(turned, "perm") != HEADS_FIRST:
        return None
    source, target = editor.shape(cut.input[0]), editor.shape(cut.output[0])
    if source is None or target is None or not splits_last(source, target):
        return None
    batch, length, heads, width = target
    if not isinstance(heads, int) or not isinstance(width, int):
        return None
    return Heads((str(cut.input[0]),), batch, length, heads, width)


def joined_heads(editor: GraphEditor, joined: NodeProto) -> Heads | None:
    """Heads that lie one after another along their tokens, each cut out of values of its own."""
    shape = editor.shape(joined.output[0])
    found = [cut_heads(editor, name) for name in joined.input]
    parts = [part for part in found if part is not None]
    if shape is None or len(parts) < len(found) or attribute(joined, "axis") % 4 != 2:
        return None
    if len({(part.batch, part.heads, part.width) for part in parts}) != 1:
        return None
    tokens = tuple(name for part in parts for name in part.tokens)
    return replace(parts[0], tokens=tokens, length=shape[2])


def merged_heads(editor: GraphEditor, mixed: NodeProto) -> str | None:
    """The `[B, N, C]` that the heads are put together to, if it is proven to be that."""
    turned = editor.only_user(mixed.output[0], "Transpose")
    merged = turned and editor.only_user(turned.output[0], "Reshape")
    if turned is None or merged is None or attribute(turned, "perm") != HEADS_FIRST:
        return None
    source, target = editor.shape(turned.output[0]), editor.shape(merged.output[0])
    if source is None or target is None or not splits_last(target, source):
        return None
    return str(merged.output[0])


def splits_last(whole: tuple[Axis, ...], parts: tuple[Axis, ...]) -> bool:
    """Whether two shapes of as many numbers differ by their last axis alone, cut in two.

    Where one of the first two axes is equal and the last has the size of its parts, so has the
    other: both shapes hold the same numbers.
    """
    if len(whole) != 3 or len(parts) != 4:
        return False
    heads, width = parts[2:]
    if not isinstance(heads, int) or not isinstance(width, int):
        return False
    return whole[2] == heads * width and (whole[0] == parts[0] or whole[1] == parts[1])
