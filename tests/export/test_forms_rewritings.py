"""Rewritings of the forms for browsers and phones: the same numbers from other operators."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.forms.attention import write_attention_out
from export.forms.norms import restate_norms
from export.forms.operators import replace_operators
from export.forms.reshapes import join_reshapes
from export.forms.splits import MOST, narrow_splits
from export.forms.static_shapes import fix_axes, fold_shapes
from export.passes.attention import fuse_attention
from export.passes.editor import MICROSOFT
from tests.export.pass_graphs import Recipe, assert_equivalent, kinds, random_inputs, rewritten, run
from tests.export.test_pass_attention import WIDTH, attention

TOLERANCE = 1e-5
SIDE = 6
MAP = [2, 4, SIDE, SIDE]


@pytest.mark.parametrize(("batch", "rows", "words"), [(1, 5, 3), (3, 16, 1)])
def test_attention_is_written_out_and_stays_free(batch: int, rows: int, words: int) -> None:
    """No operator of ONNX Runtime's own, no repeated bias, and any batch and number of tokens."""
    fused, _ = rewritten(attention(), fuse_attention)
    plain, count = rewritten(fused, write_attention_out)
    assert count == 1
    assert not {"MultiHeadAttention", "Expand", "Shape"} & set(kinds(plain))
    inputs = random_inputs(fused, b=batch, n=rows, l=words, keys=rows + words)
    assert_equivalent(fused, plain, inputs, TOLERANCE)


def test_attention_of_no_stated_scale_divides_by_the_root() -> None:
    """The operator's default is the root of a head's width."""
    fused, _ = rewritten(attention(), fuse_attention)
    (node,) = [n for n in fused.graph.node if n.op_type == "MultiHeadAttention"]
    stated = [a for a in node.attribute if a.name != "scale"]
    del node.attribute[:]
    node.attribute.extend(stated)
    plain, _ = rewritten(fused, write_attention_out)
    inputs = random_inputs(fused, b=1, n=4, l=3, keys=7)
    assert_equivalent(fused, plain, inputs, TOLERANCE)


def test_attention_with_a_mask_of_keys_is_refused() -> None:
    """What the rewriting does not know is an error and no other network."""
    recipe = Recipe()
    x, mask = recipe.input("x", ["b", 5, WIDTH]), recipe.input("mask", ["b", 5])
    made = recipe.op("MultiHeadAttention", x, x, x, "", mask, domain=MICROSOFT, num_heads=3)
    model = onnx.ModelProto()
    model.graph.node.extend(recipe.nodes)
    assert made
    with pytest.raises(ValueError, match=r"attention with input \[4\]"):
        write_attention_out(model)


@pytest.mark.parametrize("count", [9, 13, 70])
def test_a_wide_split_becomes_splits_of_splits(count: int) -> None:
    """Parts of their own sizes, in their order, and no node of more than eight outputs."""
    sizes = [1 + at % 3 for at in range(count)]
    recipe = Recipe()
    x = recipe.input("x", ["b", sum(sizes)])
    found = recipe.op("Split", x, recipe.ints(*sizes), count=count, axis=1)
    # Each part times its number, so that an exchange of two would be seen.
    scaled = [recipe.op("Mul", part, recipe.constant(float(at))) for at, part in enumerate(found)]
    model = recipe.model(recipe.op("Concat", *scaled[::-1], axis=1), rank=2)
    narrow, wide = rewritten(model, narrow_splits)
    assert wide == 1
    assert max(len(node.output) for node in narrow.graph.node) <= MOST
    assert_equivalent(model, narrow, random_inputs(model, b=3), 0)


def test_equal_parts_whose_number_does_not_divide() -> None:
    """The last part is smaller, as the operator has it."""
    recipe = Recipe()
    x = recipe.input("x", ["b", 29])
    found = recipe.op("Split", x, count=10, axis=1, num_outputs=10)
    model = recipe.model(recipe.op("Concat", *found[::-1], axis=1), rank=2)
    narrow, _ = rewritten(model, narrow_splits)
    assert_equivalent(model, narrow, random_inputs(model, b=2), 0)


