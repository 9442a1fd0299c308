"""Passes around normalisation: swish, CombineEmbs, group norms; same answers, fewer operators."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from export.passes.conditioning import join_conditioning
from export.passes.group_norm import split_group_norms
from export.passes.swish import fuse_swish
from tests.export.pass_graphs import Recipe, assert_equivalent, kinds, random_inputs, rewritten, run

# Values around 1 to 10, sums over up to some thousand of them in another order: 1e-5 was the most.
TOLERANCE = 5e-5
FREE = ["batch", 16, "height", "width"]


def conditioned(widths: tuple[int, ...], size: int | None = None) -> onnx.ModelProto:
    """Norm, CombineEmbs and swish, once per width, all from one vector."""
    recipe = Recipe()
    vector = recipe.input("v", ["batch", 12])
    outputs = []
    for index, width in enumerate(widths):
        free = ["height", "width"] if size is None else [size, size]
        x = recipe.input(f"x{index}", ["batch", width, *free])
        normed = recipe.group_norm(x, width, width // 8)
        product = recipe.op(
            "Gemm", vector, recipe.normal(2 * width, 12), recipe.normal(2 * width), transB=1
        )
        spread = recipe.op("Unsqueeze", product, recipe.ints(2, 3))
        scale, shift = recipe.op("Split", spread, count=2, axis=1, num_outputs=2)
        scaled = recipe.op("Mul", normed, recipe.op("Add", scale, recipe.constant(1.0)))
        outputs.append(recipe.swish(recipe.op("Add", scaled, shift)))
    return recipe.model(*outputs)


def test_swish_is_one_operator() -> None:
    """Either order of the product is found; the answer is the same."""
    recipe = Recipe()
    x = recipe.swish(recipe.input("x", [*FREE]))
    gate = recipe.op("Sigmoid", x)
    model = recipe.model(recipe.op("Mul", gate, x))
    changed, count = rewritten(model, fuse_swish)
    assert (count, kinds(changed)) == (2, ["QuickGelu", "QuickGelu"])
    inputs = random_inputs(model, batch=2, height=5, width=3)
    # One multiplication and a sigmoid of the same library: the last bits of values below 4.
    assert_equivalent(model, changed, inputs, atol=2e-6)


def test_a_gate_of_something_else_is_no_swish() -> None:
    """`x * sigmoid(y)` stays, and so does a sigmoid that is read twice."""
    recipe = Recipe()
    x, y = recipe.input("x", [*FREE]), recipe.input("y", [*FREE])
    gate = recipe.op("Sigmoid", y)
    model = recipe.model(recipe.op("Mul", x, gate), recipe.op("Mul", y, gate))
    changed, count = rewritten(model, fuse_swish)
    assert (count, kinds(changed)) == (0, kinds(model))


@pytest.mark.parametrize("size", [None, 4, 96])
@pytest.mark.parametrize("batch", [1, 3])
def test_conditioning_becomes_one_product(size: int | None, batch: int) -> None:
    """Three blocks: one `Gemm`, the norms' weights gone from them, the same answers."""
    model = conditioned((8, 24, 8), size)
    changed, count = rewritten(model, join_conditioning)
    assert count == 3
    assert kinds(changed).count("Gemm") == 1
    assert kinds(changed).count("Unsqueeze") == 2
    inputs = random_inputs(model, batch=batch, height=6, width=5)
    assert_equivalent(model, changed, inputs, TOLERANCE)
    normed, norms = rewritten(changed, split_group_norms)
    assert norms == 3
    assert "GroupNormalization" not in kinds(normed)
    assert_equivalent(model, normed, inputs, TOLERANCE)


def test_conditioning_moves_weight_rows_and_changes_none() -> None:
    """Every row of the one weight is a row of the old ones: storage grids survive."""
    model = conditioned((8, 24))
    changed, _ = rewritten(model, join_conditioning)

    def rows(graph: onnx.GraphProto) -> set[bytes]:
        weights = [onnx.numpy_helper.to_array(t) for t in graph.initializer]
        return {row.tobytes() for w in weights if w.ndim == 2 for row in w}

    assert len(rows(changed.graph)) == 64
    assert rows(changed.graph) == rows(model.graph)


