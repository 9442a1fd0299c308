"""Static int8: the very integers, where they should be and nowhere else."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from cascade.engines.ort import OrtEngine
from export.quantize.layers import find_layers
from export.quantize.ranges import Quantization, quantization
from export.quantize.static import LayerLevels, quantize
from export.weights.weight_grid import choose_grid
from tests.export.small_graphs import (
    CHANNELS,
    Floats,
    integer_convolution,
    model_of,
    one_convolution,
    random,
    two_readers,
)

LEVELS = Quantization(0.03, 117, "uint8")


def run(model: onnx.ModelProto, x: Floats) -> Floats:
    """The graph's answer in ONNX Runtime."""
    return OrtEngine(model.SerializeToString(), threads=1).run({"x": x})["y"]


def stored(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Initialisers by name."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def kinds(model: onnx.ModelProto) -> Counter[str]:
    """How many nodes of each type."""
    return Counter(node.op_type for node in model.graph.node)


def levels_of(x: Floats, q: Quantization) -> np.ndarray:
    """Levels above the zero point, as whole numbers."""
    return np.clip(np.rint(x / np.float32(q.scale)) + q.zero_point, 0, 255).astype(int) - (
        q.zero_point
    )


def test_a_convolution_is_integer_arithmetic() -> None:
    """Sums of whole numbers, times input scale and weight step: nothing else is lost."""
    weight, bias = random(8, CHANNELS, 3, 3), random(8, seed=1)
    model = one_convolution(weight, bias)
    quantize(model, find_layers(model), LayerLevels({"x": LEVELS}))
    x = random(2, CHANNELS, 9, 7, seed=2)
    grid = choose_grid(weight, 0)
    steps = np.float32(LEVELS.scale) * grid.steps
    whole = integer_convolution(levels_of(x, LEVELS), grid.levels.astype(int))
    whole += np.rint(bias / steps).astype(int)[:, None, None]
    np.testing.assert_allclose(run(model, x), whole * steps[:, None, None], rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", ["random", "everything at its largest"])
def test_an_integer_kernel_gives_the_same_integers(case: str) -> None:
    """With a pair on its output ONNX Runtime multiplies integers, and nothing overflows on AVX2.

    The extreme case has every weight and activation at its end: eight-bit grids that are not safe
    for pairs fail it on processors without VNNI.
    """
    weight, bias = random(8, 16, 3, 3), random(8, seed=1)
    x = random(1, 16, 12, 12, seed=2)
    levels = LEVELS
    if case != "random":
        weight, x = np.abs(weight) + 3, np.full_like(x, 9.0)
        levels = quantization(0.0, 9.0, "uint8")
    model = one_convolution(weight, bias)
    grid = choose_grid(weight, 0)
    steps = np.float32(levels.scale) * grid.steps
    whole = integer_convolution(levels_of(x, levels), grid.levels.astype(int))
    exact = (whole + np.rint(bias / steps).astype(int)[:, None, None]) * steps[:, None, None]
    out = quantization(float(exact.min()), float(exact.max()), "uint8")
    quantize(model, find_layers(model), LayerLevels({"x": levels}, {"y": out}))
    # Half a level, and a hair for ties that float32 rounds the other way.
    np.testing.assert_allclose(run(model, x), exact, rtol=0, atol=0.502 * out.scale)


def test_onnx_runtime_turns_pairs_into_integer_kernels(tmp_path: Path) -> None:
    """In the graph that ONNX Runtime really runs, every convolution is a QLinearConv."""
    model = two_readers()
    layers = find_layers(model)
    inputs = {layer.activation: LEVELS for layer in layers}
    quantize(model, layers, LayerLevels(inputs, {layer.name: LEVELS for layer in layers}))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = kinds(onnx.load(tmp_path / "optimised.onnx"))
    assert found["QLinearConv"] == 3
    assert found["Conv"] == found["FusedConv"] == 0


def test_scales_per_channel_are_exact() -> None:
    """A weight that lies on a grid keeps its integers, and its float32 value to the bit."""
    grid = choose_grid(random(8, CHANNELS, 3, 3), 0)
    model = one_convolution(grid.value, random(8))
    quantize(model, find_layers(model), LayerLevels({"x": LEVELS}))
    found = stored(model)
    np.testing.assert_array_equal(found["w_dq_levels"], grid.levels)
    np.testing.assert_array_equal(found["w_dq_steps"], grid.steps)
    assert found["w_dq_levels"].dtype == np.int8
    assert found["y_bias_levels"].dtype == np.int32
    np.testing.assert_array_equal(found["y_bias_steps"], np.float32(LEVELS.scale) * grid.steps)


def test_a_shared_activation_has_one_pair() -> None:
    """Two convolutions of one tensor read the same pair; sums and other nodes have none."""
    model = two_readers()
    counts = quantize(model, find_layers(model), LayerLevels({"x": LEVELS, "sum": LEVELS}))
    assert (counts.layers, counts.pairs) == (3, 2)
    # Three weights and one bias are dequantised besides.
    assert kinds(model) == {"Conv": 3, "Add": 1, "QuantizeLinear": 2, "DequantizeLinear": 6}
    readers = [n.input[0] for n in model.graph.node if n.op_type == "Conv"]
    assert readers == ["x_dq", "x_dq", "sum_dq"]


def test_a_layer_that_is_left_out_stays_as_it_was() -> None:
    """Its node reads float32 activations and its own float32 weight."""
    model = two_readers()
    last = find_layers(model)[-1]
    before = stored(model)["wc"]
    others = [layer for layer in find_layers(model) if layer != last]
    quantize(model, others, LayerLevels({"x": LEVELS}))
    node = model.graph.node[-1]
    assert list(node.input) == ["sum", "wc"]
    np.testing.assert_array_equal(stored(model)["wc"], before)
    assert kinds(model)["QuantizeLinear"] == 1
    assert "wa" not in stored(model)


def test_a_named_output_keeps_its_name() -> None:
    """A pair on the graph's last node leaves the graph's face as it is."""
    model = two_readers()
    layers = find_layers(model)
    quantize(model, layers, LayerLevels({"x": LEVELS, "sum": LEVELS}, {"y": LEVELS}))
    assert [info.name for info in model.graph.output] == ["y"]
    answer = run(model, random(1, CHANNELS, 5, 5))
    steps = answer / np.float32(LEVELS.scale)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


def test_half_the_levels_stay_in_their_half() -> None:
    """`uint7` cuts what lies beyond level 127 although the type goes on to 255."""
    model = one_convolution(np.ones((1, 2, 1, 1), np.float32), np.zeros(1, np.float32))
    quantize(model, find_layers(model), LayerLevels({"x": quantization(0.0, 1.27, "uint7")}))
    answer = run(model, np.full((1, 2, 1, 1), 2.0, np.float32))
    np.testing.assert_allclose(answer, 2 * 1.27, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "shape", "attributes", "axis", "macs"),
    [
        ("Conv", (8, 4, 3, 3), {}, 0, 36),
        ("ConvTranspose", (4, 8, 2, 2), {"strides": [2, 2]}, 1, 4),
        ("MatMul", (4, 8), {}, 1, 4),
        ("Gemm", (4, 8), {}, 1, 4),
        ("Gemm", (8, 4), {"transB": 1}, 0, 4),
    ],
)
def test_layers_are_described(
    kind: str, shape: tuple[int, ...], attributes: dict[str, object], axis: int, macs: int
) -> None:
    """Where the output channel is and how much work one output is."""
    node = helper.make_node(kind, ["x", "w"], ["y"], **attributes)
    (layer,) = find_layers(model_of([node], {"w": random(*shape)}, ["n", 4]))
    assert (layer.channel_axis, layer.channels, layer.macs_per_output) == (axis, 8, macs)


def test_products_of_activations_are_no_layers() -> None:
    """Attention multiplies two activations: nothing is constant there."""
    node = helper.make_node("MatMul", ["x", "x"], ["y"])
    assert find_layers(model_of([node], {}, ["n", "n"])) == []
    scaled = helper.make_node("Gemm", ["x", "w"], ["y"], alpha=0.5)
    assert find_layers(model_of([scaled], {"w": random(4, 8)}, ["n", 4])) == []
