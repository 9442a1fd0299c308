"""Declared shapes: true at two batches and two sizes, or not there.

ONNX Runtime refuses a graph with a false one, plans memory by it and dies in the run, or has luck.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
import onnx
import pytest

from export.passes.axis_names import name_feature_axes
from tests.export.pass_graphs import Recipe, assert_equivalent, random_inputs, rewritten, session

TOLERANCE = 5e-5
FREE = ["batch", 8, "height", "width"]
FIXED = ["batch", 8, 16, 16]
RUNS = (
    {"batch": 1, "rows": 2, "height": 64, "width": 32},
    {"batch": 3, "rows": 1, "height": 32, "width": 96},
)
"""Of free axes; heights and widths are multiples of 32."""


def size_of(dim: onnx.TensorShapeProto.Dimension, sizes: Mapping[str, int]) -> Fraction:
    """A declared axis: a number, or a name times and over numbers."""
    if not dim.dim_param:
        return Fraction(dim.dim_value)
    over, _, under = dim.dim_param.partition("/")
    name, _, factor = over.partition("*")
    return Fraction(sizes[name] * int(factor or 1), int(under or 1))


def declared(model: onnx.ModelProto, sizes: Mapping[str, int]) -> int:
    """Compare every declared shape with a run; how many there are."""
    infos = list(model.graph.value_info)
    if not infos:
        return 0
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:], copy.graph.output[:]
    copy.graph.output.extend(
        onnx.helper.make_tensor_value_info(info.name, onnx.TensorProto.FLOAT, None)
        for info in infos
    )
    found = session(copy).run(None, random_inputs(model, **sizes))
    for info, value in zip(infos, found, strict=True):
        shape = [size_of(dim, sizes) for dim in info.type.tensor_type.shape.dim]
        assert shape == list(np.shape(value)), info.name
    return len(infos)


def both(recipe: Recipe, x: str, y: str) -> str:
    """A norm, a swish and a convolution of two joined maps of 8 channels."""
    normed = recipe.group_norm(recipe.op("Concat", x, y, axis=1), 16, 4)
    return recipe.convolve(recipe.swish(normed), (16, 8))


def joined_with_unknown() -> onnx.ModelProto:
    """Half of the joined channels come through operators that the layout knows nothing of."""
    recipe = Recipe()
    x = recipe.input("x", FREE)
    down = recipe.convolve(x, (8, 8), strides=[2, 2])
    up = recipe.op("Resize", down, "", recipe.constant([1.0, 1.0, 2.0, 2.0]), mode="nearest")
    soft = recipe.op("Tanh", recipe.op("Relu", recipe.convolve(x, (8, 8))))
    h = recipe.op("Add", both(recipe, up, x), both(recipe, x, soft))
    return recipe.model(recipe.op("Relu", h))


def joined_with_untold() -> onnx.ModelProto:
    """Half of the joined channels have a size of which nothing follows."""
    recipe = Recipe()
    x = recipe.input("x", FREE)
    same = recipe.op("Resize", x, "", recipe.constant([1.0, 1.0, 1.01, 1.0]), mode="nearest")
    return recipe.model(recipe.op("Relu", both(recipe, same, recipe.op("Abs", same))))


def joined_along(axis: int) -> onnx.ModelProto:
    """Rows, heights or widths add up; channels do not."""
    recipe = Recipe()
    x = recipe.input("x", FREE)
    h = recipe.convolve(recipe.op("Concat", x, recipe.convolve(x, (8, 8)), axis=axis), (8, 8))
    first, second = recipe.op("Split", h, count=2, axis=axis, num_outputs=2)
    return recipe.model(recipe.op("Mul", first, recipe.convolve(second, (8, 8))))


def masked() -> onnx.ModelProto:
    """Masks of one channel and gates of one position times maps that are not known."""
    recipe = Recipe()
    x = recipe.input("x", FREE)
    mask = recipe.input("mask", ["batch", 1, "height", "width"])
    gate = recipe.input("gate", ["batch", 8, 1, 1])
    h = recipe.op("Mul", recipe.op("Relu", recipe.convolve(x, (8, 8))), mask)
    g = recipe.op("Mul", recipe.op("Erf", h), gate)
    return recipe.model(both(recipe, h, g))


def one_row() -> onnx.ModelProto:
    """The first picture is one for all; the second has rows of its own, that broadcast."""
    recipe = Recipe()
    one, many = recipe.input("one", [1, 8, 16, 16]), recipe.input("many", ["batch", 2048])
    h = recipe.op("Reshape", many, recipe.ints(-1, 8, 16, 16))
    h = recipe.op("Add", recipe.convolve(h, (8, 8)), recipe.convolve(one, (8, 8)))
    return recipe.model(recipe.op("Mul", h, recipe.op("Sigmoid", h)))


def other_rows() -> onnx.ModelProto:
    """Two batches of different names: the sum has as many rows as the larger."""
    recipe = Recipe()
    one, many = recipe.input("one", ["rows", 8, 16, 16]), recipe.input("many", [1, 8, 16, 16])
    h = recipe.op("Add", recipe.convolve(one, (8, 8)), recipe.convolve(many, (8, 8)))
    return recipe.model(recipe.op("Mul", h, recipe.op("Sigmoid", h)))


def folded() -> onnx.ModelProto:
    """Frames, and patches, become rows; then rows become frames again."""
    recipe = Recipe()
    frames, x = recipe.input("frames", ["batch", 32, 16, 16]), recipe.input("x", FIXED)
    h = recipe.op("Reshape", frames, recipe.ints(-1, 8, 16, 16))
    h = recipe.convolve(recipe.convolve(h, (8, 8)), (8, 8))
    h = recipe.op("Reshape", h, recipe.ints(-1, 4, 8, 16, 16))
    h = recipe.op("ReduceMax", h, recipe.ints(1), keepdims=0)
    return recipe.model(recipe.op("Add", recipe.convolve(x, (8, 8)), h))


def no_picture() -> onnx.ModelProto:
    """A picture is made of a vector; no input has four axes."""
    recipe = Recipe()
    h = recipe.op("Reshape", recipe.input("x", ["batch", 512]), recipe.ints(-1, 8, 8, 8))
    return recipe.model(recipe.op("Add", h, recipe.convolve(h, (8, 8))))


def odd_size() -> onnx.ModelProto:
    """33 halves to 17, and doubles to 33: the stride leaves something over."""
    recipe = Recipe()
    x = recipe.input("x", ["batch", 8, 33, 33])
    h = recipe.swish(recipe.convolve(x, (8, 8), strides=[2, 2]))
    weight = recipe.normal(8, 8, 3, 3, scale=0.1)
    h = recipe.op("ConvTranspose", h, weight, strides=[2, 2], pads=[1] * 4)
    return recipe.model(recipe.op("Add", x, h))


def padded_output() -> onnx.ModelProto:
    """A transposed convolution that adds rows and columns at the end."""
    recipe = Recipe()
    weight = recipe.normal(8, 8, 2, 2, scale=0.2)
    h = recipe.op(
        "ConvTranspose", recipe.input("x", FIXED), weight, strides=[2, 2], output_padding=[1, 1]
    )
    return recipe.model(recipe.op("Add", h, recipe.convolve(h, (8, 8))))


def too_many_halves() -> onnx.ModelProto:
    """Free heights are multiples of 32: after five halvings nothing follows."""
    recipe = Recipe()
    h = recipe.input("x", FREE)
    for _ in range(6):
        h = recipe.op("Add", recipe.convolve(h, (8, 8), strides=[2, 2]), recipe.constant(0.5))
    return recipe.model(recipe.op("Mul", h, h))


CASES: Mapping[str, tuple[Callable[[], onnx.ModelProto], int, int]] = {
    "joined with unknown": (joined_with_unknown, 4, 11),
    "joined with untold": (joined_with_untold, 0, 0),
    "joined rows": (lambda: joined_along(0), 3, 4),
    "joined heights": (lambda: joined_along(2), 3, 4),
    "joined widths": (lambda: joined_along(3), 3, 4),
    "masked": (masked, 2, 6),
    "one row": (one_row, 2, 5),
    "other rows": (other_rows, 2, 4),
    "folded": (folded, 3, 4),
    "no picture": (no_picture, 1, 2),
    "odd size": (odd_size, 2, 4),
    "padded output": (padded_output, 2, 2),
    "too many halves": (too_many_halves, 5, 10),
}
"""Graph, convolutions of known shape, and entries written."""


@pytest.mark.parametrize("name", CASES)
def test_declared_shapes_are_true(name: str) -> None:
    """At one row and three, at two sizes; what follows is declared, and the answers stay."""
    make, convolutions, entries = CASES[name]
    model = make()
    changed, count = rewritten(model, name_feature_axes)
    for sizes in RUNS:
        assert_equivalent(model, changed, random_inputs(model, **sizes), TOLERANCE)
        assert declared(changed, sizes) == entries
    assert count == convolutions
