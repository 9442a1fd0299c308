"""A bundle as a model repository of Triton: configurations read strictly, and graphs that run."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf import text_format

from cascade.bundle.bundle import Bundle
from cascade.bundle.triton_repository import RepositoryOptions, write_repository
from cascade.commands.cli import main
from cascade.engines.triton import TritonEngine
from cascade.engines.triton_config import (
    DATATYPES,
    GRAPH_HASH,
    Serving,
    config_of,
    read_config,
)
from cascade.errors import EngineError, InvalidRequest
from cascade.graph_spec import GraphSpec, TensorSpec
from cascade.precision import Precision
from cascade.tuning.dummy_inputs import dummy_inputs, free_axes
from cascade.tuning.options import parse_engine_options
from cascade.types import Array
from cascade.weights.source import graph_data, source_sha256
from tests.support.reserved_port import reserved_address
from tests.support.tiny_bundle import PARITY, write_tiny_bundle
from tests.support.triton_config_schema import parsed_config

TOKENS = 16
ROUNDING = 1e-6
"""Zeros behind a text change the order of a sum at most."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature, the stages in 8 bits too."""
    return write_tiny_bundle(tmp_path_factory.mktemp("triton") / "tiny", int8=True)


@pytest.fixture(scope="module")
def repository(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every component, texts padded to sixteen."""
    folder = tmp_path_factory.mktemp("repository") / "models"
    write_repository(bundle, range(4), RepositoryOptions(tokens=TOKENS), folder)
    return folder


def outputs(graph: bytes, inputs: dict[str, Array]) -> dict[str, Array]:
    """What ONNX Runtime makes of it."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def as_configured(config: object, inputs: dict[str, Array]) -> dict[str, Array]:
    """Inputs as Triton hands them to a backend: padded, and rows of scalars reshaped."""
    found = {}
    for tensor in config.input:  # type: ignore[attr-defined]
        value = inputs[tensor.name]
        if tensor.HasField("reshape"):
            assert list(tensor.dims) == [1]
            found[tensor.name] = value.reshape(len(value), 1).reshape(len(value))
            continue
        sizes = zip(tensor.dims, value.shape[1:], strict=True)
        missing = [(0, want - have if want > 0 else 0) for want, have in sizes]
        found[tensor.name] = np.pad(value, [(0, 0), *missing])
    return found


@pytest.mark.parametrize("position", range(4))
def test_graphs_run_on_the_configured_shapes(
    bundle: Bundle, repository: Path, position: int
) -> None:
    """Each file, on inputs of the shapes in its configuration, gives the bundle's numbers."""
    component = bundle.manifest.components[position]
    graph = component.graphs["net"]
    folder = repository / component.name
    config = parsed_config((folder / "config.pbtxt").read_text())
    assert (config.name, config.backend) == (component.name, "onnxruntime")
    for configured, specs in ((config.input, graph.inputs), (config.output, graph.outputs)):
        kinds = [(t.name, configured_type(t)) for t in configured]
        assert kinds == [(t.name, f"TYPE_{DATATYPES[t.dtype]}") for t in specs]
    inputs = dummy_inputs(component, free_axes(component, batch=2, tokens=8))
    expected = outputs(graph_data(bundle.read_graph(graph, Precision.FP32)), inputs)
    found = outputs((folder / "1" / "model.onnx").read_bytes(), as_configured(config, inputs))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= ROUNDING * np.abs(value).max()
    # What the text encoder makes has as many rows as its text has tokens: it is not padded.
    assert padded_length(config) == (set() if position == 0 else {TOKENS})


def configured_type(tensor: object) -> str:
    """Name of a tensor's type."""
    field = tensor.DESCRIPTOR.fields_by_name["data_type"]  # type: ignore[attr-defined]
    return str(field.enum_type.values_by_number[tensor.data_type].name)  # type: ignore[attr-defined]


def padded_length(config: object) -> set[int]:
    """Fixed lengths of the texts of a model; empty where they are free."""
    texts = ("context", "context_mask", "token_ids", "token_mask")
    return {t.dims[0] for t in config.input if t.name in texts} - {-1}  # type: ignore[attr-defined]


def test_what_is_asked_for_is_configured(bundle: Bundle, tmp_path: Path) -> None:
    """Rows, delay, instances, device, TensorRT, precision; without a length texts are free."""
    options = RepositoryOptions(
        precisions={"base": Precision.INT8},
        max_batch=3,
        serving=Serving(device="gpu", instances=2, queue_delay_us=500, tensorrt="FP16"),
    )
    write_repository(bundle, [1], options, tmp_path / "r")
    config = parsed_config((tmp_path / "r" / "base" / "config.pbtxt").read_text())
    assert config.max_batch_size == 3
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, 1)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert [(p.key, p.value) for p in accelerator.parameters] == [("precision_mode", "FP16")]
    assert padded_length(config) == set()
    source = bundle.read_graph(bundle.manifest.components[1].graphs["net"], Precision.INT8)
    assert {p.key: p.value.string_value for p in config.parameters} == {
        GRAPH_HASH: source_sha256(source)
    }
    assert (tmp_path / "r" / "base" / "1" / "model.onnx").read_bytes() == source


