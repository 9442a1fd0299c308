"""Exported graphs: the listed signature, all weights inside, and torch's answers at other sizes."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from cascade.codecs.onnx_files import refuse_external_data
from cascade.engines.ort import OrtEngine
from cascade.graph_spec import TensorSpec
from export.graphs import EXAMPLE_AXES, OPSET, example_inputs, export_graph, name_axes
from stages.evaluation.sampling import graph_inputs, graph_outputs
from tests.export.foreign_networks.one_registry import DECOMPOSITIONS, EXPORTER
from tests.support.tiny_training import SELF_BASE, stirred, unet_inputs

# Float32 sums in another order over a few layers of numbers around 1.
TOLERANCE = 2e-4


def signature(infos: Any) -> dict[str, tuple[int | str, ...]]:
    """Names and axes of a graph's inputs or outputs."""
    return {
        info.name: tuple(d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim)
        for info in infos
    }


@pytest.mark.parametrize("which", ["upscaler", "base"])
def test_the_signature_is_the_listed_one(which: str, request: pytest.FixtureRequest) -> None:
    """Inputs and outputs have the listed names, in order, and axes; ONNX Runtime agrees."""
    made = request.getfixturevalue(which)
    graph = made.model.graph
    assert signature(graph.input) == {s.name: s.shape for s in made.inputs}
    assert [i.name for i in graph.input] == [s.name for s in made.inputs]
    assert signature(graph.output) == {s.name: s.shape for s in made.outputs}
    engine = OrtEngine(made.model.SerializeToString(), threads=1)
    assert engine.inputs == {s.name: (s.dtype, s.shape) for s in made.inputs}
    assert engine.outputs == {s.name: (s.dtype, s.shape) for s in made.outputs}


@pytest.mark.parametrize("which", ["upscaler", "base"])
def test_the_graph_is_whole_and_clean(which: str, request: pytest.FixtureRequest) -> None:
    """One operator set, a valid model, no external data, none of the exporter's own notes."""
    model = request.getfixturevalue(which).model
    onnx.checker.check_model(model)
    refuse_external_data(model.SerializeToString(), which)
    assert [(o.domain, o.version) for o in model.opset_import if not o.domain] == [("", OPSET)]
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


@pytest.mark.parametrize(
    ("rows", "tokens", "size"),
    [(1, 5, (32, 32)), (3, 5, (32, 32)), (1, 1, (16, 16)), (2, 40, (48, 16)), (1, 3, (64, 96))],
)
def test_the_upscaler_answers_as_torch(
    upscaler: Any, rows: int, tokens: int, size: tuple[int, int]
) -> None:
    """Any batch, number of tokens, height and width: the graph gives torch's numbers."""
    inputs = unet_inputs(upscaler.preset.unet, rows=rows, tokens=tokens, size=size)
    inputs["context_mask"][:, tokens // 2 + 1 :] = 0
    inputs["aug_level"][0] = 0
    with torch.no_grad():
        expected = upscaler.network(**inputs).numpy()
    engine = OrtEngine(upscaler.model.SerializeToString(), threads=1)
    found = engine.run({name: value.numpy() for name, value in inputs.items()})["prediction"]
    assert found.shape == (rows, 3, *size)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 5), (3, 2), (2, 33)])
def test_the_base_answers_as_torch(base: Any, rows: int, tokens: int) -> None:
    """Any batch and number of tokens, unconditional rows among them."""
    inputs = unet_inputs(base.preset.unet, rows=rows, tokens=tokens, size=(32, 32))
    inputs["context_mask"][-1] = 0
    with torch.no_grad():
        expected = base.network(**inputs).numpy()
    engine = OrtEngine(base.model.SerializeToString(), threads=1)
    found = engine.run({name: value.numpy() for name, value in inputs.items()})["prediction"]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_example_inputs_fit_the_specs() -> None:
    """Made-up inputs have the listed dtypes and, on free axes, sizes that are all different."""
    specs = (
        TensorSpec(name="a", dtype="float32", shape=("batch", 3, "height", "width")),
        TensorSpec(name="b", dtype="int64", shape=("batch", "tokens")),
    )
    pictures, numbers = example_inputs(specs)
    assert pictures.shape == (2, 3, EXAMPLE_AXES["height"], EXAMPLE_AXES["width"])
    assert (numbers.shape, numbers.dtype) == ((2, EXAMPLE_AXES["tokens"]), torch.int64)
    assert len(set(EXAMPLE_AXES.values())) == len(EXAMPLE_AXES)
    assert 1 not in EXAMPLE_AXES.values()


def test_an_input_under_another_name_is_an_error() -> None:
    """If the exporter renames an input, nothing is written."""
    info = helper.make_tensor_value_info("other", 1, [1])
    model = helper.make_model(helper.make_graph([], "g", [info], []))
    with pytest.raises(RuntimeError, match="expected x_t, the exporter named it other"):
        name_axes(model, [TensorSpec(name="x_t", dtype="float32", shape=(1,))], [])


def test_a_student_of_guidance_keeps_its_inputs_apart() -> None:
    """Inputs go by name: the weight is not taken for a picture, and reaches the answer."""
    preset = replace(SELF_BASE, unet=SELF_BASE.unet.with_guidance())
    network = stirred(preset.unet)
    model = export_graph(network, graph_inputs(preset), graph_outputs(preset))
    engine = OrtEngine(model.SerializeToString(), threads=1)
    inputs = {
        **unet_inputs(preset.unet, rows=2, size=(32, 32)),
        "guidance": torch.tensor([1.0, 4.0]),
    }
    with torch.no_grad():
        expected = network(**inputs).numpy()
        other = network(**inputs | {"guidance": torch.tensor([1.0, 2.0])}).numpy()
    found = engine.run({name: value.numpy() for name, value in inputs.items()})["prediction"]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert np.abs(other[1] - expected[1]).max() > 10 * TOLERANCE


def test_exports_of_one_process_share_their_tables() -> None:
    """Of operators: torch would read their sources for every graph, half of a small one's time."""
    registry = import_module(EXPORTER).ONNXRegistry
    assert registry.from_torchlib() is registry.from_torchlib()
    collected = [import_module(name)._collect_all_valid_cia_ops for name in DECOMPOSITIONS]
    assert collected[0]() is collected[0]()
    assert collected[1]() is collected[1]()


class Guarded(torch.nn.Module):
    """Shares of a sum, 0 where the sum is 0; the same again by a factor that is nearly 1."""

    def __init__(self, guard: float) -> None:
        super().__init__()
        self.guard = guard
        self.register_buffer("factor", torch.tensor(1.000001))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, 3]`, the same shape again."""
        return self.factor * (x / (x.sum(1, keepdim=True) + self.guard))


@pytest.mark.parametrize("guard", [1e-15, 1e-8])
def test_a_small_guard_stays_in_the_graph(guard: float) -> None:
    """The optimizer (onnxscript 0.7.2) takes it for 0: then the graph divides 0 by 0."""
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
    network = Guarded(guard).eval()
    graph = export_graph(network, [spec], [replace(spec, name="y")])
    assert [info.name for info in graph.graph.input] == ["x"]
    x = np.array([[0, 0, 0], [1, 2, 1]], np.float32)
    (answer,) = OrtEngine(graph.SerializeToString(), threads=1).run({"x": x}).values()
    np.testing.assert_array_equal(answer, network(torch.from_numpy(x)).numpy())
