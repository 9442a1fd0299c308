"""Weights taken out of a graph and widened here: the same answers, and memory that is let go."""

import weakref
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from cascade.codecs.onnx_files import refuse_external_data
from cascade.engines.ort import OrtEngine
from cascade.types import Array
from cascade.weights import loose
from cascade.weights.loose import LooseGraph, loosened
from cascade.weights.source import source_sha256, whole_graph

RNG = np.random.default_rng(0)
STORED = {
    "table": RNG.integers(-127, 127, (64, 32), dtype=np.int8),
    "columns_i8": RNG.integers(-127, 127, (32, 48), dtype=np.int8),
    "columns_scale": RNG.random((1, 48), np.float32),
    "half": RNG.random((48, 32), np.float32).astype(np.float16),
    "rows_i8": RNG.integers(-127, 127, (40, 32), dtype=np.int8),
    "rows_scale": RNG.random((40, 1), np.float32),
}
NODES = [
    helper.make_node("Cast", ["columns_i8"], ["columns_wide"], to=TensorProto.FLOAT),
    helper.make_node("Mul", ["columns_wide", "columns_scale"], ["columns"]),
    helper.make_node("Cast", ["half"], ["wide_half"], to=TensorProto.FLOAT),
    helper.make_node("Cast", ["rows_i8"], ["rows_wide"], to=TensorProto.FLOAT),
    helper.make_node("Mul", ["rows_wide", "rows_scale"], ["rows"]),
    helper.make_node("Gather", ["table", "ids"], ["looked_up"]),
    helper.make_node("Cast", ["looked_up"], ["x"], to=TensorProto.FLOAT),
    helper.make_node("MatMul", ["x", "columns"], ["y"]),
    helper.make_node("MatMul", ["y", "wide_half"], ["z"]),
    helper.make_node("Gemm", ["z", "rows"], ["out"], transB=1),
]
IDS = np.arange(16)


@pytest.fixture(autouse=True)
def _small_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of these tests are worth looking at."""
    monkeypatch.setattr(loose, "LEAST_BYTES", 1024)
    monkeypatch.setattr(loose, "LEAST_WIDENED", 4096)


def graph(nodes: Sequence[NodeProto], outputs: Sequence[str] = ("out",)) -> bytes:
    """An ONNX file with the stored weights, that makes some of its values."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in STORED.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()


def answers(source: bytes | LooseGraph) -> list[Array]:
    """All that ONNX Runtime makes of the ids."""
    engine = OrtEngine(source, threads=1)
    try:
        return list(engine.run({"ids": IDS}).values())
    finally:
        engine.close()


def taken_from(data: bytes) -> LooseGraph:
    """A graph that is worth it."""
    found = loosened(data)
    assert isinstance(found, LooseGraph)
    return found


def test_the_answers_are_the_same_to_the_bit() -> None:
    """Levels by column, by row and in half precision, and a table that is looked up as it lies."""
    taken = taken_from(graph(NODES))
    assert set(taken.tensors) == {"table", "columns", "wide_half", "rows"}
    assert np.array_equal(answers(taken)[0], answers(graph(NODES))[0])


def test_the_weights_are_what_the_nodes_make_of_them() -> None:
    """Put back into the graph they are plain initializers; what widened them is gone."""
    whole = whole_graph(taken_from(graph(NODES)))
    refuse_external_data(whole, "whole.onnx")
    model = onnx.load_from_string(whole)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert [node.op_type for node in model.graph.node] == [n.op_type for n in NODES[5:]]
    assert set(stored) == {"table", "columns", "wide_half", "rows"}
    levels = STORED["columns_i8"].astype(np.float32)
    assert np.array_equal(stored["columns"], levels * STORED["columns_scale"])
    assert np.array_equal(stored["wide_half"], STORED["half"].astype(np.float32))


def test_what_anything_else_reads_stays_in_the_graph() -> None:
    """As a result, in a sum, or inside a branch: an optimiser may read it there."""
    branch = helper.make_graph(
        [helper.make_node("Identity", ["wide_half"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    nodes = [
        *NODES,
        helper.make_node("Add", ["rows_wide", "rows_wide"], ["twice"]),
        helper.make_node("Constant", [], ["yes"], value=true),
        helper.make_node("If", ["yes"], ["picked"], then_branch=branch, else_branch=branch),
    ]
    data = graph(nodes, ("out", "columns", "twice", "picked"))
    taken = taken_from(data)
    # The product of `rows` is taken out; its levels stay, because the sum reads them.
    assert set(taken.tensors) == {"table", "rows"}
    for one, other in zip(answers(taken), answers(data), strict=True):
        assert np.array_equal(one, other)


def test_a_packed_weight_is_free_once_the_engine_is_open() -> None:
    """The session counts references; those that it reads in place stay, and its answers too."""
    taken = taken_from(graph(NODES))
    alive = {name: weakref.ref(tensor.base) for name, tensor in taken.tensors.items()}
    engine = OrtEngine(taken, threads=1)
    del taken
    held = {name for name, reference in alive.items() if reference() is not None}
    assert "columns" not in held
    assert "table" in held
    assert np.array_equal(engine.run({"ids": IDS})["out"], answers(graph(NODES))[0])
    engine.close()


def test_a_graph_that_would_save_little_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its size before it is looked at, and by what was found in it."""
    data = graph(NODES)
    monkeypatch.setattr(loose, "LEAST_WIDENED", 4 * len(data) + 4)
    assert loosened(data) is data
    monkeypatch.setattr(loose, "LEAST_WIDENED", 4 * len(data) - 4)
    assert loosened(data) is data


def test_two_graphs_with_other_weights_have_other_hashes() -> None:
    """The taken weights are no longer in the file that names them."""
    first, same, other = (taken_from(graph(NODES)) for _ in range(3))
    changed = LooseGraph(other.data, {n: np.negative(t) for n, t in other.tensors.items()})
    assert source_sha256(first) == source_sha256(same) != source_sha256(changed)
