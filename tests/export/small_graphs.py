"""Small ONNX graphs with constant weights, and integer convolution written out in numpy."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]
CHANNELS = 6


def random(*shape: int, seed: int = 0) -> Floats:
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(
    nodes: Sequence[NodeProto], weights: dict[str, Floats], shape: Sequence[int | str]
) -> onnx.ModelProto:
    """A model from `x` to `y`."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model


def one_convolution(weight: Floats, bias: Floats) -> onnx.ModelProto:
    """`y = conv(x)`, padded to keep its size."""
    pad = weight.shape[2] // 2
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[pad] * 4)
    return model_of([node], {"w": weight, "b": bias}, ["n", weight.shape[1], "h", "w"])


def two_readers() -> onnx.ModelProto:
    """Two convolutions of one activation, a third after their sum."""
    nodes = [
        helper.make_node("Conv", ["x", "wa", "ba"], ["a"], name="first"),
        helper.make_node("Conv", ["x", "wb"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Conv", ["sum", "wc"], ["y"]),
    ]
    weights = {
        "wa": random(8, CHANNELS, 1, 1),
        "ba": random(8, seed=4),
        "wb": random(8, CHANNELS, 1, 1, seed=2),
        "wc": random(4, 8, 1, 1, seed=3),
    }
    return model_of(nodes, weights, ["n", CHANNELS, 5, 5])


def integer_convolution(x: NDArray[np.int64], w: NDArray[np.int64]) -> NDArray[np.int64]:
    """`x [B, C, H, W]` with zeros around it, `w [O, C, k, k]`: sums of whole numbers."""
    pad = w.shape[2] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, w.shape[2:], axis=(2, 3))
    return np.asarray(np.einsum("bchwij,ocij->bohw", windows, w))
