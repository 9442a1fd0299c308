"""Exact storage: smaller files, the very same numbers."""

import copy
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cascade.engines.ort import OrtEngine
from export.weights.exact_storage import eight_bit_grid, few_exceptions, store_exactly
from export.weights.weight_grid import choose_grid
from tests.support.tiny_training import unet_inputs

Floats = NDArray[np.float32]


def random(*shape: int, seed: int = 0) -> Floats:
    """Numbers on no grid."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def half(value: Floats) -> Floats:
    """Numbers that half precision holds."""
    return value.astype(np.float16).astype(np.float32)


def on_rows(value: Floats) -> Floats:
    """Numbers on an eight-bit grid per row."""
    scales = (np.abs(value).max(axis=1, keepdims=True) / np.float32(127)).astype(np.float32)
    return np.asarray(np.rint(value / scales) * scales, np.float32)


def matmul(weight: Floats) -> onnx.ModelProto:
    """`y = x @ w`."""
    return one_node("MatMul", weight, ["x", "w"], TensorProto.FLOAT, [None, weight.shape[0]])


def lookup(table: Floats, axis: int | None = None) -> onnx.ModelProto:
    """`y = w[x]`."""
    extra = {} if axis is None else {"axis": axis}
    return one_node("Gather", table, ["w", "x"], TensorProto.INT64, [None, None], **extra)


def one_node(
    kind: str, weight: Floats, names: list[str], dtype: int, shape: list[int | None], **extra: int
) -> onnx.ModelProto:
    """A model of one node with one weight."""
    rank = 2 if kind == "MatMul" else 3
    graph = helper.make_graph(
        [helper.make_node(kind, names, ["y"], **extra)],
        "one",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model


def run(model: onnx.ModelProto, x: Any) -> Floats:
    """The model's answer in ONNX Runtime."""
    return OrtEngine(model.SerializeToString(), threads=1).run({"x": x})["y"]


def stored(model: onnx.ModelProto) -> dict[str, str]:
    """Name to dtype of every initialiser."""
    return {
        t.name: np.dtype(helper.tensor_dtype_to_np_dtype(t.data_type)).name
        for t in model.graph.initializer
    }


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (half(random(40, 16)), {"w_f16": "float16"}),
        (on_rows(random(40, 16)), {"w_i8": "int8", "w_scale": "float32"}),
        (on_rows(random(40, 16).T.copy()).T.copy(), {"w_i8": "int8", "w_scale": "float32"}),
        (random(40, 16), {"w": "float32"}),
        (half(random(15, 17)), {"w": "float32"}),
        (np.zeros((40, 16), np.float32), {"w_i8": "int8", "w_scale": "float32"}),
        (half(random(40, 16)) * np.float32(1e6), {"w": "float32"}),
    ],
    ids=["half", "rows", "columns", "neither", "small", "zero", "large"],
)
def test_each_weight_takes_its_smallest_exact_form(
    weight: Floats, expected: dict[str, str]
) -> None:
    """Half precision, eight bits per row or column, or untouched; the answers stay, to the bit."""
    model = matmul(weight)
    x = random(3, len(weight), seed=1)
    before = run(model, x)
    report = store_exactly(model)
    assert stored(model) == expected
    np.testing.assert_array_equal(run(model, x), before)
    assert set(report) == set(expected.values())


@pytest.mark.parametrize("steps", [2.0**-9, 1.0, 2.0**-40])
def test_a_few_large_weights_are_stored_apart(steps: float) -> None:
    """Whole numbers of one step, three of 640 beyond eight bits: the others take a byte each."""
    weight = np.random.default_rng(0).integers(-127, 128, (40, 16)).astype(np.float32)
    weight.flat[[3, 64, 639]] = 2048, -128, 1033
    model = matmul(weight * np.float32(steps))
    x = random(3, 40, seed=1)
    before = run(model, x)
    store_exactly(model)
    kinds = stored(model)
    assert kinds["w_i8"] == "int8"
    assert kinds["w_beyond"] == "float16"
    np.testing.assert_array_equal(run(model, x), before)


@pytest.mark.parametrize("bad", [65, 2049.0], ids=["too many", "too large"])
def test_many_or_very_large_exceptions_keep_half_precision_or_more(bad: float) -> None:
    """More than a tenth of the elements, or one beyond what float16 counts."""
    weight = np.random.default_rng(0).integers(-127, 128, (40, 16)).astype(np.float32)
    if bad == 65:
        weight.flat[:65] = 2001
    else:
        weight.flat[0] = bad
    model = matmul(weight)
    store_exactly(model)
    assert "w_beyond" not in stored(model)


def test_a_vector_without_large_numbers_is_stored_whole() -> None:
    """No exceptions, no node that puts them in: 300 whole numbers are half precision."""
    assert few_exceptions(np.arange(300, dtype=np.float32) % 100) is None


def test_the_report_counts_bytes() -> None:
    """Bytes by format: 640 numbers of one byte and 40 scales of four."""
    assert store_exactly(matmul(on_rows(random(40, 16)))) == {"int8": 640, "float32": 160}
    assert store_exactly(matmul(half(random(40, 16)))) == {"float16": 1280}
    assert store_exactly(matmul(random(40, 16))) == {"float32": 2560}


def test_other_dtypes_are_left_alone() -> None:
    """Integers are no weights."""
    model = matmul(random(40, 16))
    model.graph.initializer.append(numpy_helper.from_array(np.arange(999), "numbers"))
    assert store_exactly(model) == {"float32": 2560, "int64": 999 * 8}
    assert stored(model)["numbers"] == "int64"


