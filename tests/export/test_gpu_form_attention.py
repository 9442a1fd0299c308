"""Attention in forms for GPUs: one operator where it is proven to compute the same."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from cascade.precision import Precision
from export.gpu_variant.cpu_checkable import cpu_checkable
from export.gpu_variant.form import gpu_form
from export.gpu_variant.matrix_einsums import restate_einsums
from tests.export.attention_graphs import HEADS, KEYS, WIDTH, N, linear, merged, parts
from tests.export.pass_graphs import Recipe, kinds, random_inputs, run

PRODUCTS = {"bij,bjk->bik", "bji,bjk->bik", "bij,bkj->bik", "bji,bkj->bki", "bij,bjk->bki"}
"""Einstein sums that are products of stacked matrices."""


def attended(recipe: Recipe, query: str, keys: str, value: str, axis: int = -1) -> str:
    """`softmax(q @ k) @ v`."""
    shares = recipe.op("Softmax", recipe.op("MatMul", query, keys), axis=axis)
    return str(recipe.op("MatMul", shares, value))


def turned_with_the_heads() -> onnx.ModelProto:
    """Keys turned and their heads put first by one transposition, as `transpose(2, 3)` exports."""
    recipe = Recipe()
    query, _, value = parts(recipe)
    cut = recipe.op(
        "Reshape", linear(recipe, "text", WIDTH), recipe.ints(0, -1, HEADS, WIDTH // HEADS)
    )
    keys = recipe.op("Transpose", cut, perm=[0, 2, 3, 1])
    return recipe.model(merged(recipe, attended(recipe, query, keys, value)), rank=3)


def made_turned() -> onnx.ModelProto:
    """Keys that nothing turned: they are made with their tokens last."""
    recipe = Recipe()
    query, keys, value = parts(recipe)
    return recipe.model(
        merged(recipe, attended(recipe, query, recipe.op("Tanh", keys), value)), rank=3
    )


def one_head() -> onnx.ModelProto:
    """`[B, N, C]` without an axis for heads, and a bias with three axes."""
    recipe = Recipe()
    x, text = recipe.input("x", ["b", N, WIDTH]), recipe.input("text", ["b", KEYS, WIDTH])
    query, keys, value = (linear(recipe, tokens, WIDTH) for tokens in (x, text, text))
    turned = recipe.op("Transpose", keys, perm=[0, 2, 1])
    logits = recipe.op("Add", recipe.op("MatMul", query, turned), recipe.normal(1, N, KEYS))
    return recipe.model(recipe.op("MatMul", recipe.op("Softmax", logits, axis=2), value), rank=3)


def wider_values() -> onnx.ModelProto:
    """Values of eleven numbers for each head, queries and keys of eight."""
    recipe = Recipe()
    query, keys, value = parts(recipe)
    more = recipe.op("Slice", value, recipe.ints(0), recipe.ints(3), recipe.ints(3))
    wide = recipe.op("Concat", value, more, axis=3)
    return recipe.model(merged(recipe, attended(recipe, query, keys, wide), 0, -1, 33), rank=3)


def hidden_rows() -> onnx.ModelProto:
    """A guard of the exporter: the first query sees no key, and gives 0."""
    recipe = Recipe()
    query, keys, value = parts(recipe)
    hides = np.zeros((1, 1, N, KEYS), np.float32)
    hides[:, :, 0], hides[:, :, 1:, 0] = -np.inf, -np.inf
    logits = recipe.op("Add", recipe.op("MatMul", query, keys), recipe.constant(hides))
    shares = recipe.op("Softmax", logits, axis=-1)
    seen = recipe.op("Where", recipe.op("IsNaN", shares), recipe.constant(0.0), shares)
    return recipe.model(merged(recipe, recipe.op("MatMul", seen, value)), rank=3)


def two_biases() -> onnx.ModelProto:
    """Of the distance and of the text's padding, as T5 adds them."""
    recipe = Recipe()
    query, keys, value = parts(recipe)
    logits = recipe.op("Add", recipe.op("MatMul", query, keys), recipe.normal(1, HEADS, N, KEYS))
    logits = recipe.op("Add", logits, recipe.normal(1, 1, 1, KEYS))
    mixed = recipe.op("MatMul", recipe.op("Softmax", logits, axis=-1), value)
    return recipe.model(merged(recipe, mixed), rank=3)


def stacked_biases() -> onnx.ModelProto:
    """Two of one head, of which one has as many axes as the stack."""
    recipe = Recipe()
    x, text = recipe.input("x", ["b", N, WIDTH]), recipe.input("text", ["b", KEYS, WIDTH])
    query, keys, value = (linear(recipe, tokens, WIDTH) for tokens in (x, text, text))
    turned = recipe.op("Transpose", keys, perm=[0, 2, 1])
    row = recipe.op("ReduceMean", turned, recipe.ints(1), keepdims=1)
    logits = recipe.op("Add", recipe.op("MatMul", query, turned), row)
    logits = recipe.op("Add", logits, recipe.normal(N, KEYS))
    return recipe.model(recipe.op("MatMul", recipe.op("Softmax", logits, axis=2), value), rank=3)


