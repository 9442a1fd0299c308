"""What passes prove with: sizes worked out exactly, or a name of their own and no claim."""

import numpy as np
import onnx
import pytest

from export.passes.axis_names import name_feature_axes
from export.passes.constants import fold
from export.passes.editor import GraphEditor
from export.passes.sizes import Axis, Size, floored, minus, named, plus, quotient, times
from tests.export.pass_graphs import Recipe, random_inputs, rewritten, session

BATCH, HEIGHT, WIDTH = (named(name) for name in ("batch", "height", "width"))
FREE = ["batch", 8, "height", "width"]
RUNS = (
    {"batch": 1, "height": 64, "width": 32, "n": 5},
    {"batch": 3, "height": 32, "width": 96, "n": 8},
)


def at(axis: Axis, sizes: dict[str, int]) -> int:
    """An axis at some sizes of the free ones."""
    if isinstance(axis, int):
        return axis
    total = sum(
        factor * int(np.prod([sizes[name] for name in names])) for names, factor in axis.terms
    )
    assert total == int(total)
    return int(total)


def test_sums_of_sizes_are_equal_where_they_are() -> None:
    """In any order, numbers at their end; what cancels is gone."""
    assert plus(HEIGHT, 1, BATCH) == plus(BATCH, HEIGHT, 1)
    assert minus(plus(HEIGHT, 3), HEIGHT) == 3
    assert times(plus(HEIGHT, 1), 2) == plus(HEIGHT, HEIGHT, 2)
    assert times(HEIGHT, WIDTH) == times(WIDTH, HEIGHT)
    assert HEIGHT != WIDTH


@pytest.mark.parametrize("divisor", [2, 4, 32, 64])
@pytest.mark.parametrize("more", [-3, -1, 0, 1, 5])
def test_divisions_round_down_or_are_not_known(more: int, divisor: int) -> None:
    """Free heights are multiples of 32: what 64 leaves over depends on the height."""
    found = floored(plus(HEIGHT, more), divisor)
    assert (found is None) == (divisor == 64)
    for sizes in RUNS:
        if found is not None:
            assert at(found, dict(sizes)) == (sizes["height"] + more) // divisor
    assert floored(BATCH, 2) is None
    assert floored(7 + more, divisor) == (7 + more) // divisor


def test_what_a_reshape_leaves_over_is_exact() -> None:
    """A product divided by some of its factors; None where they are not seen to be factors."""
    assert quotient([BATCH, 96, 64], [96, 64]) == BATCH
    assert quotient([BATCH, 8, HEIGHT, WIDTH], [8, times(HEIGHT, WIDTH)]) == BATCH
    assert quotient([BATCH, plus(HEIGHT, 1)], [plus(HEIGHT, 1)]) == BATCH
    assert quotient([BATCH, plus(HEIGHT, 1)], [plus(WIDTH, 1)]) is None
    assert quotient([BATCH, 8], [WIDTH]) is None
    assert quotient([BATCH, 8], [0]) is None


@pytest.mark.parametrize(
    ("axis", "label"),
    [
        (HEIGHT, "height"),
        (times(HEIGHT, 3), "height*3"),
        (floored(times(HEIGHT, 3), 4), "height*3/4"),
        (plus(HEIGHT, 1), None),
        (times(HEIGHT, WIDTH), None),
        (named("?relu.2"), None),
        (minus(0, HEIGHT), None),
    ],
)
def test_labels_are_multiples_of_one_free_axis(axis: Axis, label: str | None) -> None:
    """What is declared: nothing else has one."""
    assert isinstance(axis, Size)
    assert axis.label == label


