"""Passes on feature maps and pictures: joins cut, pixels shuffled, factors gathered, axes named."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from export.passes.axis_names import name_feature_axes
from export.passes.pixel_shuffle import split_pixel_shuffles
from export.passes.preconditioning import join_preconditioning
from export.passes.sample_factors import gather_sample_factors
from export.passes.split_concat import SMALL_MAP, split_concats
from export.passes.swish import fuse_swish
from tests.export.pass_graphs import (
    Recipe,
    assert_equivalent,
    kinds,
    random_inputs,
    rewritten,
    run,
    session,
)

# Sums over up to 300 products of values around 1 in another order.
TOLERANCE = 2e-5


def joined(size: int | None, groups: int = 3) -> onnx.ModelProto:
    """A block that reads joined maps of 16 and 8 channels: through norm and swish, and aside."""
    recipe = Recipe()
    free = ["height", "width"] if size is None else [size, size]
    parts = [recipe.input(name, ["batch", c, *free]) for name, c in (("a", 16), ("b", 8))]
    both = recipe.op("Concat", *parts, axis=1)
    inner = recipe.convolve(recipe.swish(recipe.group_norm(both, 24, groups)), (24, 8))
    return recipe.model(recipe.op("Add", recipe.convolve(both, (24, 8), kernel=1), inner))


@pytest.mark.parametrize("batch", [1, 2])
def test_joined_maps_are_convolved_apart(batch: int) -> None:
    """The join is gone, both convolutions are cut in two, the answers are the same."""
    model, _ = rewritten(joined(None), fuse_swish)
    changed, count = rewritten(model, split_concats)
    assert count == 2
    assert "Concat" not in kinds(changed)
    assert kinds(changed).count("Conv") == 4
    assert_equivalent(
        model, changed, random_inputs(model, batch=batch, height=6, width=9), TOLERANCE
    )


def test_pictures_joined_for_a_strided_convolution() -> None:
    """Stride and padding stay; the bias is added once."""
    recipe = Recipe()
    pictures = [recipe.input(name, ["batch", 3, "height", "width"]) for name in ("a", "b")]
    both = recipe.op("Concat", *pictures, axis=1)
    strided = {"strides": [4, 4], "pads": [2] * 4}
    model = recipe.model(recipe.convolve(both, (6, 8), kernel=8, **strided))
    changed, count = rewritten(model, split_concats)
    assert (count, kinds(changed)) == (1, ["Add", "Conv", "Conv"])
    assert_equivalent(model, changed, random_inputs(model, batch=2, height=16, width=24), TOLERANCE)


@pytest.mark.parametrize(
    ("size", "groups", "cuts"),
    [
        (8, 3, 0),  # small: a copy costs less than four more nodes
        (int((SMALL_MAP / 24) ** 0.5) + 1, 3, 2),
        (None, 2, 0),  # a group of 12 straddles the seam at 16
    ],
)
def test_joins_that_are_left(size: int | None, groups: int, cuts: int) -> None:
    """Small maps stay joined, and those whose groups do not end at the seam."""
    model, _ = rewritten(joined(size, groups), fuse_swish)
    assert rewritten(model, split_concats)[1] == cuts


def test_a_join_that_someone_needs_whole_is_left() -> None:
    """One reader that is no convolution keeps the copy alive: nothing is cut."""
    recipe = Recipe()
    parts = [recipe.input(name, ["batch", 8, "height", "width"]) for name in ("a", "b")]
    both = recipe.op("Concat", *parts, axis=1)
    model = recipe.model(recipe.convolve(both, (16, 8)), recipe.op("Relu", both))
    assert rewritten(model, split_concats)[1] == 0


@pytest.mark.parametrize("group", [1, 2, 24])
def test_only_convolutions_over_all_channels_are_cut(group: int) -> None:
    """One in groups, or of each channel alone, needs the join whole."""
    recipe = Recipe()
    parts = [
        recipe.input(name, ["batch", c, "height", "width"]) for name, c in (("a", 16), ("b", 8))
    ]
    both = recipe.op("Concat", *parts, axis=1)
    weight = recipe.normal(24, 24 // group, 3, 3)
    model = recipe.model(recipe.op("Conv", both, weight, group=group, pads=[1] * 4))
    changed, count = rewritten(model, split_concats)
    assert count == (group == 1)
    inputs = random_inputs(model, batch=2, height=6, width=9)
    assert_equivalent(model, changed, inputs, 10 * TOLERANCE)


@pytest.mark.parametrize("weights", ["input", "filled"])
def test_a_join_before_a_norm_of_computed_weights(weights: str) -> None:
    """Weights that an input decides cannot be cut; those that nodes fill with ones can."""
    recipe = Recipe()
    parts = [recipe.input(name, ["batch", 8, "height", "width"]) for name in ("a", "b")]
    both = recipe.op("Concat", *parts, axis=1)
    if weights == "input":
        gains = [recipe.input(name, [16]) for name in ("gain", "offset")]
    else:
        gains = [recipe.op("ConstantOfShape", recipe.ints(16)) for _ in range(2)]
        gains[0] = recipe.op("Exp", gains[0])
    normed = recipe.op("GroupNormalization", both, *gains, num_groups=4)
    model = recipe.model(recipe.convolve(recipe.swish(normed), (16, 8)))
    swished, _ = rewritten(model, fuse_swish)
    changed, count = rewritten(swished, split_concats)
    assert count == (weights == "filled")
    inputs = random_inputs(model, batch=2, height=6, width=9)
    assert_equivalent(model, changed, inputs, TOLERANCE)


@pytest.mark.parametrize(("planes", "block"), [(3, 4), (1, 4), (2, 2)])
def test_a_pixel_shuffle_is_two_transpositions(planes: int, block: int) -> None:
    """The very same numbers in the same places, for any batch and size."""
    recipe = Recipe()
    x = recipe.input("x", ["batch", planes * block**2, "height", "width"])
    model = recipe.model(recipe.op("DepthToSpace", x, blocksize=block, mode="CRD"))
    changed, count = rewritten(model, split_pixel_shuffles)
    assert count == 1
    assert kinds(changed).count("Transpose") == 2
    for sizes in ({"batch": 1, "height": 2, "width": 5}, {"batch": 3, "height": 4, "width": 1}):
        assert_equivalent(model, changed, random_inputs(model, **sizes), atol=0)


def test_the_other_order_of_channels_is_left() -> None:
    """Mode DCR is another operation."""
    recipe = Recipe()
    x = recipe.input("x", ["batch", 16, "height", "width"])
    model = recipe.model(recipe.op("DepthToSpace", x, blocksize=2, mode="DCR"))
    assert rewritten(model, split_pixel_shuffles)[1] == 0


def test_factors_meet_before_they_meet_the_picture() -> None:
    """One `Mul` of a picture instead of two; factors on either side are found."""
    recipe = Recipe()
    x = recipe.input("x", ["batch", 3, "height", "width"])
    a, b = (recipe.input(name, ["batch", 1, 1, 1]) for name in "ab")
    scaled = recipe.op("Mul", a, recipe.op("Mul", x, b))
    model = recipe.model(recipe.op("Add", scaled, x))
    changed, count = rewritten(model, gather_sample_factors)
    assert count == 1
    first = next(node for node in changed.graph.node if node.op_type == "Mul")
    assert set(first.input) == {"a", "b"}
    inputs = random_inputs(model, batch=2, height=4, width=4)
    # Two roundings in another order.
    assert_equivalent(model, changed, inputs, atol=1e-6)


def prediction_of(
    recipe: Recipe, *, gated: bool, turned: bool, scale: str = "Reciprocal"
) -> onnx.ModelProto:
    """A super-resolution prediction from inputs alone, operands in either order.

    The noisy image less the enlarged one is scaled by `scale` of an input above 0.
    """

    def op(kind: str, *inputs: str) -> str:
        """A node; its operands turned around where that changes nothing."""
        return str(recipe.op(kind, *(inputs[::-1] if turned and kind != "Sub" else inputs)))

    pictures = ["batch", 3, "height", "width"]
    x, low, out = (recipe.input(name, pictures) for name in ("x_t", "low", "out"))
    gate = recipe.input("gate", ["batch", 1, "height", "width"])
    a, b, k, m, s = (recipe.input(name, ["batch", 1, 1, 1]) for name in "abkms")
    seen = op("Mul", recipe.op("Sub", x, op("Mul", low, a)), recipe.op(scale, recipe.op("Exp", b)))
    inner = op("Add", out, op("Mul", gate, seen)) if gated else out
    straight = op("Add", op("Mul", k, x), op("Mul", low, m))
    return recipe.model(op("Add", straight, op("Mul", s, inner)), seen)


@pytest.mark.parametrize("turned", [False, True])
def test_a_gated_prediction_is_made_of_what_was_seen(*, turned: bool) -> None:
    """The noisy image is read once, by what the network sees; every sample has its own factors."""
    model = prediction_of(Recipe(), gated=True, turned=turned)
    changed, count = rewritten(model, join_preconditioning)
    assert count == 1
    assert sum("x_t" in node.input for node in changed.graph.node) == 1
    assert [o.name for o in changed.graph.output] == [o.name for o in model.graph.output]
    inputs = random_inputs(model, batch=3, height=4, width=6)
    assert_equivalent(model, changed, inputs, TOLERANCE)
    assert rewritten(changed, join_preconditioning)[1] == 0


def test_a_prediction_without_a_gate_is_left() -> None:
    """There is nothing to save."""
    model = prediction_of(Recipe(), gated=False, turned=False)
    assert rewritten(model, join_preconditioning)[1] == 0


@pytest.mark.parametrize("scale", ["Identity", "Neg", "Sigmoid"])
def test_a_prediction_whose_scale_may_be_zero_is_left(scale: str) -> None:
    """It would have to be divided by: only what is one over something is known not to be 0."""
    model = prediction_of(Recipe(), gated=True, turned=False, scale=scale)
    assert rewritten(model, join_preconditioning)[1] == 0


def residual(size: int | None) -> onnx.ModelProto:
    """Strided convolution, then a block around whose inside only reshapes know the shape."""
    recipe = Recipe()
    free = ["height", "width"] if size is None else [size, size]
    h = recipe.convolve(recipe.input("x", ["batch", 16, *free]), (16, 16), strides=[2, 2])
    inner = recipe.op("Reshape", h, recipe.ints(0, 2, -1))
    shape = recipe.op("Shape", h) if size is None else recipe.ints(-1, 16, size // 2, size // 2)
    inner = recipe.convolve(recipe.op("Reshape", inner, shape), (16, 16))
    return recipe.model(recipe.op("Add", recipe.convolve(h, (16, 16), kernel=1), inner))


def fused_sums(model: onnx.ModelProto, folder: Path) -> int:
    """Convolutions that add another map to their own, in what ONNX Runtime made of a graph."""
    file = folder / "optimized.onnx"
    session(model, str(file))
    nodes = onnx.load(file).graph.node
    if not any("nchwc" in node.domain for node in nodes):
        pytest.skip("ONNX Runtime has no blocked layout on this processor")
    return sum(node.op_type == "Conv" and len(node.input) == 4 for node in nodes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [None, 32])
def test_named_axes_let_sums_into_convolutions(size: int | None, tmp_path: Path) -> None:
    """Without names ONNX Runtime adds the residual apart; with them, inside the convolution."""
    model = residual(size)
    changed, count = rewritten(model, name_feature_axes)
    assert count == 3
    assert kinds(changed) == kinds(model)
    assert fused_sums(model, tmp_path) == 0
    assert fused_sums(changed, tmp_path) == 1
    assert_equivalent(model, changed, random_inputs(model, batch=2, height=32, width=16), TOLERANCE)


def test_named_axes_are_the_true_ones() -> None:
    """Every written shape is what a run gives: halved, kept, doubled, joined."""
    recipe = Recipe()
    x = recipe.input("x", ["batch", 3, "height", "width"])
    half = recipe.convolve(x, (3, 8), kernel=8, strides=[4, 4], pads=[2] * 4)
    deep = recipe.convolve(half, (8, 8), strides=[2, 2])
    weight = recipe.normal(8, 4, 2, 2)
    up = recipe.op("ConvTranspose", deep, weight, strides=[2, 2], kernel_shape=[2, 2])
    both = recipe.op("Concat", up, half, axis=1)
    model = recipe.model(recipe.op("Relu", both), half, deep, up)
    changed, count = rewritten(model, name_feature_axes)
    assert count == 3
    written = {
        info.name: [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]
        for info in changed.graph.value_info
    }
    assert written == {both: ["batch", 12, "height/4", "width/4"]}
    found = run(model, {"x": np.ones((2, 3, 64, 96), np.float32)})
    assert found[0].shape == (2, 12, 64 // 4, 96 // 4)


def test_a_convolution_that_cuts_the_edge_has_no_name() -> None:
    """Without padding the size is not a fraction of the input's: nothing is claimed."""
    recipe = Recipe()
    x = recipe.input("x", ["batch", 3, "height", "width"])
    h = recipe.convolve(x, (3, 8), pads=[0] * 4)
    model = recipe.model(recipe.op("Relu", h))
    changed, count = rewritten(model, name_feature_axes)
    assert (count, len(changed.graph.value_info)) == (0, 0)
