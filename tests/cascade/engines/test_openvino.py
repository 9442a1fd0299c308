"""OpenVINO behind the engine contract: the same answers, our errors, an end from outside."""

import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cascade.engine import Engine
from cascade.engines.ort import OrtEngine
from cascade.errors import Cancelled, EngineError
from cascade.precision import Precision
from cascade.system.processor import Processor, this_processor
from cascade.types import Array
from tests.support.tiny_bundle import WIDTH, eight_bit, stage_graph, text_encoder_graph

if importlib.util.find_spec("openvino") is None:
    pytest.skip("OpenVINO is not installed: its engine is not tested", allow_module_level=True)

from cascade.engines.openvino import OpenVinoEngine, hint_of
from cascade.engines.openvino_library import ov
from cascade.engines.openvino_shapes import normalise_in_place, pin


def stage_inputs(*, upscales: bool, batch: int = 1, size: int = 16) -> dict[str, Array]:
    """Inputs of a stage's graph."""
    rng = np.random.default_rng(batch)
    inputs: dict[str, Array] = {
        "x_t": rng.standard_normal((batch, 3, size, size)).astype(np.float32),
        "t": np.linspace(0.1, 0.9, batch, dtype=np.float32),
        "context": rng.standard_normal((batch, 5, WIDTH)).astype(np.float32),
        "context_mask": np.ones((batch, 5), np.float32),
    }
    if upscales:
        inputs["low_res"] = rng.random((batch, 3, size, size), np.float32)
        inputs["aug_level"] = np.full(batch, 0.1, np.float32)
    return inputs


def open_private(graph: bytes, folder: Path) -> OpenVinoEngine:
    """An engine with a cache."""
    return OpenVinoEngine(graph, threads=1, cache=folder)


@pytest.fixture(scope="module")
def upscaler() -> OpenVinoEngine:
    """A super-resolution stage's graph in float32, shared by the tests that only run it."""
    return OpenVinoEngine(stage_graph(2, upscales=True, slow_layers=0)[0], threads=1)


def test_it_is_an_engine(upscaler: OpenVinoEngine) -> None:
    """The contract is kept."""
    assert isinstance(upscaler, Engine)


@pytest.mark.parametrize("upscales", [False, True])
def test_answers_are_those_of_onnx_runtime(*, upscales: bool) -> None:
    """Float32 to rounding, for several batches and sizes in turn; the first answer stays itself."""
    graph = stage_graph(2, upscales=upscales, slow_layers=1)[0]
    ours, theirs = OpenVinoEngine(graph, threads=1), OrtEngine(graph, threads=1)
    kept, copies = [], []
    for batch, size in ((1, 16), (2, 16), (1, 24), (1, 16)):
        inputs = stage_inputs(upscales=upscales, batch=batch, size=size)
        found = ours.run(inputs)["prediction"]
        np.testing.assert_allclose(found, theirs.run(inputs)["prediction"], atol=2e-5)
        assert found.dtype == np.float32
        kept.append(found)
        copies.append(found.copy())
    assert all(np.array_equal(a, b) for a, b in zip(kept, copies, strict=True))


USUAL = {
    "x_t": (1, 3, 16, 16),
    "t": (1,),
    "context": (1, None, WIDTH),
    "context_mask": (1, None),
    "low_res": (1, 3, 16, 16),
    "aug_level": (1,),
}
"""Of `stage_inputs(upscales=True)`, whatever the text."""


def test_usual_shapes_are_compiled_once_and_others_on_demand(tmp_path: Path) -> None:
    """The same answers in both; texts of all lengths share the usual one."""
    graph = stage_graph(2, upscales=True, slow_layers=1)[0]
    engine = OpenVinoEngine(graph, threads=1, cache=tmp_path / "c", default_shapes=USUAL)
    theirs = OrtEngine(graph, threads=1)
    for batch, size, tokens, forms in (
        (1, 16, 5, 1),
        (1, 16, 3, 1),
        (2, 16, 5, 2),
        (1, 24, 5, 2),
        (1, 16, 5, 2),
    ):
        inputs = stage_inputs(upscales=True, batch=batch, size=size)
        for name in ("context", "context_mask"):
            inputs[name] = inputs[name][:, :tokens]
        found = engine.run(inputs)["prediction"]
        np.testing.assert_allclose(found, theirs.run(inputs)["prediction"], atol=2e-5)
        assert len(list((tmp_path / "c").glob("*.engine"))) == forms


