"""Shared initializers: a file completed from another one, and nothing silently missing."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cascade.codecs.onnx_operators import operators
from cascade.codecs.shared_initializers import attach_initializers, encode_varint, message, missing
from cascade.engines.ort import OrtEngine
from cascade.errors import ManifestError

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((300, 5)).astype(np.float32)
BIAS = RNG.standard_normal(5).astype(np.float32)


def model(*constants: str) -> bytes:
    """`y = x W + b` with some of its weights inside."""
    values = {"W": WEIGHT, "b": BIAS, "unused": WEIGHT * 2}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "W"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["y"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 300])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(values[name], name) for name in constants],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    proto.ir_version = 10
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("inside", [(), ("b",), ("W",), ("W", "b")])
def test_the_completed_file_computes_as_the_whole_one(inside: tuple[str, ...]) -> None:
    """Whichever weights were left out, a runtime reads one whole graph and gives its numbers."""
    completed = attach_initializers(model(*inside), model("unused", "W", "b"), "g.onnx")
    x = RNG.standard_normal((3, 300)).astype(np.float32)
    engine = OrtEngine(completed, threads=1)
    np.testing.assert_array_equal(
        engine.run({"x": x})["y"], OrtEngine(model("W", "b"), threads=1).run({"x": x})["y"]
    )
    onnx.checker.check_model(onnx.load_from_string(completed), full_check=True)


def test_only_what_is_missing_is_taken() -> None:
    """The other file's other weights stay where they are."""
    completed = onnx.load_from_string(
        attach_initializers(model("b"), model("unused", "W", "b"), "g")
    )
    assert sorted(tensor.name for tensor in completed.graph.initializer) == ["W", "b"]
    assert missing(model("b")) == {"W"}
    assert missing(model("W", "b")) == set()


def test_a_weight_in_neither_file_is_an_error() -> None:
    """Named, before a parser sees the graph."""
    with pytest.raises(ManifestError, match=r"g\.onnx: 'W' is neither in it nor"):
        attach_initializers(model("b"), model("b"), "g.onnx")


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_truncated_files_are_errors(cut: int) -> None:
    """The graph's or the one with the weights."""
    whole = model("W", "b")
    for pair in ((whole[:-cut], whole), (model("b"), whole[:-cut])):
        with pytest.raises(ManifestError):
            attach_initializers(*pair, "g.onnx")


def test_operators_are_counted() -> None:
    """One of each here."""
    assert operators(model("W", "b")) == {"MatMul": 1, "Add": 1}


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, 1 << 21])
def test_lengths_are_written_as_protobuf_writes_them(length: int) -> None:
    """At every border of the base-128 code, protobuf reads back what was written."""
    tensor = TensorProto(raw_data=bytes(length))
    body = tensor.SerializeToString()
    graph = onnx.GraphProto.FromString(message(5, body))
    assert graph.initializer[0].raw_data == bytes(length)
    assert encode_varint(300) == b"\xac\x02"