def everything() -> tuple[onnx.ModelProto, list[str]]:
    """A graph with one value per rule, and the values."""
    recipe = Recipe()
    x, tokens = recipe.input("x", FREE), recipe.input("tokens", ["batch", "n", 8])
    weight = recipe.normal(8, 6, 3, 3)
    values = [
        recipe.convolve(x, (8, 6), strides=[2, 2]),
        recipe.convolve(x, (8, 6), kernel=5, pads=[0, 1, 2, 3], strides=[4, 3]),
        recipe.convolve(x, (8, 6), dilations=[2, 3]),
        recipe.op("ConvTranspose", x, weight, strides=[2, 3], output_padding=[1, 2], pads=[1] * 4),
        recipe.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        recipe.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        recipe.op("GlobalAveragePool", x),
        *(recipe.op("Concat", x, recipe.op("Relu", x), axis=axis) for axis in (0, 1, 2, -1)),
        recipe.op("Resize", x, "", recipe.constant([1.0, 1.0, 2.0, 3.0])),
        recipe.op("Resize", x, "", recipe.constant([1.0, 1.0, 0.5, 1.5])),
        recipe.op("Pad", x, recipe.ints(0, 1, 2, 3, 0, 0, 1, 0)),
        recipe.op("DepthToSpace", x, blocksize=2),
        recipe.op("ReduceMean", x, recipe.ints(1, -1), keepdims=0),
        recipe.op("MatMul", tokens, recipe.normal(8, 5)),
        recipe.op("Einsum", x, recipe.normal(6, 8), equation="bchw, dc -> bhwd"),
        recipe.op("Einsum", tokens, tokens, equation="bnc,bmc->bnm"),
        recipe.op("Transpose", x, perm=[0, 2, 3, 1]),
        recipe.op("Gather", x, recipe.constant(1, np.int64), axis=1),
        recipe.op("Reshape", x, recipe.ints(-1, 2, 8, 32)),
        recipe.op("Reshape", x, recipe.ints(0, 0, -1)),
        recipe.op("Mul", x, recipe.op("Unsqueeze", recipe.normal(8), recipe.ints(1, 2))),
        recipe.op("Add", recipe.op("ReduceMean", x, recipe.ints(2), keepdims=1), x),
    ]
    values += recipe.op("Split", x, count=2, axis=1, num_outputs=2)
    values += recipe.op("Split", x, recipe.ints(3, 5), count=2, axis=1)
    rows = recipe.op("Shape", x, start=2, end=3)
    wide = recipe.op("Mul", recipe.op("Add", rows, recipe.ints(3)), recipe.ints(2))
    target = recipe.op("Concat", recipe.op("Shape", x, start=0, end=1), wide, axis=0)
    values.append(recipe.op("Expand", recipe.normal(1, 1), target))
    half = recipe.op("Div", rows, recipe.ints(2))
    values.append(
        recipe.op(
            "Reshape", x, recipe.op("Concat", recipe.ints(0, 16), half, recipe.ints(-1), axis=0)
        )
    )
    return recipe.model(*values), values


def test_every_rule_says_what_a_run_gives() -> None:
    """Axis for axis at two sizes; nothing is claimed of values that did not follow."""
    model, values = everything()
    editor = GraphEditor(model)
    for sizes in RUNS:
        names = dict(
            zip(values, session(model).run(None, random_inputs(model, **sizes)), strict=True)
        )
        for name, found in names.items():
            shape = editor.shape(name)
            assert shape is not None
            assert len(shape) == found.ndim
            for axis, size in zip(shape, found.shape, strict=True):
                if isinstance(axis, int) or not any("?" in n for t, _ in axis.terms for n in t):
                    assert at(axis, sizes) == size, (name, shape, found.shape)


def test_most_axes_are_worked_out() -> None:
    """Left open: pools that round up, factors that are no whole numbers, strides of 3."""
    model, values = everything()
    editor = GraphEditor(model)
    open_axes = sum(
        isinstance(axis, Size) and any("?" in n for t, _ in axis.terms for n in t)
        for name in values
        for axis in editor.shape(name) or ()
    )
    assert open_axes == 5


