"""Scaled dot-product attention as one operator.

Requires: what the exporter makes of `scaled_dot_product_attention` on `[B, N, C]` cut into heads:
`Softmax(scale q @ k^T + bias) @ v`, each side proven to be `[B, N, C]` cut into the same number of
heads, heads put first, and the result proven to be put together again as `[B, N, C]`; a bias that
broadcasts to `[B, heads, N, keys]`. Anything else stays. Ensures: one `MultiHeadAttention` of ONNX
Runtime's own domain, which takes `[B, N, C]` as it is and does not write the heads out in another
order first; the bias is repeated for every query and key, as that operator wants it, once for all
blocks of one size. Does not know where queries, keys and bias come from.
"""

from dataclasses import dataclass

import onnx
from onnx import NodeProto

from export.passes.editor import MICROSOFT, GraphEditor, attribute
from export.passes.sizes import Axis

HEADS_FIRST = [0, 2, 1, 3]
"""The transposition between `[B, N, heads, C / heads]` and `[B, heads, N, C / heads]`."""
KEYS_LAST = [0, 1, 3, 2]
MATRIX = [0, 2, 1]


@dataclass(frozen=True, slots=True)
class Heads:
    """`[B, N, C]`, proven to be what was cut into heads, and its sizes."""

    tokens: str
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
        fused = editor.add(
            "MultiHeadAttention",
            [
                *(side.tokens for side in (attention.query, attention.key, attention.value)),
                # Fourth and fifth: the bias of projections, which stay outside, and a mask of keys
                # alone, which a bias says too.
                *("", "", full_bias(editor, attention)),
            ],
            domain=MICROSOFT,
            num_heads=attention.query.heads,
            scale=attention.scale,
        )
        editor.replace(attention.result, fused)
    editor.finish()
    return len(found)


def full_bias(editor: GraphEditor, attention: AttentionMatch) -> str:
    """The bias with a row for every query and a number for every key."""
    one = editor.integers(1)
    rows = editor.add("Shape", [attention.query.tokens], start=1, end=2)
    keys = one
    if not attention.over_keys:
        keys = editor.add("Shape", [attention.key.tokens], start=1, end=2)
    # Batch and heads may stay 1, the operator broadcasts over those; over queries and keys it does
    # not.
    shape = editor.add("Concat", [one, one, rows, keys], axis=0)
    return editor.add("Expand", [attention.bias, shape])


def find_attention(editor: GraphEditor, softmax: NodeProto) -> AttentionMatch | None:
    """The attention around a softmax, if it is proven to be one."""
    biased = editor.maker(softmax.input[0], "Add")
    logits = biased and editor.maker(biased.input[0], "MatMul")
    mixed = editor.only_user(softmax.output[0], "MatMul")
    # The last of four axes, however it is counted; over any other it is no attention.
    if biased is None or logits is None or mixed is None or attribute(softmax, "axis", -1) % 4 != 3:
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
    if not (fit(first, second, third) and bias_fits(editor, biased.input[1], first)):
        return None
    bias_shape = editor.shape(biased.input[1]) or ()
    return AttentionMatch(
        query=first,
        key=second,
        value=third,
        bias=biased.input[1],
        over_keys=bias_shape[-1:] == (second.length,),
        # torch scales query and key by the root each, so that half precision does not overflow
        # between.
        scale=query_scale * key_scale,
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
    shape = editor.shape(bias)
    if shape is None or not 1 <= len(shape) <= 4:
        return False
    logits = (query.batch, query.heads, query.length)
    return all(axis in (1, size) for axis, size in zip(shape[-2::-1], logits[::-1], strict=False))


def unscaled(editor: GraphEditor, name: str) -> tuple[float, str]:
    """A constant factor and what it multiplies; 1 where there is none."""
    product = editor.maker(name, "Mul")
    if product is not None:
        factor = editor.constant(product.input[1])
        if factor is not None and factor.size == 1 and factor.ndim <= 1:
            return float(factor.item()), product.input[0]
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
    return Heads(str(cut.input[0]), batch, length, heads, width)


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
