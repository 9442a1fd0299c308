"""Exact networks exported: the very bits of torch on every engine, or nothing is exported."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from cascade.graph_spec import TensorSpec
from cascade.types import Array
from export.exact_proof import differing_values, prove_exactly
from export.graphs import export_graph
from export.proof import Claim
from export.weights.exact_storage import store_exactly
from export.weights.stored_numbers import check_stored
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.exact import ExactLayer, Range, frozen
from tests.support.tiny_pixels import TINY_SECOND, body_case, head_case, stirred_pixels


@dataclass(frozen=True, slots=True)
class Graph:
    """A network, its graph and what it is asked."""

    original: TorchEngine
    data: bytes
    case: dict[str, Array]
    outputs: tuple[str, ...]

    @property
    def claim(self) -> Claim:
        """That they are the same."""
        return Claim(
            name="px16",
            original=self.original,
            graph=self.data,
            cases=[self.case],
            outputs=self.outputs,
        )


def specs(values: dict[str, Array]) -> list[TensorSpec]:
    """The signature of arrays whose first axis is free, and the second of texts."""
    found = []
    for name, value in values.items():
        shape: list[int | str] = ["batch", *value.shape[1:]]
        if name.startswith("context"):
            shape[1] = "tokens"
        dtype = "int64" if value.dtype == np.int64 else "float32"
        found.append(TensorSpec(name=name, dtype=dtype, shape=tuple(shape)))
    return found


def graph_of(network: nn.Module, case: dict[str, Array], *outputs: str) -> Graph:
    """A network exported and stored as a bundle stores it."""
    original = TorchEngine(network, *outputs)
    model = export_graph(network, specs(case), specs(original.run(case)))
    store_exactly(model)
    return Graph(original, model.SerializeToString(), case, outputs)


@pytest.fixture(scope="module")
def body() -> Graph:
    """The body of a stage."""
    return graph_of(stirred_pixels(TINY_SECOND).body, body_case(TINY_SECOND), "features")


@pytest.fixture(scope="module")
def heads(body: Graph) -> Graph:
    """The head of the same stage, asked about the features of its body."""
    case = head_case(TINY_SECOND, body.original.run(body.case)["features"])
    return graph_of(stirred_pixels(TINY_SECOND).heads, case, "high", "low", "copy")


@pytest.mark.parametrize("role", ["body", "heads"])
def test_every_engine_gives_the_bits_of_torch(role: str, request: pytest.FixtureRequest) -> None:
    """ONNX Runtime and OpenVINO, three rows together and each alone."""
    graph: Graph = request.getfixturevalue(role)
    lines: list[str] = []
    record = prove_exactly(graph.claim, lines.append)
    assert (record.max_abs_error, record.tolerance_abs) == (0.0, 0.0)
    assert lines
    assert all(": 0 of " in line for line in lines)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_of_the_engine_change_no_bit(body: Graph, threads: int) -> None:
    """The same graph on one, two and four threads."""
    found = OrtEngine(body.data, threads=threads).run(body.case)["features"]
    assert differing_values(found, body.original.run(body.case)["features"]) == 0


def test_weights_are_stored_in_a_byte_or_two(body: Graph) -> None:
    """Multiples of 1/512 fit into int8 or float16 without loss: none is stored in four bytes."""
    model = onnx.load_from_string(body.data)
    wide = [
        tensor.name
        for tensor in model.graph.initializer
        if (value := numpy_helper.to_array(tensor)).dtype == np.float32 and value.size > 1000
    ]
    assert not wide


@pytest.mark.parametrize("end", ["_i8", "_f16"])
def test_a_file_that_stores_another_number_is_refused(end: str) -> None:
    """One weight a step of the grid off, in either format: the error names the weight."""
    network, case = stirred_pixels(TINY_SECOND).body, body_case(TINY_SECOND)
    before = export_graph(network, specs(case), specs(TorchEngine(network, "features").run(case)))
    after = onnx.ModelProto()
    after.CopyFrom(before)
    store_exactly(after)
    sizes = [numpy_helper.to_array(tensor).size for tensor in before.graph.initializer]
    assert check_stored("px16", before, after.SerializeToString()) == sum(sizes)
    tensor = next(t for t in after.graph.initializer if t.name.endswith(end))
    value = numpy_helper.to_array(tensor).copy()
    value.flat[-1] += 1
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    with pytest.raises(ParityError, match=r"px16: .* is not stored without loss"):
        check_stored("px16", before, after.SerializeToString())


def shifted(graph: Graph) -> Graph:
    """The graph with one weight a step of the grid off."""
    model = onnx.load_from_string(graph.data)
    bias = next(t for t in model.graph.initializer if "out.bias" in t.name)
    value = numpy_helper.to_array(bias).copy()
    value[0] += 1
    bias.CopyFrom(numpy_helper.from_array(value, bias.name))
    return Graph(graph.original, model.SerializeToString(), graph.case, graph.outputs)


def test_one_step_of_one_weight_is_no_parity(body: Graph) -> None:
    """A difference that 50 dB would let pass is refused, with engine, output and count."""
    with pytest.raises(ParityError, match=r"px16 on ONNX Runtime: features: [0-9]+ of [0-9]+"):
        prove_exactly(shifted(body).claim, lambda _: None)


class Float(nn.Module):
    """The same layers without rounding, in float32."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        ranges = Range(-255, 255, exact=False)
        self.layers = nn.Sequential(
            *(ExactLayer(48, 48, ranges, kernel=3) for _ in range(4))
        ).requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        found: Tensor = self.layers(x)
        return found


def test_an_ordinary_float_network_is_refused() -> None:
    """Sums in another order round another way: what the exact network is for."""
    rng = np.random.default_rng(0)
    case = {"x": rng.standard_normal((3, 48, 32, 32)).astype(np.float32) * 50}
    graph = graph_of(frozen(Float()), case, "y")
    with pytest.raises(ParityError, match="another picture"):
        prove_exactly(graph.claim, lambda _: None)


@pytest.mark.parametrize(
    "change",
    [lambda v: v[:1], lambda v: v.astype(np.float64), lambda v: -v, lambda v: v * np.nan],
    ids=["shape", "dtype", "sign-of-zero", "not-a-number"],
)
def test_bits_are_compared_and_not_numbers(change: Callable[[Array], Array]) -> None:
    """Another shape, another dtype, a zero of the other sign: each differs from zeros."""
    zeros = np.zeros((2, 3), np.float32)
    assert differing_values(zeros.copy(), zeros) == 0
    assert differing_values(change(zeros), zeros) > 0