def einstein_sums() -> onnx.ModelProto:
    """Channels before tokens, in sums of torch's letters, as an older pooling of texts has it."""
    recipe = Recipe()
    x, text = recipe.input("x", ["b", N, WIDTH]), recipe.input("text", ["b", KEYS, WIDTH])
    query, keys, value = (
        recipe.op("Transpose", linear(recipe, tokens, WIDTH), perm=[0, 2, 1])
        for tokens in (x, text, text)
    )
    logits = recipe.op("Einsum", query, keys, equation="bct,bcs->bts")
    shares = recipe.op("Softmax", logits, axis=-1)
    return recipe.model(recipe.op("Einsum", shares, value, equation="bts,bcs->bct"), rank=3)


def keys_for_all_heads() -> onnx.ModelProto:
    """Keys and values of one head, which every head of the queries looks at."""
    recipe = Recipe()
    query, *both = parts(recipe)
    keys, value = (recipe.op("ReduceMean", each, recipe.ints(1), keepdims=1) for each in both)
    return recipe.model(merged(recipe, attended(recipe, query, keys, value)), rank=3)


@pytest.mark.parametrize(
    "made",
    [
        turned_with_the_heads, made_turned, one_head, wider_values, hidden_rows,
        keys_for_all_heads, two_biases, stacked_biases, einstein_sums,
    ],
)  # fmt: skip
def test_attention_of_any_shape_is_whole_and_right(made: Callable[[], onnx.ModelProto]) -> None:
    """One operator, no softmax, the numbers of the plain graph, for one row and for two."""
    plain = made()
    form = gpu_form(plain, Precision.FP32).model
    assert kinds(form).count("Attention") == 1
    for rows in (1, 2):
        inputs = random_inputs(plain, b=rows)
        (found,), (wanted,) = (run(model, inputs) for model in (cpu_checkable(form), plain))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def over_queries() -> onnx.ModelProto:
    """A softmax over the other axis: the operator's nodes, and other numbers."""
    recipe = Recipe()
    return recipe.model(merged(recipe, attended(recipe, *parts(recipe), axis=2)), rank=3)


def head_for_all() -> onnx.ModelProto:
    """Queries of one head, which the product broadcasts to those of the keys."""
    recipe = Recipe()
    query, keys, value = parts(recipe)
    one = recipe.op("ReduceMean", query, recipe.ints(1), keepdims=1)
    return recipe.model(merged(recipe, attended(recipe, one, keys, value)), rank=3)


def values_for_all_heads() -> onnx.ModelProto:
    """Keys of every head, and values of one."""
    recipe = Recipe()
    query, keys, value = parts(recipe)
    one = recipe.op("ReduceMean", value, recipe.ints(1), keepdims=1)
    return recipe.model(merged(recipe, attended(recipe, query, keys, one)), rank=3)


def text_for_all() -> onnx.ModelProto:
    """One text for a batch."""
    recipe = Recipe()
    return recipe.model(merged(recipe, attended(recipe, *parts(recipe, key_rows=1))), rank=3)


def bias_of_two_rows() -> onnx.ModelProto:
    """A bias that makes two rows of one."""
    recipe = Recipe()
    query, keys, value = parts(recipe)
    logits = recipe.op("Add", recipe.op("MatMul", query, keys), recipe.normal(2, 1, 1, KEYS))
    mixed = recipe.op("MatMul", recipe.op("Softmax", logits, axis=-1), value)
    return recipe.model(merged(recipe, mixed), rank=3)


def negative_scale() -> onnx.ModelProto:
    """Logits of which the operator would take the root of a negative number."""
    recipe = Recipe()
    query, keys, value = parts(recipe)
    less = recipe.op("Mul", query, recipe.constant(-0.5))
    return recipe.model(merged(recipe, attended(recipe, less, keys, value)), rank=3)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (over_queries, "not over the keys"),
        (head_for_all, "different numbers of heads"),
        (values_for_all_heads, "different numbers of heads"),
        (text_for_all, "different batches"),
        (bias_of_two_rows, "not proven to fit"),
        (negative_scale, "multiplied by -0.5"),
    ],
)
def test_what_the_operator_does_not_compute_is_refused(
    made: Callable[[], onnx.ModelProto], reason: str
) -> None:
    """By node and reason."""
    with pytest.raises(ValueError, match=f"^.+: .*{reason}"):
        gpu_form(made(), Precision.FP32)


