"""ONNX Runtime's CUDA and TensorRT providers: their options for one graph.

Values only: `ort` starts the provider, and says so when this build or machine has none.
"""

from pathlib import Path

from cascade.engines.engine_cache import open_cache
from cascade.engines.kinds import EngineKind
from cascade.engines.ort import Provider
from cascade.precision import Precision

REMEDY = (
    "pip install 'edge-cascade[gpu]' on a machine with an NVIDIA driver, in place of [cpu], or "
    "choose --engine ort"
)


def gpu_provider(kind: EngineKind, precision: Precision, cache: Path | None) -> Provider:
    """The provider of a kind.

    Args:
        kind: ORT_CUDA or ORT_TENSORRT.
        precision: what the graph's heavy layers compute in; float32 means true float32.
        cache: a private folder for TensorRT's engines and timings; None keeps nothing.
    """
    if kind is EngineKind.ORT_CUDA:
        return Provider(
            "CUDAExecutionProvider",
            {
                # TF32 keeps ten bits of the mantissa: not what fp32 promises.
                "use_tf32": "0",
                # Searching all algorithms costs seconds per shape and makes runs differ.
                "cudnn_conv_algo_search": "HEURISTIC",
            },
            REMEDY,
        )
    options = {
        "trt_fp16_enable": flag(on=precision is Precision.FP16),
        "trt_bf16_enable": flag(on=precision is Precision.BF16),
        "trt_int8_enable": flag(on=precision is Precision.INT8),
    }
    if open_cache(cache) is not None:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache),
        }
    return Provider("TensorrtExecutionProvider", options, REMEDY)


def flag(*, on: bool) -> str:
    """A switch in ONNX Runtime's words."""
    return "1" if on else "0"
