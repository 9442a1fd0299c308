"""Proofs: every engine installed, rows together and alone, large means; what fails names itself."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from cascade.engines.factory import EngineKind, installed_kinds
from cascade.errors import EngineError, ParityError
from cascade.graph_spec import TensorSpec
from cascade.types import Array
from export import proof
from export.graphs import export_graph
from export.proof import LARGE_MEAN, Claim, prove, rows_of, unlike_rows
from stages.evaluation.torch_engine import TorchEngine

NEEDS_OPENVINO = pytest.mark.skipif(
    EngineKind.OPENVINO not in installed_kinds(),
    reason="OPENVINO IS MISSING: nothing was proven on it",
)
SPEC = TensorSpec(name="x", dtype="float32", shape=("batch", 8, "height", "width"))
OUT = TensorSpec(name="y", dtype="float32", shape=("batch", 8, "height", "width"))
CASE = {"x": np.random.default_rng(0).standard_normal((2, 8, 32, 32)).astype(np.float32)}


class Plain(nn.Module):
    """A convolution, a norm, a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(8, 8, 3, padding=1)
        self.g = nn.GroupNorm(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return self.g(self.a(x))


class Mixing(Plain):
    """What a norm over the batch would do."""

    def forward(self, x: Tensor) -> Tensor:
        """Less the mean of all rows."""
        y = self.a(x)
        return y - y.mean(0, keepdim=True)


class MixingWeakly(Plain):
    """A tenth of the others' mean brightness."""

    def forward(self, x: Tensor) -> Tensor:
        """Plus what all rows share."""
        return self.a(x) + 0.1 * x.mean()


def network(kind: type[Plain]) -> Plain:
    """Random weights, the same ones every time."""
    torch.manual_seed(0)
    return kind().eval().requires_grad_(requires_grad=False)


def claim(kind: type[Plain], graph: bytes = b"") -> Claim:
    """That a network's export is the network."""
    made = network(kind)
    graph = graph or export_graph(made, [SPEC], [OUT]).SerializeToString()
    original = TorchEngine(made, "y")
    return Claim(name="part", original=original, graph=graph, cases=[CASE], outputs=["y"])


def quiet(_line: str) -> None:
    """Nobody reads it."""


def test_a_network_is_proven_on_every_engine_installed() -> None:
    """The record is the worst one's, and a line says how far the second engine was."""
    lines: list[str] = []
    record = prove(claim(Plain), lines.append)
    assert 0 < record.max_abs_error < 1e-4
    others = set(installed_kinds()) & set(proof.KINDS) - {EngineKind.ORT}
    assert [line.split()[1].rstrip(":") for line in lines] == [proof.KINDS[k] for k in others]


@pytest.mark.parametrize("kind", [Mixing, MixingWeakly])
def test_a_network_that_mixes_its_batch_is_refused(kind: type[Plain]) -> None:
    """Its graph mixes as the network does, so that cases alone would find them equal."""
    with pytest.raises(ParityError, match=r"part: y of row 0 alone .* mixes the rows") as caught:
        prove(claim(kind), quiet)
    assert caught.value.field == "part"


def test_rows_of_one_picture_are_told_apart() -> None:
    """A case may show one picture in both rows; what is asked shows two, of one row too."""
    same = {"x": np.repeat(CASE["x"][:1], 2, axis=0), "t": np.array([0.1, 0.9], np.float32)}
    for case in (same, {name: value[:1] for name, value in same.items()}):
        turned = unlike_rows(case)
        first, second = turned["x"]
        assert np.abs(first - second).mean() > 0.5
        np.testing.assert_array_equal(first, same["x"][0])
        assert [len(row["x"]) for row in rows_of(turned)] == [1, 1]
        assert turned["t"].shape == (2,)


def affine(answer: Callable[[Array], Array]) -> type:
    """An engine that computes with numpy."""

    class Made:
        """`y` of `x`."""

        def __init__(self, *_args: object) -> None:
            """Takes what an engine takes."""

        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            """The answer."""
            return {"y": answer(inputs["x"]).astype(np.float32)}

        def terminate(self) -> None:
            """Nothing to end."""

        def close(self) -> None:
            """Nothing to release."""

    return Made


WRONG = {
    "numbers": (lambda x: x + 1, "over the tolerance"),
    "rows": (lambda x: x + (0.5 if len(x) == 1 else 0), "off alone or among others"),
    "large_mean": (lambda x: x * (1.3 if x.mean() > LARGE_MEAN / 2 else 1), "mean of 100"),
}


@pytest.mark.parametrize("engine", [EngineKind.ORT, EngineKind.OPENVINO])
@pytest.mark.parametrize("kind", WRONG)
def test_a_graph_that_is_wrong_on_one_engine_is_refused_by_name(
    kind: str, engine: EngineKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong numbers, rows that differ alone, and a large mean that is lost, on either engine."""
    wrong, words = WRONG[kind]
    right = affine(lambda x: x)()
    monkeypatch.setattr(proof, "installed_kinds", lambda: tuple(proof.KINDS))
    monkeypatch.setattr(
        proof, "open_engine", lambda _g, choice: affine(wrong)() if choice.kind is engine else right
    )
    told = Claim(name="part", original=right, graph=b"", cases=[CASE], outputs=["y"])
    with pytest.raises(ParityError, match=f"part on {proof.KINDS[engine]}: y.*{words}"):
        prove(told, quiet)


def test_a_network_that_overflows_at_large_means_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the original has no answer to is no fault of the graph."""
    with np.errstate(over="ignore"):
        grows = affine(lambda x: np.exp(x.astype(np.float32)))()
        monkeypatch.setattr(proof, "open_engine", lambda _g, _c: grows)
        prove(Claim(name="p", original=grows, graph=b"", cases=[CASE], outputs=["y"]), quiet)


def relu_of(weights: dict[str, Array], nodes: list[onnx.NodeProto]) -> bytes:
    """A graph of pictures with these constants."""
    shape = ["batch", 8, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model.SerializeToString()


class Shared(Plain):
    """A convolution and its transpose with one weight."""

    def forward(self, x: Tensor) -> Tensor:
        """There and back."""
        return nn.functional.conv_transpose2d(self.a(x), self.a.weight, padding=1)


@NEEDS_OPENVINO
def test_what_openvino_computes_wrongly_is_not_written() -> None:
    """A shared weight, as torch's exporter leaves it: right on ONNX Runtime, refused by name."""
    made = network(Shared)
    weights = {"w": made.a.weight.numpy(), "b": made.a.bias.numpy()}  # type: ignore[union-attr]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["h", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    with pytest.raises(ParityError, match="part on OpenVINO: y"):
        prove(claim(Shared, relu_of(weights, nodes)), quiet)


@NEEDS_OPENVINO
def test_the_exporter_gives_each_way_of_reading_a_weight_its_own_copy() -> None:
    """The same network through `export_graph` is right on both engines."""
    assert prove(claim(Shared), quiet).max_abs_error < 1e-4


def test_what_one_engine_cannot_run_is_said_and_what_all_cannot_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenVINO may lack an operator; ONNX Runtime is what every bundle runs on."""
    right = affine(lambda x: x)()

    def lacks(kind: EngineKind) -> Callable[..., object]:
        def opened(_graph: bytes, choice: object) -> object:
            if getattr(choice, "kind", None) is kind:
                raise EngineError("no such operator")
            return right

        return opened

    monkeypatch.setattr(proof, "installed_kinds", lambda: tuple(proof.KINDS))
    told = Claim(name="part", original=right, graph=b"", cases=[CASE], outputs=["y"])
    lines: list[str] = []
    monkeypatch.setattr(proof, "open_engine", lacks(EngineKind.OPENVINO))
    prove(told, lines.append)
    assert lines == ["part          OpenVINO cannot run it: no such operator"]
    monkeypatch.setattr(proof, "open_engine", lacks(EngineKind.ORT))
    with pytest.raises(EngineError):
        prove(told, quiet)
