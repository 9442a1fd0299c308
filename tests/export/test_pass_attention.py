"""Passes around attention: one operator per attention, one product for the same tokens."""

import numpy as np
import onnx
import pytest

from export.passes.attention import fuse_attention
from export.passes.projections import join_projections
from tests.export.pass_graphs import Recipe, assert_equivalent, kinds, random_inputs, rewritten

# Softmax over a dozen keys and sums over 32 channels, values around 1.
TOLERANCE = 1e-5
WIDTH, HEADS = 24, 3


def linear(recipe: Recipe, x: str, width: int) -> str:
    """A linear layer of random weights."""
    product = recipe.op("MatMul", x, recipe.normal(WIDTH, width, scale=WIDTH**-0.5))
    return str(recipe.op("Add", product, recipe.normal(width)))


def heads(recipe: Recipe, x: str) -> str:
    """`[B, N, C] -> [B, heads, N, C / heads]`."""
    cut = recipe.op("Reshape", x, recipe.ints(0, -1, HEADS, WIDTH // HEADS))
    return str(recipe.op("Transpose", cut, perm=[0, 2, 1, 3]))


def attention(*, scaled: bool = True) -> onnx.ModelProto:
    """Self-attention over `x` joined with `text`, as the exporter of torch writes it."""
    recipe = Recipe()
    x, text = recipe.input("x", ["b", "n", WIDTH]), recipe.input("text", ["b", "l", WIDTH])
    bias = recipe.input("bias", ["b", 1, 1, "keys"])
    image_kv, text_kv = linear(recipe, x, 2 * WIDTH), linear(recipe, text, 2 * WIDTH)
    pairs = zip(
        *(recipe.op("Split", kv, count=2, axis=2, num_outputs=2) for kv in (text_kv, image_kv)),
        strict=True,
    )
    key, value = (recipe.op("Concat", *pair, axis=1) for pair in pairs)
    query = heads(recipe, linear(recipe, x, WIDTH))
    turned = recipe.op("Transpose", heads(recipe, key), perm=[0, 1, 3, 2])
    if scaled:
        root = recipe.constant([(WIDTH // HEADS) ** -0.25])
        query, turned = recipe.op("Mul", query, root), recipe.op("Mul", turned, root)
    logits = recipe.op("Add", recipe.op("MatMul", query, turned), bias)
    mixed = recipe.op("MatMul", recipe.op("Softmax", logits, axis=-1), heads(recipe, value))
    merged = recipe.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return recipe.model(recipe.op("Reshape", merged, recipe.ints(0, -1, WIDTH)), rank=3)


def test_head_count_is_read_off_the_query() -> None:
    """The operator is told the heads and the scale that the graph had."""
    changed, _ = rewritten(attention(), fuse_attention)
    (node,) = [n for n in changed.graph.node if n.op_type == "MultiHeadAttention"]
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert values["num_heads"] == HEADS
    assert values["scale"] == pytest.approx((WIDTH // HEADS) ** -0.5)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("batch", "rows", "words"), [(1, 5, 3), (3, 16, 1), (2, 1, 7)])
def test_attention_is_one_operator(batch: int, rows: int, words: int, *, scaled: bool) -> None:
    """Any sizes, masked keys among them: no softmax left, the same answers."""
    model = attention(scaled=scaled)
    changed, count = rewritten(model, fuse_attention)
    assert count == 1
    assert "Softmax" not in kinds(changed)
    inputs = random_inputs(model, b=batch, n=rows, l=words, keys=rows + words)
    inputs["bias"][0, :, :, 0] = -1e4
    assert_equivalent(model, changed, inputs, TOLERANCE)


def test_a_softmax_alone_is_left() -> None:
    """What is not an attention stays."""
    recipe = Recipe()
    model = recipe.model(recipe.op("Softmax", recipe.input("x", ["b", 7]), axis=-1), rank=2)
    assert rewritten(model, fuse_attention)[1] == 0


def test_layers_on_the_same_tokens_are_joined() -> None:
    """Query, and keys with values: one product, one split in three; the text is alone."""
    model = attention()
    changed, count = rewritten(model, join_projections)
    assert count == 2
    assert kinds(changed).count("MatMul") == kinds(model).count("MatMul") - 1
    assert kinds(changed).count("Split") == 2
    inputs = random_inputs(model, b=2, n=4, l=3, keys=7)
    assert_equivalent(model, changed, inputs, TOLERANCE)
    both, _ = rewritten(changed, fuse_attention)
    assert_equivalent(model, both, inputs, TOLERANCE)


def test_joined_weights_are_the_old_columns() -> None:
    """Columns are moved, not changed: storage grids survive."""
    model = attention()
    changed, _ = rewritten(model, join_projections)

    def columns(graph: onnx.GraphProto) -> set[bytes]:
        weights = [onnx.numpy_helper.to_array(t) for t in graph.initializer]
        return {np.ascontiguousarray(c).tobytes() for w in weights if w.ndim == 2 for c in w.T}

    assert columns(changed.graph) == columns(model.graph)
