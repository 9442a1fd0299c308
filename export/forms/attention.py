"""Attention in standard operators again.

ONNX Runtime's `MultiHeadAttention` is wrong by 40 % on WebGPU for 64 queries, and no accelerator of
a phone has it. Requires: the operator as `export.passes.attention` writes it: `[B, N, C]` each,
bias at most. Ensures: two products and a softmax over heads, the same numbers up to the order of
sums; a bias that was repeated for every query is read as it was before. Knows no networks.
"""

import numpy as np
import onnx
from onnx import NodeProto

from export.passes.editor import GraphEditor, attribute

HEADS_FIRST = [0, 2, 1, 3]
KEYS_LAST = [0, 2, 3, 1]
BIAS = 5
"""Place of the bias among the inputs."""
KNOWN = {0, 1, 2, BIAS}


def write_attention_out(model: onnx.ModelProto) -> int:
    """Replace every `MultiHeadAttention`, in place.

    Returns:
        How many.

    Raises:
        ValueError: one has a mask of keys, a past, or another input that is not known here.
    """
    editor = GraphEditor(model)
    count = 0
    for node in editor.of_type("MultiHeadAttention"):
        extra = [at for at, name in enumerate(node.input) if name and at not in KNOWN]
        if extra or len(node.output) > 1:
            raise ValueError(f"{node.output[0]}: attention with input {extra or 'and state'}")
        editor.replace(node.output[0], written_out(editor, node))
        count += 1
    if count:
        editor.finish()
    return count


def written_out(editor: GraphEditor, node: NodeProto) -> str:
    """`softmax(scale q k^T + bias) v`, heads put together."""
    heads = attribute(node, "num_heads")
    query, key, value = (
        editor.add("Reshape", [name, editor.integers(0, 0, heads, -1)]) for name in node.input[:3]
    )
    factor = editor.add_constant(np.array(scale_of(editor, node), np.float32), "scale")
    scaled = editor.add("Mul", [editor.add("Transpose", [query], perm=HEADS_FIRST), factor])
    logits = editor.add("MatMul", [scaled, editor.add("Transpose", [key], perm=KEYS_LAST)])
    if len(node.input) > BIAS and node.input[BIAS]:
        logits = editor.add("Add", [logits, before_repeating(editor, node.input[BIAS])])
    weights = editor.add("Softmax", [logits], axis=-1)
    mixed = editor.add("MatMul", [weights, editor.add("Transpose", [value], perm=HEADS_FIRST)])
    turned = editor.add("Transpose", [mixed], perm=HEADS_FIRST)
    return editor.add("Reshape", [turned, editor.integers(0, 0, -1)])


def scale_of(editor: GraphEditor, node: NodeProto) -> float:
    """The factor of the products: stated, or the root of a head's width."""
    stated = attribute(node, "scale", 0.0)
    if stated:
        return float(stated)
    shape = editor.shape(node.input[0])
    width = shape[-1] if shape else None
    if not isinstance(width, int):
        raise ValueError(f"{node.output[0]}: attention of no stated scale and no known width")
    return float((width // attribute(node, "num_heads")) ** -0.5)


def before_repeating(editor: GraphEditor, bias: str) -> str:
    """What an `Expand` repeated; the addition repeats it anyway."""
    expand = editor.maker(bias, "Expand")
    return bias if expand is None else str(expand.input[0])
