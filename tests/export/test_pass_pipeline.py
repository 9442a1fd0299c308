"""All passes on a true export: torch's answers, every fusion counted, a missing one an error."""

import copy
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from export.passes.editor import MICROSOFT, GraphEditor
from export.passes.expectations import check_fusions, expected_fusions
from export.passes.pipeline import PASSES, optimize
from stages.networks.efficient_unet import EfficientUNet
from stages.reference import BASE, SR256, SR1024
from tests.export.conftest import OneStage
from tests.support.tiny_training import SELF_BASE, stirred, unet_inputs

# As `test_graphs.py`: float32 sums in another order over a few layers of numbers around 1.
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def optimized(upscaler: Any) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The upscaler's graph after all passes, and what they counted."""
    model = copy.deepcopy(upscaler.model)
    return model, optimize(model)


@pytest.mark.parametrize(
    ("rows", "tokens", "size"), [(1, 5, (32, 32)), (3, 1, (64, 32)), (2, 40, (32, 96))]
)
def test_the_optimized_graph_answers_as_torch(
    upscaler: Any,
    optimized: tuple[onnx.ModelProto, dict[str, int]],
    rows: int,
    tokens: int,
    size: tuple[int, int],
) -> None:
    """Any batch, number of tokens, height and width, unconditional rows among them."""
    inputs = unet_inputs(upscaler.preset.unet, rows=rows, tokens=tokens, size=size)
    inputs["context_mask"][-1] = 0
    inputs["aug_level"][0] = 0
    with torch.no_grad():
        expected = upscaler.network(**inputs).numpy()
    engine = OrtEngine(optimized[0].SerializeToString(), threads=1)
    found = engine.run({name: value.numpy() for name, value in inputs.items()})["prediction"]
    assert found.shape == (rows, 3, *size)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_openvino_reads_the_optimized_graph(
    upscaler: Any, optimized: tuple[onnx.ModelProto, dict[str, int]]
) -> None:
    """The other reader of the bundle's graphs knows every operator that the passes write."""
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: not compared")
    inputs = unet_inputs(upscaler.preset.unet, rows=2, tokens=5, size=(32, 64))
    with torch.no_grad():
        expected = upscaler.network(**inputs).numpy()
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(
        core.read_model(optimized[0].SerializeToString()), "CPU", settings
    )
    found = compiled({name: value.numpy() for name, value in inputs.items()})["prediction"]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_signature_and_the_domains_stay(
    upscaler: Any, optimized: tuple[onnx.ModelProto, dict[str, int]]
) -> None:
    """Inputs and outputs as before; standard operators and ONNX Runtime's own, no others."""
    model = optimized[0]
    assert list(model.graph.input) == list(upscaler.model.graph.input)
    assert list(model.graph.output) == list(upscaler.model.graph.output)
    assert {node.domain for node in model.graph.node} == {"", MICROSOFT}
    left = {node.op_type for node in model.graph.node}
    assert not left & {"GroupNormalization", "Sigmoid", "Softmax", "DepthToSpace"}


def test_every_fusion_of_a_free_size_happened(
    upscaler: Any, optimized: tuple[onnx.ModelProto, dict[str, int]]
) -> None:
    """As many as the torch module has layers for, each pass under its name."""
    counts = optimized[1]
    assert counts == expected_fusions(upscaler.network, None)
    assert set(counts) == set(PASSES)
    check_fusions(counts, expected_fusions(upscaler.network, None))


def test_every_fusion_of_a_fixed_size_happened(one_stage: OneStage) -> None:
    """The bundle's entry of a stage states them, and they are the network's."""
    spec = one_stage[0].spec
    expected = expected_fusions(stirred(SELF_BASE.unet), SELF_BASE.resolution)
    assert spec.provenance["fusions"] == expected
    assert (expected["attention"], expected["projections"]) == (2, 6)


BREAKS = {
    "swish": "Sigmoid",
    "conditioning": "Split",
    "group_norm": "GroupNormalization",
    "attention": "Softmax",
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_fusion_that_stops_happening_is_an_error(upscaler: Any, name: str) -> None:
    """One more `Identity` in a pattern, or another operator: the fusion is gone: an error."""
    model = copy.deepcopy(upscaler.model)
    editor = GraphEditor(model)
    # The last one of its kind lies in a block; the first may belong to the conditioning vector.
    broken = list(editor.of_type(BREAKS[name]))[-1]
    if name == "group_norm":
        # Whatever its weights are, a group norm is found; so it has to be written as another one.
        broken.op_type = "InstanceNormalization"
        del broken.attribute[:]
    else:
        copied = editor.add("Identity", [broken.output[0]])
        for reader in editor.users(broken.output[0]):
            if reader.output[0] != copied:
                reader.input[list(reader.input).index(broken.output[0])] = copied
    editor.finish()
    onnx.checker.check_model(model)
    with pytest.raises(ParityError, match=rf"\b{name} \d+ times, not \d+"):
        check_fusions(optimize(model), expected_fusions(upscaler.network, None))


def test_too_many_are_wrong_as_well(
    upscaler: Any, optimized: tuple[onnx.ModelProto, dict[str, int]]
) -> None:
    """A count above the network's is no less a change of the pattern."""
    more = {**optimized[1], "attention": optimized[1]["attention"] + 1}
    with pytest.raises(ParityError, match="attention 3 times, not 2"):
        check_fusions(more, expected_fusions(upscaler.network, None))


def test_a_second_run_finds_nothing(optimized: tuple[onnx.ModelProto, dict[str, int]]) -> None:
    """What is rewritten does not look like the original: only the naming of axes repeats."""
    model = copy.deepcopy(optimized[0])
    again = {name: count for name, count in optimize(model).items() if count}
    assert set(again) <= {"named_convolutions"}


@pytest.mark.parametrize(
    ("preset", "resolution", "norms", "cuts"),
    [(BASE, 64, 31, 0), (SR256, 256, 22, 3), (SR1024, None, 18, 3)],
    ids=["base", "sr256", "sr1024"],
)
def test_expectations_of_the_reference_cascade(
    preset: Any, resolution: int | None, norms: int, cuts: int
) -> None:
    """The stages of the bundle, counted by hand once: norms after cutting, convolutions cut."""
    expected = expected_fusions(EfficientUNet(preset.unet), resolution)
    assert (expected["group_norm"], expected["split_convolutions"]) == (norms, cuts)


def test_an_output_keeps_its_name_when_its_maker_is_replaced() -> None:
    """Whoever makes the graph's output afterwards, the output is called as before."""
    info = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in "xy"]
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"])]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", info[:1], info[1:]))
    editor = GraphEditor(model)
    editor.replace("y", editor.add("Abs", ["x"]))
    editor.finish()
    onnx.checker.check_model(model)
    assert [(n.op_type, list(n.output)) for n in model.graph.node] == [("Abs", ["y"])]
