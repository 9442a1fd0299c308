"""ONNX Runtime's GPU providers: what they are told, how they are refused, and runs on a card."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cascade.engines.factory import EngineChoice, EngineKind, installed_kinds, open_engine
from cascade.engines.ort import OrtEngine, Provider, refuse_fallback
from cascade.engines.ort_gpu import gpu_provider
from cascade.errors import EngineError
from cascade.precision import Precision
from tests.support.tiny_bundle import WIDTH, stage_graph

KINDS = (EngineKind.ORT_CUDA, EngineKind.ORT_TENSORRT)


def test_float32_is_true_float32() -> None:
    """CUDA would round to TF32, TensorRT to whatever it was told."""
    cuda = gpu_provider(EngineKind.ORT_CUDA, Precision.FP32, None)
    assert cuda.options["use_tf32"] == "0"
    tensorrt = gpu_provider(EngineKind.ORT_TENSORRT, Precision.FP32, None)
    assert {v for k, v in tensorrt.options.items() if k.endswith("_enable")} == {"0"}


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8])
def test_tensorrt_is_told_one_precision(precision: Precision, tmp_path: Path) -> None:
    """Exactly its own flag, and where engines are kept."""
    options = gpu_provider(EngineKind.ORT_TENSORRT, precision, tmp_path).options
    flags = {name: options[f"trt_{name}_enable"] for name in ("fp16", "bf16", "int8")}
    assert flags == {name: str(int(name == precision)) for name in flags}
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_without_the_provider_says_what_to_install(kind: EngineKind) -> None:
    """A typed error with the remedy, not a silent run on the CPU."""
    if kind in installed_kinds():
        pytest.skip(f"this build of ONNX Runtime has {kind}: nothing to refuse")
    graph = stage_graph(1, upscales=False, slow_layers=0)[0]
    with pytest.raises(EngineError, match=r"no .*ExecutionProvider: pip install") as refused:
        open_engine(graph, EngineChoice(kind, Precision.FP32))
    assert refused.value.field == "engine"


def test_a_silent_fallback_is_an_error() -> None:
    """What ONNX Runtime does where the library is there and the card is not."""
    provider = Provider("CUDAExecutionProvider", remedy="get a card")
    refuse_fallback(["CUDAExecutionProvider", "CPUExecutionProvider"], provider)
    for active in (["CPUExecutionProvider"], []):
        with pytest.raises(EngineError, match=r"could not start CUDAExecutionProvider.*get a card"):
            refuse_fallback(active, provider)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_card_answers_as_the_processor_does(kind: EngineKind, tmp_path: Path) -> None:
    """Float32 to rounding, for one and for two rows."""
    if kind not in installed_kinds() or shutil.which("nvidia-smi") is None:
        pytest.skip(f"{kind} needs onnxruntime-gpu and an NVIDIA card: IT WAS NOT TESTED")
    graph = stage_graph(1, upscales=False, slow_layers=1)[0]
    engine = open_engine(graph, EngineChoice(kind, Precision.FP32), cache=tmp_path)
    for batch in (1, 2):
        inputs = {
            "x_t": np.full((batch, 3, 16, 16), 0.5, np.float32),
            "t": np.full(batch, 0.5, np.float32),
            "context": np.ones((batch, 4, WIDTH), np.float32),
            "context_mask": np.ones((batch, 4), np.float32),
        }
        expected = OrtEngine(graph, threads=1).run(inputs)["prediction"]
        np.testing.assert_allclose(engine.run(inputs)["prediction"], expected, atol=1e-4)