def test_a_split_of_eight_stays() -> None:
    """As many as a shader writes."""
    recipe = Recipe()
    found = recipe.op("Split", recipe.input("x", ["b", 16]), count=8, axis=1, num_outputs=8)
    model = recipe.model(recipe.op("Concat", *found, axis=1), rank=2)
    assert narrow_splits(model) == 0


def swish(recipe: Recipe, x: str) -> str:
    """ONNX Runtime's operator for it, of another slope than 1."""
    return str(recipe.op("QuickGelu", x, domain=MICROSOFT, alpha=1.5))


def negative(recipe: Recipe, x: str) -> str:
    """The sign changed."""
    return str(recipe.op("Neg", x))


def greater(recipe: Recipe, x: str) -> str:
    """Two ways by a comparison with a number and with another value."""
    shifted = recipe.op("Mul", x, recipe.constant(0.5))
    first = recipe.op("Where", recipe.op("Greater", x, recipe.constant(0.0)), x, shifted)
    return str(recipe.op("Where", recipe.op("Greater", x, shifted), first, x))


def padded(recipe: Recipe, x: str) -> str:
    """Zeros around, which no convolution reads."""
    pad = recipe.op("Pad", x, recipe.ints(0, 1, 2, 0, 0, 0, 1, 3))
    return str(recipe.op("Add", pad, recipe.constant(1.0)))


def padded_convolution(recipe: Recipe, x: str) -> str:
    """Zeros around, which a convolution with some of its own reads."""
    pad = recipe.op("Pad", x, recipe.ints(0, 0, 2, 0, 0, 0, 1, 3))
    return recipe.convolve(pad, (4, 5))


def repeated(recipe: Recipe, x: str) -> str:
    """A computed vector repeated to a map."""
    row = recipe.op("ReduceMax", x, recipe.ints(2, 3), keepdims=1)
    return str(recipe.op("Relu", recipe.op("Expand", row, recipe.ints(*MAP))))


@pytest.mark.parametrize(
    ("operation", "left"),
    [
        (swish, {"Mul", "Sigmoid"}),
        (negative, {"Mul"}),
        (greater, {"Cast", "Mul", "Relu", "Sub", "Where"}),
        (padded, {"Add", "Concat"}),
        (padded_convolution, {"Conv"}),
        (repeated, {"Mul", "ReduceMax", "Relu"}),
    ],
)
def test_an_operator_becomes_others(
    operation: Callable[[Recipe, str], str], left: set[str]
) -> None:
    """Those that accelerators of phones list, with the same numbers."""
    recipe = Recipe()
    model = recipe_model(recipe, operation(recipe, recipe.input("x", list(MAP))))
    changed, _ = rewritten(model, replace_operators)
    assert set(kinds(changed)) == left
    assert_equivalent(model, changed, random_inputs(model), TOLERANCE)


def recipe_model(recipe: Recipe, output: str) -> onnx.ModelProto:
    """The finished graph, also where it has operators of ONNX Runtime's own."""
    graph = helper.make_graph(
        recipe.nodes,
        "recipe",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in recipe.inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * 4)],
        recipe.constants,
    )
    domains = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=domains)
    model.ir_version = 10
    return model


def test_rows_of_a_table_are_looked_up_by_another_operator() -> None:
    """`Gather` on the first axis as `GatherND`: the same rows."""
    rows = helper.make_tensor("table", TensorProto.FLOAT, [4, 2], list(range(8)))
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        "table",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, 2])],
        [rows],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    changed, _ = rewritten(model, replace_operators)
    assert kinds(changed) == ["GatherND", "Unsqueeze"]
    ids = {"ids": np.array([[3, 0, 1], [2, 2, 3]])}
    np.testing.assert_array_equal(run(changed, ids)[0], run(model, ids)[0])


def instance_norm(recipe: Recipe, x: str) -> str:
    """Of each channel, with a gain and an offset."""
    weights = recipe.normal(4), recipe.normal(4)
    return str(recipe.op("InstanceNormalization", x, *weights, epsilon=1e-5))