@pytest.mark.parametrize("shape", [(1, 3, 15, 16), (1, 3)], ids=["impossible", "rank"])
def test_shapes_that_a_graph_cannot_have_are_not_used(shape: tuple[int, ...]) -> None:
    """They are there to save time: without them the engine runs as before."""
    graph = stage_graph(2, upscales=True, slow_layers=0)[0]
    engine = OpenVinoEngine(graph, threads=1, default_shapes={**USUAL, "x_t": shape})
    inputs = stage_inputs(upscales=True)
    expected = OrtEngine(graph, threads=1).run(inputs)["prediction"]
    np.testing.assert_allclose(engine.run(inputs)["prediction"], expected, atol=2e-5)


def norm_graph(groups: int) -> bytes:
    """A group norm as `export.passes.group_norm` writes it: mean and variance of each group."""
    shape = ["batch", 8, 6, 6]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", "y")]
    weights = {
        "cut": np.array([0, groups, -1]),
        "ones": np.ones(groups, np.float32),
        "zeros": np.zeros(groups, np.float32),
        "whole": np.array([-1, 8, 6, 6]),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "cut"], ["rows"]),
        helper.make_node("InstanceNormalization", ["rows", "ones", "zeros"], ["n"], epsilon=1e-5),
        helper.make_node("Reshape", ["n", "whole"], ["y"]),
    ]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "norm", values[:1], values[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_norms_of_a_pinned_graph_are_the_same_function(groups: int) -> None:
    """Means of a thousand deviations do not hurt it: the mean goes first."""
    graph = norm_graph(groups)
    model = ov.Core().read_model(graph)
    assert normalise_in_place(model) == 0
    pin(model, {"x": (1, 8, 6, 6)})
    assert normalise_in_place(model) == 1
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(model, "CPU", hints)
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((1, 8, 6, 6)) + 1000).astype(np.float32)
    found = compiled({"x": x})["y"]
    rows = x.astype(np.float64).reshape(groups, -1)
    expected = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found.reshape(groups, -1), expected, atol=1e-3)


def test_an_eight_bit_graph_runs_in_eight_bits() -> None:
    """As ONNX Runtime computes it, and visibly not as float32 does."""
    graph = stage_graph(2, upscales=True, slow_layers=0)[0]
    inputs = stage_inputs(upscales=True)
    exact = OrtEngine(graph, threads=1).run(inputs)["prediction"]
    expected = OrtEngine(eight_bit(graph), threads=1).run(inputs)["prediction"]
    engine = OpenVinoEngine(eight_bit(graph), threads=1, precision=Precision.INT8)
    found = engine.run(inputs)["prediction"]
    # With matrix tiles what is not in 8 bits is in bfloat16: 8 bits of mantissa, values to 2.
    tiles = this_processor().has_bf16_tiles
    np.testing.assert_allclose(found, expected, atol=4e-2 if tiles else 2e-3)
    nearer = np.abs(found - exact).mean() / np.abs(found - expected).mean()
    assert nearer > (2 if tiles else 10)


def test_weights_stored_in_eight_bits_are_multiplied_in_float32() -> None:
    """The reference text encoder, whose matrices lie in 8 bits, as ONNX Runtime has it."""
    graph = (Path(__file__).parents[3] / "bundles/emoji-1/text_encoder.onnx").read_bytes()
    inputs = {
        "token_ids": np.array([[101, 1037, 2417, 6207, 102]], np.int64),
        "token_mask": np.ones((1, 5), np.float32),
    }
    expected = OrtEngine(graph, threads=1).run(inputs)["context"]
    found = OpenVinoEngine(graph, threads=1).run(inputs)["context"]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_integers_go_in() -> None:
    """The text encoder's graph: token numbers in, masked rows out."""
    engine = OpenVinoEngine(text_encoder_graph()[0], threads=1)
    ids, mask = np.array([[1, 4]], np.int64), np.array([[1, 0]], np.float32)
    context = engine.run({"token_ids": ids, "token_mask": mask})["context"]
    assert context[0, 0].all()
    assert not context[0, 1].any()


@pytest.mark.parametrize("graph", [b"", b"garbage", bytes(1000)])
def test_bytes_that_are_no_graph_are_an_engine_error(graph: bytes) -> None:
    """Whatever cannot be read is an EngineError."""
    with pytest.raises(EngineError):
        OpenVinoEngine(graph, threads=1)