@pytest.mark.parametrize("one", [2.0, 0.0])
def test_a_scale_without_one_plus_is_left(one: float) -> None:
    """`norm * (2 + scale)` is not what the pass knows."""
    model = conditioned((8,))
    for tensor in model.graph.initializer:
        if not tensor.dims:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(one), tensor.name))
    changed, count = rewritten(model, join_conditioning)
    assert (count, kinds(changed)) == (0, kinds(model))


@pytest.mark.parametrize("shape", [FREE, ["batch", 16, 8, 8], ["batch", 16, 8, "width"]])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_norm_is_two_kernels(shape: list[int | str], batch: int) -> None:
    """Free or fixed sizes, one sample or several: statistics, then one affine."""
    recipe = Recipe()
    model = recipe.model(recipe.group_norm(recipe.input("x", shape), 16, 4))
    changed, count = rewritten(model, split_group_norms)
    assert count == 1
    found = set(kinds(changed))
    assert {"InstanceNormalization", "BatchNormalization"} <= found
    assert found <= {"InstanceNormalization", "BatchNormalization", "Reshape", "Shape"}
    assert_equivalent(
        model, changed, random_inputs(model, batch=batch, height=8, width=8), TOLERANCE
    )


@pytest.mark.parametrize("mean", [0.0, 100.0, 1000.0])
def test_a_norm_bears_large_means(mean: float) -> None:
    """Variance 1 around a mean of 1000: as near to the true norm as float32 can hold the input.

    `E[x^2] - E[x]^2` in float32 would be off by 10 % there. One unit in the last place of 1000 is
    6e-5, so that the input itself is known no better; 2e-3 leaves room for the mean's rounding.
    """
    recipe = Recipe()
    model = recipe.model(recipe.group_norm(recipe.input("x", [1, 16, 32, 32]), 16, 2))
    changed, _ = rewritten(model, split_group_norms)
    gain, offset = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer)
    x = random_inputs(model)["x"] + np.float32(mean)
    groups = x.astype(np.float64).reshape(2, -1)
    normed = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-5)
    expected = normed.reshape(x.shape) * gain[:, None, None] + offset[:, None, None]
    np.testing.assert_allclose(run(changed, {"x": x})[0], expected, atol=2e-3 if mean else 2e-5)


def styled(map_rows: int | str, style_rows: int | str, size: int | None) -> onnx.ModelProto:
    """A norm without weights, scaled and shifted by a style; each of its own number of samples."""
    recipe = Recipe()
    free = ["height", "width"] if size is None else [size, size]
    x = recipe.input("x", [map_rows, 16, *free])
    ones = recipe.constant(np.ones(16)), recipe.constant(np.zeros(16))
    normed = recipe.op("GroupNormalization", x, *ones, num_groups=4)
    scale, shift = (recipe.input(name, [style_rows, 16, 1, 1]) for name in ("scale", "shift"))
    return recipe.model(recipe.op("Add", recipe.op("Mul", normed, scale), shift))


@pytest.mark.parametrize("size", [None, 8, 96])
@pytest.mark.parametrize(
    ("map_rows", "style_rows"), [("batch", "batch"), ("batch", 1), (1, "batch"), ("batch", "style")]
)
def test_styles_of_other_rows_broadcast(
    map_rows: int | str, style_rows: int | str, size: int | None
) -> None:
    """One style for many maps, many for one map: all rows are right, fused only where proven."""
    model = styled(map_rows, style_rows, size)
    changed, count = rewritten(model, split_group_norms)
    assert count == 1
    together = map_rows == style_rows and size != 8
    assert ("BatchNormalization" in kinds(changed)) == together
    for batch in (1, 2, 3):
        rows = batch if map_rows == style_rows else 1
        inputs = random_inputs(model, batch=batch, style=rows, height=8, width=6)
        assert_equivalent(model, changed, inputs, TOLERANCE)


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_norms_of_other_ranks_and_styles(rank: int) -> None:
    """Vectors, tokens and volumes: `[B, C, 1, 1]` is not theirs, though it broadcasts to some."""
    recipe = Recipe()
    x = recipe.input("x", ["batch", 16, *[16] * (rank - 2)])
    normed = recipe.group_norm(x, 16, 4)
    style = recipe.input("style", ["batch", 16, *[1] * (rank - 2)])
    model = recipe.model(recipe.op("Add", recipe.op("Mul", normed, style), style), rank=rank)
    changed, count = rewritten(model, split_group_norms)
    assert count == 1
    assert_equivalent(model, changed, random_inputs(model, batch=3), TOLERANCE)