def test_equal_names_are_not_made_up() -> None:
    """Two values of which nothing is known are not equal to each other, each is to itself."""
    recipe = Recipe()
    x = recipe.input("x", FREE)
    first, second = (
        recipe.op("Resize", x, "", recipe.constant([1.0, 1.0, f, 1.0])) for f in (0.7, 0.3)
    )
    gate = recipe.op("Sigmoid", first)
    model = recipe.model(recipe.op("Mul", first, gate), second)
    editor = GraphEditor(model)
    assert editor.shape(first) == editor.shape(gate)
    assert editor.shape(first) != editor.shape(second)


def test_a_difference_is_no_size() -> None:
    """`n - 1` may be 0, which a reshape would copy: nothing follows for the axis."""
    recipe = Recipe()
    x = recipe.input("x", ["batch", "n", 8])
    less = recipe.op("Sub", recipe.op("Shape", x, start=1, end=2), recipe.ints(1))
    y = recipe.op("Reshape", x, recipe.op("Concat", recipe.ints(-1), less, axis=0))
    model = recipe.model(y, rank=2)
    shape = GraphEditor(model).shape(y)
    assert shape is not None
    assert all(isinstance(axis, Size) and axis.label is None for axis in shape)


def test_integers_and_vectors_are_not_declared() -> None:
    """Entries are of float maps: a wrong type would be refused, a vector is of no use."""
    recipe = Recipe()
    x, factor = recipe.input("x", FREE), recipe.input("f", ["batch", 8, 1, 1])
    whole = recipe.op("Cast", x, to=onnx.TensorProto.INT64)
    doubled = recipe.op("Add", whole, whole)
    back = recipe.op("Cast", doubled, to=onnx.TensorProto.FLOAT)
    twice = recipe.op("Add", factor, factor)
    scaled = recipe.op("Mul", back, twice)
    model = recipe.model(recipe.op("Relu", scaled))
    changed, count = rewritten(model, name_feature_axes)
    assert count == 0
    assert [info.name for info in changed.graph.value_info] == [scaled]
    session(changed)


def test_values_that_constants_decide_are_known() -> None:
    """A filled vector, a gain times a constant; nothing that depends on an input, nothing large."""
    recipe = Recipe()
    x = recipe.input("x", ["batch", 8])
    ones = recipe.op(
        "ConstantOfShape",
        recipe.ints(8),
        value=onnx.numpy_helper.from_array(np.ones(1, np.float32)),
    )
    gain = recipe.op("Mul", ones, recipe.op("Exp", recipe.constant(0.0)))
    large = recipe.op("ConstantOfShape", recipe.ints(1 << 20))
    model = recipe.model(recipe.op("Add", x, gain), large, rank=2)
    editor = GraphEditor(model)
    np.testing.assert_array_equal(editor.constant(gain), np.ones(8, np.float32))
    assert editor.constant(large) is None
    assert editor.constant(model.graph.output[0].name) is None
    assert fold(model.graph.node[-1], lambda _: None) is None


def test_outputs_of_one_value_keep_their_names() -> None:
    """Two outputs that become the same node, one that becomes an input: each has its own name."""
    infos = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in "xyz"]
    nodes = [onnx.helper.make_node("Relu", ["x"], [name]) for name in "yz"]
    graph = onnx.helper.make_graph(nodes, "g", infos[:1], infos[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    model.ir_version = 10
    editor = GraphEditor(model)
    for name in "yz":
        editor.replace(name, editor.add("Abs", ["x"]))
    editor.finish()
    onnx.checker.check_model(model)
    x = np.array([-1, 2], np.float32)
    for found in session(model).run(None, {"x": x}):
        np.testing.assert_array_equal(found, np.abs(x))
    editor = GraphEditor(model)
    editor.replace("z", "x")
    editor.finish()
    np.testing.assert_array_equal(session(model).run(["z"], {"x": x})[0], x)