def test_an_operator_that_it_does_not_know_is_an_engine_error() -> None:
    """A graph that is one, but not for OpenVINO."""
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    node = helper.make_node("Nonsense", ["x"], ["y"], domain="nobody")
    model = helper.make_model(
        helper.make_graph([node], "g", [info], [out]),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("nobody", 1)],
    )
    with pytest.raises(EngineError, match="cannot load the graph"):
        OpenVinoEngine(model.SerializeToString(), threads=1)


@pytest.mark.parametrize(
    "change",
    [
        {"t": None},
        {"extra": np.zeros(1, np.float32)},
        {"t": np.zeros(1, np.float64)},
        {"x_t": np.zeros((1, 3, 16), np.float32)},
    ],
    ids=["missing", "unknown", "dtype", "rank"],
)
def test_wrong_inputs_are_an_engine_error(
    upscaler: OpenVinoEngine, change: dict[str, Array | None]
) -> None:
    """OpenVINO would convert or make up some of these; here they fail, and the next run works."""
    good = stage_inputs(upscales=True)
    inputs = {k: v for k, v in {**good, **change}.items() if v is not None}
    with pytest.raises(EngineError):
        upscaler.run(inputs)
    assert upscaler.run(good)["prediction"].shape == (1, 3, 16, 16)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16, Precision.FP8])
def test_a_precision_is_done_or_refused(precision: Precision) -> None:
    """Never silently another one: where the processor lacks it, the error says so."""
    import openvino

    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    graph = stage_graph(1, upscales=False, slow_layers=0)[0]
    if precision.upper() in able:
        engine = OpenVinoEngine(graph, threads=1, precision=precision)
        found = engine.run(stage_inputs(upscales=False))["prediction"]
        expected = OrtEngine(graph, threads=1).run(stage_inputs(upscales=False))["prediction"]
        np.testing.assert_allclose(found, expected, atol=0.1)
    else:
        with pytest.raises(EngineError, match="precision: ") as refused:
            OpenVinoEngine(graph, threads=1, precision=precision)
        assert refused.value.field == "precision"


@pytest.mark.parametrize(
    ("flags", "hint"), [(("avx512_vnni",), "f32"), (("amx_bf16", "avx512_vnni"), "bf16")]
)
def test_tiles_compute_what_eight_bits_leave(flags: tuple[str, ...], hint: str) -> None:
    """Only where bfloat16 is fast is the float part of an 8-bit graph bfloat16; float32 stays."""
    processor = Processor(model="any", flags=flags, cores=2)
    assert hint_of(Precision.INT8, processor) == hint
    assert hint_of(Precision.FP32, processor) == "f32"


def test_terminate_ends_a_run_at_its_step() -> None:
    """The run that was going is Cancelled; the ones after it, of any shape, are right."""
    engine = OpenVinoEngine(stage_graph(2, upscales=True, slow_layers=30)[0], threads=1)
    large, small = stage_inputs(upscales=True, size=64), stage_inputs(upscales=True)
    expected = [engine.run(inputs)["prediction"] for inputs in (small, large)]
    outcomes: list[str] = []

    def work() -> None:
        try:
            while True:
                engine.run(large)
        except Cancelled:
            outcomes.append("cancelled")

    for _ in range(3):
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        until = time.monotonic() + 60
        # The run may not have begun yet: a call that finds nothing to end is harmless.
        while worker.is_alive() and time.monotonic() < until:
            worker.join(0.02)
            engine.terminate()
        for inputs, answer in zip((small, large), expected, strict=True):
            assert np.array_equal(engine.run(inputs)["prediction"], answer)
    assert outcomes == ["cancelled"] * 3


def test_closing_twice_is_harmless_and_a_closed_engine_says_so() -> None:
    """As with every engine."""
    engine = OpenVinoEngine(text_encoder_graph()[0], threads=1)
    engine.terminate()
    engine.close()
    engine.close()
    engine.terminate()
    with pytest.raises(EngineError, match="closed"):
        engine.run({})