def without_weights(recipe: Recipe, x: str) -> str:
    """A norm of 16 channels as the exporter writes one that has no weights."""
    one, zero = (onnx.numpy_helper.from_array(np.full(1, v, np.float32)) for v in (1, 0))
    weights = [recipe.op("ConstantOfShape", recipe.ints(16), value=v) for v in (one, zero)]
    return str(recipe.op("GroupNormalization", x, *weights, num_groups=4))


def computed_weights(recipe: Recipe, x: str) -> str:
    """A norm of 16 channels whose weights an input decides."""
    weights = (recipe.input(name, [16]) for name in ("gain", "offset"))
    return str(recipe.op("GroupNormalization", x, *weights, num_groups=4))


@pytest.mark.parametrize("norm", [without_weights, computed_weights])
def test_norms_of_any_weights_bear_large_means(norm: Callable[[Recipe, str], str]) -> None:
    """At a mean of 100, where ONNX Runtime's own expansion is 1e-3 off, 1e-5 of the true value."""
    recipe = Recipe()
    model = recipe.model(norm(recipe, recipe.input("x", [*FREE])))
    changed, count = rewritten(model, split_group_norms)
    assert count == 1
    inputs = random_inputs(model, batch=2, height=16, width=24)
    x = inputs["x"] = inputs["x"] + np.float32(100)
    groups = x.astype(np.float64).reshape(2, 4, -1)
    normed = groups - groups.mean(2, keepdims=True)
    normed /= np.sqrt(groups.var(2, keepdims=True) + 1e-5)
    gain, offset = (inputs.get(n, np.float32(v)) for n, v in (("gain", 1), ("offset", 0)))
    expected = normed.reshape(x.shape) * np.reshape(gain, (-1, 1, 1)) + np.reshape(
        offset, (-1, 1, 1)
    )
    # A unit in the last place of 100 is 8e-6.
    np.testing.assert_allclose(run(changed, inputs)[0], expected, atol=5e-5)


def test_a_norm_without_weights_takes_its_conditioning() -> None:
    """Weights that nodes fill with ones are as constant as stored ones."""
    recipe = Recipe()
    vector = recipe.input("v", ["batch", 12])
    normed = without_weights(recipe, recipe.input("x", [*FREE]))
    product = recipe.op("Gemm", vector, recipe.normal(32, 12), recipe.normal(32), transB=1)
    spread = recipe.op("Unsqueeze", product, recipe.ints(2, 3))
    scale, shift = recipe.op("Split", spread, count=2, axis=1, num_outputs=2)
    scaled = recipe.op("Mul", normed, recipe.op("Add", scale, recipe.constant(1.0)))
    model = recipe.model(recipe.op("Add", scaled, shift))
    changed, count = rewritten(model, join_conditioning)
    assert count == 1
    assert rewritten(changed, split_group_norms)[1] == 1
    inputs = random_inputs(model, batch=3, height=8, width=6)
    assert_equivalent(model, rewritten(changed, split_group_norms)[0], inputs, TOLERANCE)


@pytest.mark.parametrize("attributes", [{"alpha": 2.0}, {"beta": 0.5}])
def test_a_scaled_product_is_no_conditioning(attributes: dict[str, float]) -> None:
    """The product that is made of it has no factors: this one stays."""
    model = conditioned((8,))
    (product,) = (node for node in model.graph.node if node.op_type == "Gemm")
    product.attribute.extend(onnx.helper.make_attribute(n, v) for n, v in attributes.items())
    changed, count = rewritten(model, join_conditioning)
    assert (count, kinds(changed)) == (0, kinds(model))
