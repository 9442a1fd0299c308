"""`cascade build-engines`: true engines of a small bundle, built here without a card."""

import json
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.commands.exit_codes import BAD_INPUT
from cascade.engines.cuda_driver import find_device
from cascade.engines.engine_cache import LENGTH_BYTES, MAGIC
from cascade.errors import MissingExtra
from cascade.precision import Precision
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        find_spec("tensorrt_rtx_bindings") is None,
        reason="tensorrt_rtx IS MISSING: no engine was built. pip install --no-deps "
        "tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings",
    ),
]
CAPABILITY = "8.6"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("engines") / "tiny")


@pytest.fixture(scope="module")
def command(bundle: Bundle) -> list[str]:
    """`build-engines` of that bundle into a cache that these tests share."""
    cache = bundle.folder.parent / "cache"
    return ["build-engines", str(bundle.folder), "--cache", str(cache), "--size", "64"]


def reports(command: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What a run that succeeds says."""
    assert main([*command, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def engine_in(path: Path) -> bytes:
    """The engine of a file of the cache, without the facts in front: their length varies."""
    data, start = path.read_bytes(), len(MAGIC) + LENGTH_BYTES
    return data[start + int.from_bytes(data[len(MAGIC) : start], "little") :]


def error_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a run that fails."""
    assert main(command) == BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_every_component_becomes_an_engine_once(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Built, then read; the report says what the library read of each graph."""
    command = [*command, "--cache", str(tmp_path / "cache")]
    first = reports(command, capsys)
    assert [r["component"] for r in first] == ["text_encoder", "base", "sr16", "sr32"]
    for report in first:
        assert report["built"]
        assert report["why"] == "not built yet"
        assert report["size_bytes"] == len(engine_in(Path(report["file"])))
        assert report["build_s"] > 0
        assert report["library"].startswith("tensorrt_rtx ")
    assert first[1]["layers"]["CONVOLUTION"] == 1
    assert first[1]["formats"]["FLOAT"] >= 1
    again = reports(command, capsys)
    assert not any(r["built"] for r in again)
    assert [r["layers"] for r in again] == [r["layers"] for r in first]


def test_the_table_says_the_same(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line per engine, then its layers."""
    command = [*command, "--cache", str(tmp_path / "cache")]
    assert main([*command, "--component", "base", "--compute-capability", CAPABILITY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["component", "norms", "attention", "layers", "seconds", "MB"]
    assert lines[1].startswith("base           fp32      0/0       0/0")
    assert lines[1].endswith("built: not built yet")
    assert any(line.startswith("    network  ") and "convolution 1" in line for line in lines)
    assert f"for {CAPABILITY}" in lines[3]


@pytest.mark.parametrize(
    "change",
    [["--max-batch", "4"], ["--size", "96"], ["--max-tokens", "8"], ["--workspace-mib", "512"],
     ["--compute-capability", "8.9"], ["--compute-capability", "8.6", "8.9"]],
)  # fmt: skip
def test_every_option_is_another_engine(
    command: list[str], capsys: pytest.CaptureFixture[str], change: list[str]
) -> None:
    """A changed batch, size, number of tokens, memory or card never finds the old engine."""
    usual = [*command, "--component", "base"]
    old = reports(usual, capsys)[0]
    new = reports([*usual, *change], capsys)[0]
    assert new["built"]
    assert new["file"] != old["file"]
    assert not reports(usual, capsys)[0]["built"]


def test_a_changed_graph_is_another_engine(
    command: list[str], bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key holds the bytes that are parsed: two stages of one shape never share."""
    files = {r["file"] for r in reports([*command, "--component", "sr16", "sr32"], capsys)}
    assert len(files) == 2


def test_a_damaged_engine_is_built_again(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The report says why, and the new file is whole: the next run reads it."""
    usual = [*command, "--component", "base"]
    path = Path(reports(usual, capsys)[0]["file"])
    damaged = path.read_bytes()[:-1]
    path.write_bytes(damaged)
    again = reports(usual, capsys)[0]
    assert (again["built"], again["why"]) == (True, "the engine is truncated or altered")
    # Its length may differ: the facts in front name the seconds of the build.
    assert path.read_bytes() != damaged
    assert not reports(usual, capsys)[0]["built"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--component", "nonsense"], "component: the bundle has no 'nonsense', it has"),
        (["--precision", "fp16"], "precision: text_encoder.onnx has no form that computes in fp16"),
        (["--precision", "int8"], "choose one of fp32"),
        (["--compute-capability", "8"], "compute-capability: '8' is not like 8.6"),
        (["--compute-capability", "9.9"], "does not know 9.9"),
        (["--compute-capability", "7.0"], "precision: fp32 needs compute capability 7.5 or later"),
        (["--max-batch", "0"], "max-batch: 0 is not in 1 to 256"),
        (["--size", "1000"], "size: 1000 is not a multiple of 32"),
    ],
)
def test_wrong_options_fail_with_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    """Naming the option and what would be right."""
    assert words in error_line([*command, *options], capsys)


def test_an_open_cache_is_refused(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is built."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    assert "can be written by others" in error_line(
        ["build-engines", str(bundle.folder), "--cache", str(folder)], capsys
    )


def one_node(kind: str, domain: str = "", **attributes: Any) -> bytes:
    """A graph of one operator on 64 channels."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 64, 8, 8])]
    scale = numpy_helper.from_array(np.ones(64, np.float32), "s")
    names = ["x", "s", "s"] if "Norm" in kind else ["x"]
    node = helper.make_node(kind, names, ["y"], domain=domain, **attributes)
    graph = helper.make_graph([node], "one", inputs, outputs, [scale])
    domains = [helper.make_opsetid("", 21)]
    if domain:
        domains.append(helper.make_opsetid(domain, 1))
    proto = helper.make_model(graph, opset_imports=domains)
    proto.ir_version = 10
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("kind", ["QuickGelu", "GroupNorm"])
def test_operators_of_onnx_runtime_are_refused(kind: str) -> None:
    """What the CPU's passes emit is no graph for TensorRT: why there is a form for GPUs."""
    from cascade.engines.trt_build import parse
    from cascade.errors import EngineError

    with pytest.raises(EngineError, match="need a form for GPUs in the bundle"):
        parse(one_node(kind, "com.microsoft"))


def test_a_block_that_fell_apart_is_an_error() -> None:
    """The check of counts fails when a network has fewer norms than its graph."""
    from cascade.engines.trt_build import parse, require_whole
    from cascade.errors import EngineError

    graph = one_node("GroupNormalization", num_groups=8)
    parsed = parse(graph)
    assert parsed.layers["NORMALIZATION"] == 1
    require_whole(graph, parsed)
    with pytest.raises(EngineError, match="the graph has"):
        require_whole(graph, replace(parsed, layers={**parsed.layers, "NORMALIZATION": 0}))


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8])
def test_a_graph_of_another_precision_is_refused(precision: Precision) -> None:
    """A float32 graph never quietly becomes an engine that is called half."""
    from cascade.engines.trt_build import build_engine
    from cascade.engines.trt_options import BuildOptions
    from cascade.errors import EngineError

    with pytest.raises(EngineError, match=f"no layer of the graph computes in {precision}"):
        build_engine(one_node("Relu"), BuildOptions(precision=precision))


@pytest.mark.skipif(find_device() is not None, reason="there is a card here")
def test_a_finished_engine_is_not_inspected_without_a_card() -> None:
    """None, which the report says in words, and no guess."""
    from cascade.engines.trt_build import inspect_engine

    assert inspect_engine(b"") is None


@pytest.mark.skipif(find_spec("pycuda") is not None, reason="pycuda is here")
def test_running_without_pycuda_says_what_to_install() -> None:
    """The engine's module is the one that needs it."""
    with pytest.raises(MissingExtra, match=r"pip install 'edge-cascade\[gpu\]'"):
        import_module("cascade.engines.trt")


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        ("Runtime", ["deserialize_cuda_engine"]),
        ("ICudaEngine", ["num_io_tensors", "get_tensor_name", "get_tensor_mode",
                         "get_tensor_shape", "get_tensor_dtype", "get_tensor_profile_shape",
                         "create_execution_context", "create_engine_inspector"]),
        ("IExecutionContext", ["set_input_shape", "get_tensor_shape", "set_tensor_address",
                               "execute_async_v3"]),
        ("EngineInspector", ["get_engine_information"]),
    ],
)  # fmt: skip
def test_what_running_calls_exists(owner: str, names: list[str]) -> None:
    """The calls that no card could try here are at least calls of the installed library."""
    from cascade.engines.trt_library import trt

    assert not [name for name in names if not hasattr(getattr(trt, owner), name)]