def group_norm(recipe: Recipe, x: str) -> str:
    """Of two channels at a time."""
    return recipe.group_norm(x, 4, 2)


def stored_statistics(recipe: Recipe, x: str) -> str:
    """A batch norm as trained networks have it."""
    weights = recipe.normal(4), recipe.normal(4), recipe.normal(4)
    variance = recipe.constant([0.5, 1.0, 2.0, 3.0])
    return str(recipe.op("BatchNormalization", x, *weights, variance))


def carrier(recipe: Recipe, x: str) -> str:
    """A batch norm that only multiplies and adds what is computed."""
    scale = recipe.op("ReduceMean", x, recipe.ints(0, 2, 3), keepdims=0)
    unit = recipe.constant([0.0] * 4), recipe.constant([1.0] * 4)
    return str(recipe.op("BatchNormalization", x, scale, scale, *unit, epsilon=0.0))


@pytest.mark.parametrize("operation", [instance_norm, group_norm, stored_statistics, carrier])
def test_norms_are_layer_norms_and_affines(operation: Callable[[Recipe, str], str]) -> None:
    """The same numbers, also where the mean is a hundred deviations."""
    recipe = Recipe()
    model = recipe.model(operation(recipe, recipe.input("x", list(MAP))))
    changed, count = rewritten(model, restate_norms)
    assert count == 1
    assert not set(kinds(changed)) & {
        "InstanceNormalization",
        "GroupNormalization",
        "BatchNormalization",
    }
    inputs = random_inputs(model)
    assert_equivalent(model, changed, inputs, TOLERANCE)
    if operation in (instance_norm, group_norm):
        far = {"x": inputs["x"] + np.float32(100)}
        assert_equivalent(model, changed, far, 1e-2)


def test_shapes_are_constants_and_weights_stay_stored() -> None:
    """At fixed sizes nothing works out a shape; a weight in eight bits is not widened."""
    recipe = Recipe()
    x = recipe.input("x", ["b", "n", 8])
    rows = recipe.op("Shape", x, start=0, end=2)
    width = recipe.ints(-1)
    target = recipe.op("Concat", rows, width, axis=0)
    levels = recipe.constant(np.arange(64).reshape(8, 8) - 30, np.int8)
    wide = recipe.op("Cast", levels, to=TensorProto.FLOAT)
    weight = recipe.op("Mul", wide, recipe.constant(np.full((8, 1), 0.125)))
    model = recipe.model(recipe.op("Reshape", recipe.op("MatMul", x, weight), target), rank=3)
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fix_axes(fixed, {"b": 2, "n": 3})
    changed, _ = rewritten(fixed, fold_shapes)
    assert kinds(changed) == ["Cast", "MatMul", "Mul", "Reshape"]
    assert [d.dim_value for d in changed.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 8]
    assert_equivalent(model, changed, random_inputs(model, b=2, n=3), 0)


def test_an_axis_without_a_size_is_named() -> None:
    """A form of one size has no free axis left."""
    recipe = Recipe()
    model = recipe.model(recipe.op("Relu", recipe.input("x", ["b", 3, "height", 4])))
    with pytest.raises(ValueError, match="x: the axis height has no size"):
        fix_axes(model, {"b": 1})


def test_reshapes_of_reshapes_are_one() -> None:
    """And none where the shape comes back."""
    recipe = Recipe()
    x = recipe.input("x", list(MAP))
    flat = recipe.op("Reshape", x, recipe.ints(2, -1))
    back = recipe.op("Reshape", flat, recipe.ints(*MAP))
    twice = recipe.op("Reshape", recipe.op("Relu", back), recipe.ints(4, -1))
    model = recipe.model(recipe.op("Reshape", twice, recipe.ints(2, 2, -1)), rank=3)
    changed, _ = rewritten(model, join_reshapes)
    assert kinds(changed) == ["Relu", "Reshape"]
    assert_equivalent(model, changed, random_inputs(model), 0)