def test_configurations_are_read_strictly(repository: Path) -> None:
    """The schema of this test refuses what Triton refuses: else it would prove nothing."""
    text = (repository / "base" / "config.pbtxt").read_text()
    for good, bad in (("max_batch_size", "max_batch_sice"), ("TYPE_FP32", "TYPE_FP31")):
        with pytest.raises(text_format.ParseError):
            parsed_config(text.replace(good, bad))


def test_weights_beside_a_graph(tmp_path: Path) -> None:
    """They lie in a folder that has the model file's name, as Triton wants several files."""
    beside = pytest.importorskip("tests.support.beside_bundle", reason="the exporter needs onnx")
    write_tiny_bundle(tmp_path / "tiny")
    bundle = beside.move_beside(tmp_path / "tiny")
    write_repository(bundle, [1], RepositoryOptions(), tmp_path / "r")
    folder = tmp_path / "r" / "base" / "1" / "model.onnx"
    assert sorted(p.name for p in folder.iterdir()) == ["base.safetensors", "model.onnx"]
    component = bundle.manifest.components[1]
    inputs = dummy_inputs(component, free_axes(component, batch=1, tokens=8))
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert np.isfinite(session.run(None, inputs)[0]).all()


def test_the_command(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the models that it wrote; a folder that holds something stays as it is."""
    out = tmp_path / "deep" / "models"
    command = ["export-triton", str(bundle.folder), "-o", str(out)]
    assert main([*command, "--component", "sr16", "base", "--max-batch", "2"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()] == ["base", "sr16", "tritonserver"]
    assert sorted(p.name for p in out.iterdir()) == ["base", "sr16"]
    assert [p.name for p in out.parent.iterdir()] == ["models"]
    assert main(command) == 2
    assert "holds something" in capsys.readouterr().err


def test_its_flags_are_in_the_configuration(bundle: Bundle, tmp_path: Path) -> None:
    """Each one's value, and TensorRT on a card unless told otherwise."""
    command = ["export-triton", str(bundle.folder), "--component", "base", "-o"]
    flags = "--instances 2 --queue-delay-us 9 --tokens 8 --precision int8 --device cpu"
    assert main([*command, str(tmp_path / "a"), *flags.split()]) == 0
    assert main([*command, str(tmp_path / "b"), "--backend", "onnxruntime-tensorrt"]) == 0
    one, two = (
        parsed_config((tmp_path / name / "base" / "config.pbtxt").read_text()) for name in "ab"
    )
    assert [(g.count, g.kind) for g in one.instance_group] == [(2, 2)]
    assert one.dynamic_batching.max_queue_delay_microseconds == 9
    assert padded_length(one) == {8}
    assert [(g.count, g.kind) for g in two.instance_group] == [(1, 1)]
    assert two.optimization.execution_accelerators.gpu_execution_accelerator[0].name == "tensorrt"
    files = [(tmp_path / name / "base" / "1" / "model.onnx").read_bytes() for name in "ab"]
    assert files[0] != files[1]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_batch": 0}, "max-batch"),
        ({"tokens": 15}, "tokens"),
        ({"serving": Serving(instances=65)}, "instances"),
        ({"serving": Serving(queue_delay_us=-1)}, "queue-delay-us"),
    ],
)
def test_numbers_out_of_range(options: dict[str, object], field: str) -> None:
    """Each is refused by its name."""
    with pytest.raises(InvalidRequest) as refused:
        RepositoryOptions(**options)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_graph_without_a_batch_axis() -> None:
    """Triton joins requests along it."""
    fixed = TensorSpec(name="x", dtype="float32", shape=(1, 3))
    graph = GraphSpec(
        file="x.onnx", inputs=(fixed,), outputs=(fixed,), storage="float32", parity=PARITY
    )
    with pytest.raises(EngineError, match="x: expected a free batch axis"):
        config_of("x", graph, max_batch=1, tokens=0, sha256="")


def test_an_engine_elsewhere_is_an_address() -> None:
    """Its port has a default; the address comes back as it was said, for a process started anew."""
    options = parse_engine_options("base=triton:gpu.example,sr16=triton:[::1]:9,sr32=ort", "auto")
    assert options.address_for("base") == "gpu.example:8000"
    assert options.address_for("sr16") == "[::1]:9"
    assert options.address_for("sr32") == ""
    assert parse_engine_options("triton:a:1", "auto").address_for("base") == "a:1"
    for wrong in ("triton", "triton:", "base=triton", "triton:a:b"):
        with pytest.raises(InvalidRequest, match="triton:HOST"):
            parse_engine_options(wrong, "auto")


def test_nobody_at_the_address(bundle: Bundle) -> None:
    """A typed error that says what to do."""
    graph = bundle.read_graph(bundle.manifest.components[1].graphs["net"], Precision.FP32)
    with reserved_address() as address, pytest.raises(EngineError, match="does not answer"):
        TritonEngine(graph, address=("127.0.0.1", int(address.rpartition(":")[2])), model="base")


def test_an_answer_that_is_no_configuration() -> None:
    """Another server's JSON: what came is said, and what was expected."""
    for answer in ({}, [], {"name": "a", "input": [{}], "output": [], "max_batch_size": 1}):
        with pytest.raises(EngineError, match="is this a Triton server"):
            read_config(answer)
