"""Shared weights: whatever reads one in another way gets a copy of its own, and engines agree."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cascade.engines.factory import EngineChoice, EngineKind, installed_kinds, open_engine
from cascade.precision import Precision
from export.weights.own_weights import own_weights

NODES = {
    "convolutions": [
        ("Conv", "x", "h", {"pads": [1] * 4}),
        ("ConvTranspose", "h", "y", {"pads": [1] * 4}),
    ],
    "grouped": [
        ("Conv", "x", "h", {"pads": [1] * 4, "group": 2}),
        ("ConvTranspose", "h", "y", {"pads": [1] * 4, "group": 2}),
    ],
    "products": [("Gemm", "x", "h", {"transB": 1}), ("Gemm", "h", "y", {})],
    "gemm_and_matmul": [("Gemm", "x", "h", {"transB": 1}), ("MatMul", "h", "y", {})],
    "same_way": [("Conv", "x", "h", {"pads": [1] * 4}), ("Conv", "h", "y", {"pads": [1] * 4})],
}
COPIES = {"same_way": 0}


def graph(name: str) -> onnx.ModelProto:
    """Two layers in a row that read one weight."""
    flat = name in ("products", "gemm_and_matmul")
    shape = (16, 16) if flat else (8, 4 if name == "grouped" else 8, 3, 3)
    axes = ["batch", 16] if flat else ["batch", 8, 16, 16]
    rng = np.random.default_rng(0)
    weight = rng.standard_normal(shape).astype(np.float32)
    nodes = [helper.make_node(k, [x, "w"], [y], **extra) for k, x, y, extra in NODES[name]]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "shared",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, axes)],
            [numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
    )
    model.ir_version = 10
    return model


def answers(model: onnx.ModelProto) -> list[np.ndarray]:
    """What every CPU engine that is installed makes of two rows."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [d.dim_value or 2 for d in dims]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    kinds = [k for k in (EngineKind.ORT, EngineKind.OPENVINO) if k in installed_kinds()]
    choices = [EngineChoice(kind, Precision.FP32, threads=1) for kind in kinds]
    return [open_engine(model.SerializeToString(), c).run({"x": x})["y"] for c in choices]


@pytest.mark.parametrize("name", NODES)
def test_every_engine_computes_the_same(name: str) -> None:
    """One copy more where a weight is read in two ways, none where it is not; equal answers."""
    model = graph(name)
    (before, *_) = answers(model)
    assert own_weights(model) == COPIES.get(name, 1)
    onnx.checker.check_model(model)
    readers = Counter(node.input[1] for node in model.graph.node)
    assert len(readers) == 1 + COPIES.get(name, 1)
    for found in answers(model):
        np.testing.assert_allclose(found, before, atol=1e-4 * np.abs(before).max())


def test_three_readers_share_by_the_way_they_read() -> None:
    """Two that read alike share one copy."""
    model = graph("convolutions")
    extra = helper.make_node("ConvTranspose", ["y", "w"], ["z"], pads=[1] * 4)
    model.graph.node.append(extra)
    model.graph.output[0].name = "z"
    assert own_weights(model) == 1
    first, second, third = (node.input[1] for node in model.graph.node)
    assert first == "w"
    assert second == third != "w"