@pytest.mark.parametrize("axis", [None, 0])
def test_rows_are_looked_up_while_small(axis: int | None) -> None:
    """An embedding table is gathered as int8 and never widened as a whole; the answers stay."""
    table = on_rows(random(100, 24))
    model = lookup(table, axis)
    ids = np.array([[0, 99, 5], [5, 5, 42]], np.int64)
    store_exactly(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Gather", "Cast", "Gather", "Mul"]
    assert model.graph.node[0].input[0] == "w_i8"
    np.testing.assert_array_equal(run(model, ids), table[ids])


def test_a_lookup_along_columns_is_not_turned_around() -> None:
    """Only whole rows share a scale: a lookup on another axis widens first."""
    table = on_rows(random(100, 24))
    model = lookup(table, axis=1)
    ids = np.array([[3, 0]], np.int64)
    store_exactly(model)
    assert [node.op_type for node in model.graph.node] == ["Cast", "Mul", "Gather"]
    np.testing.assert_array_equal(run(model, ids), table[:, ids])


def test_a_table_that_others_use_too_is_kept() -> None:
    """A table with a second user is widened for both."""
    table = on_rows(random(100, 24))
    model = lookup(table)
    model.graph.node.append(helper.make_node("ReduceSum", ["w"], ["sum"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["y", "sum"], ["z"]))
    model.graph.output[0].name = "z"
    ids = np.array([[1, 2]], np.int64)
    before = OrtEngine(model.SerializeToString(), threads=1).run({"x": ids})["z"]
    store_exactly(model)
    after = OrtEngine(model.SerializeToString(), threads=1).run({"x": ids})["z"]
    assert "Cast" in [node.op_type for node in model.graph.node][:1]
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("axis", [0, 1])
def test_kernels_on_a_grid_take_a_byte_each(axis: int) -> None:
    """A convolution's weight with one step per output channel, whichever axis that is."""
    grid = choose_grid(random(16, 12, 3, 3), axis)
    model = matmul(random(4, 4))
    model.graph.initializer.append(numpy_helper.from_array(grid.value, "kernel"))
    store_exactly(model)
    assert stored(model)["kernel_i8"] == "int8"
    found = eight_bit_grid(grid.value)
    assert found is not None
    np.testing.assert_array_equal(found.value, grid.value)


def test_a_kernel_on_no_grid_is_not_forced_onto_one() -> None:
    """Random numbers, and vectors, have none."""
    assert eight_bit_grid(random(32, 4, 2, 2)) is None
    assert eight_bit_grid(random(32, 16)) is None
    assert eight_bit_grid(np.ones(300, np.float32)) is None


def test_a_whole_network_gives_the_same_numbers(upscaler: Any) -> None:
    """An exported network with weights in half precision: a smaller file, bit-identical answers."""
    model = copy.deepcopy(upscaler.model)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(half(value), tensor.name))
    before = model.SerializeToString()
    report = store_exactly(model)
    after = model.SerializeToString()
    inputs = {k: v.numpy() for k, v in unet_inputs(upscaler.preset.unet, size=(32, 32)).items()}
    old, new = (OrtEngine(graph, threads=1).run(inputs)["prediction"] for graph in (before, after))
    np.testing.assert_array_equal(new, old)
    assert report["float16"] > report["float32"]
    assert len(after) < len(before)


TAKEN = ["w_f16", "w_i8", "w_scale", "w_wide"]


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("weight", [half(random(40, 16)), on_rows(random(40, 16))])
def test_a_network_s_own_names_are_left_to_it(taken: str, weight: Floats) -> None:
    """A weight beside one called as its stored form would be: the answers stay, to the bit."""
    model = matmul(weight)
    own = random(16, seed=2)
    model.graph.initializer.append(numpy_helper.from_array(own, taken))
    model.graph.node.append(helper.make_node("Mul", ["y", taken], ["z"]))
    model.graph.output[0].name = "z"
    x = random(3, 40, seed=1)
    before = OrtEngine(model.SerializeToString(), threads=1).run({"x": x})["z"]
    store_exactly(model)
    after = OrtEngine(model.SerializeToString(), threads=1).run({"x": x})["z"]
    np.testing.assert_array_equal(after, before)
    assert stored(model)[taken] == "float32"


def test_a_table_beside_a_scale_of_that_name_is_looked_up_as_it_is() -> None:
    """Only a table that was widened is looked up in eight bits, whatever stands beside it."""
    table, scale = random(100, 24), random(100, 1)
    model = lookup(table)
    model.graph.initializer.append(numpy_helper.from_array(scale, "w_scale"))
    model.graph.node.append(helper.make_node("Gather", ["w_scale", "x"], ["s"]))
    model.graph.node.append(helper.make_node("Mul", ["y", "s"], ["z"]))
    model.graph.output[0].name = "z"
    ids = np.array([[1, 2, 99]], np.int64)
    store_exactly(model)
    found = OrtEngine(model.SerializeToString(), threads=1).run({"x": ids})["z"]
    np.testing.assert_array_equal(found, table[ids] * scale[ids])


def test_a_table_that_is_an_output_too_is_kept() -> None:
    """What the graph gives is widened as a whole, whoever looks rows up in it."""
    table = on_rows(random(100, 24))
    model = lookup(table)
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [100, 24]))
    store_exactly(model)
    ids = np.array([[1, 2]], np.int64)
    found = OrtEngine(model.SerializeToString(), threads=1).run({"x": ids})
    np.testing.assert_array_equal(found["w"], table)
    np.testing.assert_array_equal(found["y"], table[ids])
