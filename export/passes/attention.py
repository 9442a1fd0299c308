"""Scaled dot-product attention as one operator.

Requires: what the exporter makes of `scaled_dot_product_attention` on `[B, N, C]` cut into heads:
`Softmax(scale q @ k^T + bias) @ v`, each side reached from `[B, N, C]` through `Reshape` and
`Transpose`, the bias `[B, 1, 1, keys]`. Ensures: one `MultiHeadAttention` of ONNX Runtime's own
domain, which takes `[B, N, C]` as it is and does not write the heads out in another order first;
the bias is repeated for every query, as that operator wants it, once for all blocks of one size.
Does not know where queries, keys and bias come from.
"""

from dataclasses import dataclass

import onnx
from onnx import NodeProto

from export.passes.editor import MICROSOFT, GraphEditor

HEADS_FIRST = [0, 2, 1, 3]
"""The transposition between `[B, N, heads, C / heads]` and `[B, heads, N, C / heads]`."""


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention as found: sources are `[B, N, C]`."""

    query: str
    key: str
    value: str
    bias: str
    scale: float
    heads: int
    result: str


def fuse_attention(model: onnx.ModelProto) -> int:
    """Rewrite every attention.

    Returns:
        How many there were.
    """
    editor = GraphEditor(model)
    found = [a for node in editor.of_type("Softmax") if (a := find_attention(editor, node))]
    for attention in found:
        rows = editor.add("Shape", [attention.query], start=1, end=2)
        one = editor.integers(1)
        shape = editor.add("Concat", [one, one, rows, one], axis=0)
        bias = editor.add("Expand", [attention.bias, shape])
        fused = editor.add(
            "MultiHeadAttention",
            [attention.query, attention.key, attention.value, "", "", bias],
            domain=MICROSOFT,
            num_heads=attention.heads,
            scale=attention.scale,
        )
        editor.replace(attention.result, fused)
    editor.finish()
    return len(found)


def find_attention(editor: GraphEditor, softmax: NodeProto) -> Attention | None:
    """The attention around a softmax, if it is one."""
    biased = editor.maker(softmax.input[0], "Add")
    logits = biased and editor.maker(biased.input[0], "MatMul")
    mixed = editor.only_user(softmax.output[0], "MatMul")
    turned = mixed and editor.only_user(mixed.output[0], "Transpose")
    merged = turned and editor.only_user(turned.output[0], "Reshape")
    if biased is None or logits is None or mixed is None or merged is None:
        return None
    query_scale, query = unscaled(editor, logits.input[0])
    key_scale, key = unscaled(editor, logits.input[1])
    sources = [tokens(editor, name) for name in (query, key, mixed.input[1])]
    heads = head_count(editor, query)
    if None in sources or heads is None:
        return None
    first, second, third = (str(source) for source in sources)
    return Attention(
        query=first,
        key=second,
        value=third,
        bias=biased.input[1],
        scale=query_scale * key_scale,
        heads=heads,
        result=merged.output[0],
    )


def unscaled(editor: GraphEditor, name: str) -> tuple[float, str]:
    """A constant factor and what it multiplies; 1 where there is none."""
    product = editor.maker(name, "Mul")
    if product is not None:
        factor = editor.constant(product.input[1])
        if factor is not None and factor.size == 1:
            return float(factor.item()), product.input[0]
    return 1.0, name


def tokens(editor: GraphEditor, name: str) -> str | None:
    """The `[B, N, C]` that heads were cut out of; only layout changes may lie between."""
    heads_first = split_heads(editor, name)
    cut = heads_first and editor.maker(heads_first.input[0], "Reshape")
    return None if cut is None else str(cut.input[0])


def split_heads(editor: GraphEditor, name: str) -> NodeProto | None:
    """The transposition that puts heads first, looked for through changes of layout."""
    node = editor.maker(name)
    while node is not None and node.op_type in ("Reshape", "Transpose"):
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        if order == HEADS_FIRST:
            return node
        node = editor.maker(node.input[0])
    return None


def head_count(editor: GraphEditor, query: str) -> int | None:
    """How many heads the query was cut into, read off the shape it was given."""
    heads_first = split_heads(editor, query)
    cut = heads_first and editor.maker(heads_first.input[0], "Reshape")
    if cut is None:
        return None
    shape = editor.constant(cut.input[1])
    if shape is None:
        pieces = editor.maker(cut.input[1], "Concat")
        shape = None if pieces is None else editor.constant(pieces.input[-2])
        return None if shape is None or shape.size != 1 else int(shape.item())
    return int(shape[2]) if shape.size == 4 else None