def weighted_places() -> onnx.ModelProto:
    """Places of a picture weighted by a layer's answer, which is no product of two activations."""
    recipe = Recipe()
    x = recipe.input("x", ["b", 8, 4, 4])
    logits = recipe.op("Reshape", recipe.convolve(x, (8, 1), 1), recipe.ints(0, 1, 16))
    places = recipe.op("Transpose", recipe.op("Softmax", logits, axis=-1), perm=[0, 2, 1])
    seen = recipe.op("MatMul", recipe.op("Reshape", x, recipe.ints(0, 8, 16)), places)
    picture = recipe.op("Reshape", seen, recipe.ints(0, 8, 1, 1))
    return recipe.model(recipe.convolve(picture, (8, 8), 1))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_a_softmax_that_weights_places_stays_in_float(precision: Precision) -> None:
    """As it is, in float32: what it adds up are hundreds of small numbers."""
    plain = weighted_places()
    form = gpu_form(plain, precision).model
    assert kinds(form).count("Softmax") == 1
    makers = {name: node.op_type for node in form.graph.node for name in node.output}
    (softmax,) = (node for node in form.graph.node if node.op_type == "Softmax")
    assert makers[softmax.input[0]] == ("Cast" if precision is Precision.FP16 else "Reshape")
    inputs = random_inputs(plain, b=2)
    (found,), (wanted,) = (run(model, inputs) for model in (cpu_checkable(form), plain))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 if precision == "fp32" else 1e-2)


@pytest.mark.parametrize(
    "equation",
    [
        "bij,bjk->bik", "bji,bjk->bik", "bij,bkj->bik", "bji,bkj->bki", "bij,bjk -> bki",
        "bij,bij->bij", "bij,bjk->bij", "bij,bij->bi", "bij,jk->bik", "ibj,bjk->bik",
        "bij,bjk->kbi", "bij->bji",
    ],
)  # fmt: skip
def test_an_einstein_sum_becomes_a_product_where_it_is_one(equation: str) -> None:
    """The same numbers as numpy's; what is none is left alone."""
    recipe = Recipe()
    size = {"b": 2, "i": 3, "j": 4, "k": 5}
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if equation == "bij,bjk->bij":
        size["k"] = 1
    made = [recipe.input(f"x{n}", [size[axis] for axis in t]) for n, t in enumerate(terms)]
    result = recipe.op("Einsum", *made, equation=equation)
    plain = recipe.model(result, rank=len(equation.replace(" ", "").partition("->")[2]))
    changed = onnx.ModelProto()
    changed.CopyFrom(plain)
    is_product = equation.replace(" ", "") in PRODUCTS
    assert restate_einsums(changed) == is_product
    assert ("Einsum" in kinds(changed)) != is_product
    inputs = random_inputs(plain)
    (found,), (wanted,) = (run(model, inputs) for model in (changed, plain))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def guarded_shares() -> onnx.ModelProto:
    """`x / (sum(x) + 1e-15)` between two products; the first gives zeros."""
    recipe = Recipe()
    x = recipe.op("MatMul", recipe.input("x", ["b", N, WIDTH]), recipe.constant(np.zeros((24, 24))))
    total = recipe.op("ReduceSum", x, recipe.ints(2), keepdims=1)
    shares = recipe.op("Div", x, recipe.op("Add", total, recipe.constant(1e-15)))
    return recipe.model(recipe.op("MatMul", shares, recipe.normal(WIDTH, WIDTH)), rank=3)


def large_squares() -> onnx.ModelProto:
    """A norm by the root of the mean square, written out, of numbers around 1000."""
    recipe = Recipe()
    wide = recipe.normal(WIDTH, WIDTH, scale=300)
    x = recipe.op("MatMul", recipe.input("x", ["b", N, WIDTH]), wide)
    mean = recipe.op("ReduceMean", recipe.op("Mul", x, x), recipe.ints(2), keepdims=1)
    root = recipe.op("Sqrt", recipe.op("Add", mean, recipe.constant(1e-6)))
    normed = recipe.op("Mul", x, recipe.op("Reciprocal", root))
    return recipe.model(recipe.op("MatMul", normed, recipe.normal(WIDTH, WIDTH)), rank=3)


@pytest.mark.parametrize("made", [guarded_shares, large_squares])
def test_what_half_precision_does_not_hold_stays_in_float(
    made: Callable[[], onnx.ModelProto],
) -> None:
    """Guards that would be 0 and squares that would be infinite."""
    plain = made()
    form = gpu_form(plain, Precision.FP16)
    assert form.counts["narrow"] == 2
    inputs = random_inputs(plain, b=2)
    (found,), (wanted,) = (run(model, inputs) for model in (form.model, plain))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0.05)
