"""Passes around attention: one operator per attention, one product for the same tokens."""

import numpy as np
import onnx
import pytest

from export.passes.attention import fuse_attention
from export.passes.projections import join_projections
from tests.export.attention_graphs import (
    HEADS,
    KEYS,
    WIDTH,
    N,
    heads,
    linear,
    merged,
    parts,
    unmasked,
)
from tests.export.pass_graphs import Recipe, assert_equivalent, kinds, random_inputs, rewritten

# Softmax over a dozen keys and sums over 32 channels, values around 1.
TOLERANCE = 1e-5


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


BIASES = ([1], ["keys"], ["n", "keys"], [N, 1], [HEADS, 1, 1], [1, HEADS, N, 1])
BIASES += (["b", 1, 1, 1], ["b", 1, N, 1], ["b", HEADS, 1, "keys"], ["b", HEADS, N, KEYS])


def weights(recipe: Recipe, query: str, key: str, bias: str = "", axis: int = -1) -> str:
    """What a softmax gives; its bias is one number unless given."""
    logits = recipe.op("MatMul", query, key)
    return str(recipe.op("Softmax", recipe.op("Add", logits, bias or recipe.normal(1)), axis=axis))


@pytest.mark.parametrize("shape", BIASES, ids=str)
def test_a_bias_broadcasts_along_any_axis(shape: list[int | str]) -> None:
    """Per key, query, head, sample, or one for all: one operator, the same answers."""
    recipe = Recipe()
    query, key, value = parts(recipe)
    shape = [{"n": N, "keys": KEYS}.get(str(axis), axis) for axis in shape]
    mixed = recipe.op("MatMul", weights(recipe, query, key, recipe.input("bias", shape)), value)
    model = recipe.model(merged(recipe, mixed), rank=3)
    changed, count = rewritten(model, fuse_attention)
    assert count == 1
    for batch in (1, 3):
        assert_equivalent(model, changed, random_inputs(model, b=batch), TOLERANCE)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("kind", "factor"), [("", 0.0), ("Mul", 0.25), ("Div", 3.0)])
def test_attention_without_a_mask_is_one_operator(kind: str, factor: float, batch: int) -> None:
    """Nothing is added to the logits; a factor, if any, stands before the softmax."""
    model = unmasked(kind, factor)
    changed, count = rewritten(model, fuse_attention)
    assert (count, {"Softmax", "Expand"} & set(kinds(changed))) == (1, set())
    assert_equivalent(model, changed, random_inputs(model, b=batch), TOLERANCE)


@pytest.mark.parametrize("words", [1, 7])
def test_heads_of_two_sources_are_joined_as_tokens(words: int) -> None:
    """A picture attends to a text and to itself: keys and values lie one after another."""
    recipe = Recipe()
    x, text = recipe.input("x", ["b", N, WIDTH]), recipe.input("text", ["b", "l", WIDTH])
    key, value = (
        recipe.op("Concat", *(heads(recipe, linear(recipe, s, WIDTH)) for s in (text, x)), axis=2)
        for _ in range(2)
    )
    turned = recipe.op("Transpose", key, perm=[0, 1, 3, 2])
    logits = recipe.op("MatMul", heads(recipe, linear(recipe, x, WIDTH)), turned)
    mixed = recipe.op("MatMul", recipe.op("Softmax", logits, axis=-1), value)
    model = recipe.model(merged(recipe, mixed), rank=3)
    changed, count = rewritten(model, fuse_attention)
    assert (count, "Softmax" in kinds(changed)) == (1, False)
    for batch in (1, 3):
        assert_equivalent(model, changed, random_inputs(model, b=batch, l=words), TOLERANCE)


def test_a_factor_of_nought_is_left() -> None:
    """To the operator a scale of 0 means the root of the width, and not that all keys are equal."""
    assert rewritten(unmasked("Mul", 0.0), fuse_attention)[1] == 0


def otherwise_merged(*shape: int, perm: list[int] | None = None) -> onnx.ModelProto:
    """An attention but for what is made of its heads."""
    recipe = Recipe()
    query, key, value = parts(recipe)
    mixed = recipe.op("MatMul", weights(recipe, query, key), value)
    return recipe.model(merged(recipe, mixed, *shape, perm=perm), rank=len(shape))


