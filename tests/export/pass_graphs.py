"""Small graphs with the patterns that the graph passes look for, and runs before and after."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]
Shape = list[int | str]


class Recipe:
    """A graph while it is written down; every method returns the name of a value."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.inputs: dict[str, Shape] = {}

    def input(self, name: str, shape: Shape) -> str:
        """An input of the graph."""
        self.inputs[name] = shape
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """A constant list of int64."""
        return self.constant(values, np.int64)

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        """A constant of random numbers."""
        return self.constant(scale * self.rng.standard_normal(shape))

    def op(self, kind: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        """A node; its output, or a list of `count` outputs."""
        outputs = [f"v{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs[0] if count == 1 else outputs

    def convolve(self, x: str, channels: tuple[int, int], kernel: int = 3, **extra: Any) -> str:
        """A convolution of random weights that keeps the size unless told otherwise."""
        there, here = channels
        weight = self.normal(here, there, kernel, kernel, scale=(there * kernel**2) ** -0.5)
        extra = {"pads": [kernel // 2] * 4, "kernel_shape": [kernel, kernel], **extra}
        return str(self.op("Conv", x, weight, self.normal(here), **extra))

    def group_norm(self, x: str, channels: int, groups: int) -> str:
        """A group norm with random weight and bias."""
        weights = self.normal(channels), self.normal(channels)
        return str(self.op("GroupNormalization", x, *weights, num_groups=groups, epsilon=1e-5))

    def swish(self, x: str) -> str:
        """`x * sigmoid(x)` as the exporter writes it."""
        return str(self.op("Mul", x, self.op("Sigmoid", x)))

    def model(self, *outputs: str, rank: int = 4) -> onnx.ModelProto:
        """The finished graph, valid; its outputs have `rank` axes of any size."""
        graph = helper.make_graph(
            self.nodes,
            "recipe",
            [
                helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
                for n, s in self.inputs.items()
            ],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * rank) for n in outputs],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
        model.ir_version = 10
        onnx.checker.check_model(model)
        return model


def session(model: onnx.ModelProto, optimized: str = "") -> ort.InferenceSession:
    """ONNX Runtime on one thread; `optimized` is where it writes what it made of the graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.optimized_model_filepath = optimized
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def random_inputs(model: onnx.ModelProto, seed: int = 1, **sizes: int) -> dict[str, Floats]:
    """Standard normal inputs; `sizes` are those of the free axes."""
    rng = np.random.default_rng(seed)
    return {
        info.name: rng.standard_normal(
            [
                sizes[d.dim_param] if d.dim_param else d.dim_value
                for d in info.type.tensor_type.shape.dim
            ]
        ).astype(np.float32)
        for info in model.graph.input
    }


def run(model: onnx.ModelProto, inputs: dict[str, Floats]) -> list[Floats]:
    """All outputs."""
    return [np.asarray(value) for value in session(model).run(None, inputs)]


def rewritten(
    model: onnx.ModelProto, rewrite: Callable[[onnx.ModelProto], int]
) -> tuple[onnx.ModelProto, int]:
    """A copy after a pass, valid, and how often the pass fired."""
    changed = copy.deepcopy(model)
    count = rewrite(changed)
    onnx.checker.check_model(changed)
    return changed, count


def kinds(model: onnx.ModelProto) -> list[str]:
    """The operators of a graph, sorted."""
    return sorted(node.op_type for node in model.graph.node)


def assert_equivalent(
    before: onnx.ModelProto, after: onnx.ModelProto, inputs: dict[str, Floats], atol: float
) -> None:
    """Both graphs answer alike, to `atol`."""
    for old, new in zip(run(before, inputs), run(after, inputs), strict=True):
        assert old.shape == new.shape
        assert old.std() > 0.05  # a graph that answers nothing would always agree
        np.testing.assert_allclose(new, old, atol=atol, rtol=0)