def test_the_cache_is_used_and_a_broken_entry_is_rebuilt(tmp_path: Path) -> None:
    """The second opening finds the first one's work; whatever is wrong with it, it is redone."""
    folder = tmp_path / "cache"
    graph = stage_graph(1, upscales=False, slow_layers=0)[0]
    inputs = stage_inputs(upscales=False)
    expected = open_private(graph, folder).run(inputs)["prediction"]
    (entry,) = folder.glob("*.engine")
    written = entry.stat().st_mtime_ns
    assert np.array_equal(open_private(graph, folder).run(inputs)["prediction"], expected)
    assert entry.stat().st_mtime_ns == written
    whole = entry.read_bytes()
    for broken in (b"", whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"x" + whole[1:]):
        entry.write_bytes(broken)
        assert np.array_equal(open_private(graph, folder).run(inputs)["prediction"], expected)
        rebuilt = entry.read_bytes()
        assert len(rebuilt) > len(whole) / 2
        assert np.array_equal(open_private(graph, folder).run(inputs)["prediction"], expected)
        assert entry.read_bytes() == rebuilt
    open_private(stage_graph(2, upscales=False, slow_layers=0)[0], folder)
    assert len(list(folder.glob("*.engine"))) == 2


def test_a_whole_entry_that_does_not_load_is_rebuilt(tmp_path: Path) -> None:
    """The checksum is right and OpenVINO refuses the content all the same."""
    from cascade.engines import engine_cache

    folder = tmp_path / "cache"
    graph = stage_graph(1, upscales=False, slow_layers=0)[0]
    keys: list[Any] = []

    class Noting(engine_cache.EngineCache):
        def get_or_build(self, key: Any, build: Any) -> Any:
            keys.append(key)
            return super().get_or_build(key, build)

    original, engine_cache.EngineCache = engine_cache.EngineCache, Noting  # type: ignore[misc]
    try:
        expected = open_private(graph, folder).run(stage_inputs(upscales=False))["prediction"]
    finally:
        engine_cache.EngineCache = original  # type: ignore[misc]
    engine_cache.EngineCache(folder).write(keys[0], engine_cache.Made(b"not a blob", {}))
    found = open_private(graph, folder).run(stage_inputs(upscales=False))["prediction"]
    assert np.array_equal(found, expected)
    (entry,) = folder.glob("*.engine")
    assert b"not a blob" not in entry.read_bytes()


def test_a_folder_open_to_others_is_not_used(tmp_path: Path) -> None:
    """Nothing is read from where others could have written; the engine works without."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    graph = stage_graph(1, upscales=False, slow_layers=0)[0]
    open_private(graph, folder).run(stage_inputs(upscales=False))
    assert list(folder.iterdir()) == []


def crashing_graph(batch: int | str) -> bytes:
    """`GroupNormalization(x) * (m + 1)`: with fixed shapes it ends OpenVINO 2026.4's process."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 64, *size])
        for name, size in (("x", (8, 8)), ("m", (1, 1)), ("y", (8, 8)))
    ]
    nodes = [
        helper.make_node("GroupNormalization", ["x", "s", "b"], ["g"], num_groups=8),
        helper.make_node("Add", ["m", "one"], ["m1"]),
        helper.make_node("Mul", ["g", "m1"], ["y"]),
    ]
    weights = {"s": np.ones(64, np.float32), "b": np.zeros(64, np.float32), "one": np.float32(1)}
    graph = helper.make_graph(
        nodes,
        "crash",
        values[:2],
        values[2:],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize("usual", ["None", "{'x': (1, 64, 8, 8), 'm': (1, 64, 1, 1)}"])
@pytest.mark.parametrize("batch", [1, "batch"])
def test_the_graph_that_crashed_openvino_runs(tmp_path: Path, batch: int | str, usual: str) -> None:
    """In a process of its own, for a crash would end this one."""
    path = tmp_path / "graph.onnx"
    path.write_bytes(crashing_graph(batch))
    code = (
        "import sys, numpy as np\n"
        "from cascade.engines.openvino import OpenVinoEngine, hint_of\n"
        f"e = OpenVinoEngine(open(sys.argv[1], 'rb').read(), threads=1, default_shapes={usual})\n"
        "x = np.ones((1, 64, 8, 8), np.float32)\n"
        "print(e.run({'x': x, 'm': x[:, :, :1, :1]})['y'].shape)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.split("\n")[0] == "(1, 64, 8, 8)"


@pytest.mark.parametrize("module", ["openvino", "ort"])
def test_no_engine_reports_to_its_makers(tmp_path: Path, module: str) -> None:
    """Each would leave an id of this machine in the home folder when it sends its first report."""
    home = tmp_path / "home"
    home.mkdir()
    dropped = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI")
    environment = {k: v for k, v in os.environ.items() if k not in dropped}
    code = (
        f"import sys, cascade.engines.{module}\n"
        "assert 'openvino_telemetry.main' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-B", "-c", code], check=True, env={**environment, "HOME": str(home)}
    )
    assert [str(p) for p in home.rglob("*") if p.is_file()] == []