def grouped_tokens() -> onnx.ModelProto:
    """Groups of eight tokens become rows where the heads are cut."""
    recipe = Recipe()
    x = recipe.input("x", ["b", N, WIDTH])

    def groups(name: str) -> str:
        cut = recipe.op("Reshape", name, recipe.ints(-1, 8, HEADS, WIDTH // HEADS))
        return str(recipe.op("Transpose", cut, perm=[0, 2, 1, 3]))

    key = recipe.op("Transpose", groups(linear(recipe, x, WIDTH)), perm=[0, 1, 3, 2])
    softmax = weights(recipe, groups(linear(recipe, x, WIDTH)), key)
    mixed = recipe.op("MatMul", softmax, groups(linear(recipe, x, WIDTH)))
    return recipe.model(merged(recipe, mixed, -1, N, WIDTH), rank=3)


def one_key_head() -> onnx.ModelProto:
    """Keys and values of one head for all queries'."""
    recipe = Recipe()
    query, _, _ = parts(recipe)
    x = recipe.input("tokens", ["b", KEYS, WIDTH])

    def single(perm: list[int]) -> str:
        product = recipe.op("MatMul", x, recipe.normal(WIDTH, WIDTH // HEADS, scale=0.2))
        cut = recipe.op("Reshape", product, recipe.ints(0, -1, 1, WIDTH // HEADS))
        return str(recipe.op("Transpose", cut, perm=perm))

    softmax = weights(recipe, query, single([0, 2, 3, 1]))
    mixed = recipe.op("MatMul", softmax, single([0, 2, 1, 3]))
    return recipe.model(merged(recipe, mixed), rank=3)


def joined_widths() -> onnx.ModelProto:
    """Halves of each head's width from two sources: joined heads, but not along tokens."""
    recipe = Recipe()
    query, key, _ = parts(recipe)
    x = recipe.input("tokens", ["b", KEYS, WIDTH])

    def half() -> str:
        product = recipe.op("MatMul", x, recipe.normal(WIDTH, WIDTH // 2, scale=0.2))
        cut = recipe.op("Reshape", product, recipe.ints(0, -1, HEADS, WIDTH // HEADS // 2))
        return str(recipe.op("Transpose", cut, perm=[0, 2, 1, 3]))

    mixed = recipe.op(
        "MatMul", weights(recipe, query, key), recipe.op("Concat", half(), half(), axis=3)
    )
    return recipe.model(merged(recipe, mixed), rank=3)


def other_softmax(axis: int) -> onnx.ModelProto:
    """A softmax along another axis: over queries, or over heads."""
    recipe = Recipe()
    query, key, value = parts(recipe)
    mixed = recipe.op("MatMul", weights(recipe, query, key, axis=axis), value)
    return recipe.model(merged(recipe, mixed), rank=3)


def weights_second() -> onnx.ModelProto:
    """The softmax is the right-hand side of the product."""
    recipe = Recipe()
    query, key, _ = parts(recipe)
    turned = recipe.op("Transpose", query, perm=[0, 1, 3, 2])
    mixed = recipe.op("MatMul", turned, weights(recipe, query, key))
    return recipe.model(merged(recipe, mixed, 0, -1, HEADS * KEYS), rank=3)


def keys_for_all_rows() -> onnx.ModelProto:
    """One text for every sample: the operator would want one each."""
    recipe = Recipe()
    query, key, value = parts(recipe, key_rows=1)
    mixed = recipe.op("MatMul", weights(recipe, query, key), value)
    return recipe.model(merged(recipe, mixed), rank=3)


def bias_of_more_rows() -> onnx.ModelProto:
    """One sample and many masks: there are more answers than questions."""
    recipe = Recipe()
    query, key, value = parts(recipe)
    bias = recipe.input("bias", ["masks", 1, 1, KEYS])
    mixed = recipe.op("MatMul", weights(recipe, query, key, bias), value)
    return recipe.model(merged(recipe, mixed), rank=3)


def without_bias(model: onnx.ModelProto) -> None:
    """Let every softmax read what a bias was added to, in place."""
    sums = {node.output[0]: node for node in model.graph.node if node.op_type == "Add"}
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.input[0] = sums[node.input[0]].input[0]


LEFT = {
    "channels first": lambda: otherwise_merged(0, WIDTH, N, perm=[0, 1, 3, 2]),
    "flat rows": lambda: otherwise_merged(-1, WIDTH),
    "a map": lambda: otherwise_merged(0, 4, 6, WIDTH),
    "half the queries": lambda: otherwise_merged(0, N // 2, 2 * WIDTH),
    "grouped tokens": grouped_tokens,
    "one head of keys": one_key_head,
    "joined widths": joined_widths,
    "softmax over queries": lambda: other_softmax(2),
    "softmax over heads": lambda: other_softmax(1),
    "weights second": weights_second,
    "keys for all rows": keys_for_all_rows,
    "bias of more rows": bias_of_more_rows,
}


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_quite_an_attention_is_left(name: str, *, masked: bool) -> None:
    """Each differs in one thing from what the operator computes; none is touched."""
    model = LEFT[name]()
    if not masked and name != "bias of more rows":
        without_bias(model)
    changed, count = rewritten(model, fuse_attention)
    assert count == 0
    assert kinds(changed).count("Softmax") == 1
    for batch in (1, 3):
        inputs = random_inputs(model, b=1 if "masks" in str(model.graph.input) else batch, masks=3)
        assert_equivalent(model, changed, inputs, TOLERANCE)


@pytest.mark.parametrize(("axis", "joined"), [(1, 2), (2, 2), (3, 3), (-1, 3)])
def test_layers_of_a_map_may_be_cut_on_any_axis(axis: int, joined: int) -> None:
    """A split of rows or columns is none of channels, though all are of one size."""
    recipe = Recipe()
    x = recipe.input("x", ["b", WIDTH, WIDTH, WIDTH])
    first, second = (linear(recipe, x, WIDTH) for _ in range(2))
    halves = recipe.op("Split", first, count=2, axis=axis, num_outputs=2)
    model = recipe.model(*halves, second)
    changed, count = rewritten(model, join_projections)
    assert count == 2
    assert_equivalent(model, changed, random_inputs(model, b=2), TOLERANCE)
    widest = max(len(n.output) for n in changed.graph.node if n.op_type == "Split")
    assert widest == joined


def test_a_split_in_unequal_parts_stays_one() -> None:
    """24 in five parts are five, five, five, five and four."""
    recipe = Recipe()
    x = recipe.input("x", ["b", "n", WIDTH])
    first, second = (linear(recipe, x, WIDTH) for _ in range(2))
    pieces = recipe.op("Split", first, count=5, axis=-1, num_outputs=5)
    model = recipe.model(*pieces, second, rank=3)
    changed, count = rewritten(model, join_projections)
    assert count == 2
    assert_equivalent(model, changed, random_inputs(model, b=2, n=4), TOLERANCE)


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
