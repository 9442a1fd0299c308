"""The engines by name, what each needs installed, and what it can make of a float32 graph.

Data only: loads no engine.
"""

from collections.abc import Mapping
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from cascade.precision import Precision


class EngineKind(StrEnum):
    """An inference runtime, and where it runs."""

    ORT = "ort"
    OPENVINO = "openvino"
    ORT_CUDA = "ort-cuda"
    ORT_TENSORRT = "ort-tensorrt"
    TENSORRT = "tensorrt"
    TRITON = "triton"


OWN_PRECISIONS: Mapping[EngineKind, frozenset[Precision]] = {
    EngineKind.ORT: frozenset({Precision.FP32}),
    EngineKind.ORT_CUDA: frozenset({Precision.FP32}),
    EngineKind.ORT_TENSORRT: frozenset({Precision.FP32, Precision.FP16, Precision.BF16}),
    EngineKind.OPENVINO: frozenset({Precision.FP32, Precision.FP16, Precision.BF16}),
    EngineKind.TENSORRT: frozenset({Precision.FP32}),
    EngineKind.TRITON: frozenset({Precision.FP32}),
}
"""What each engine makes of a float32 graph; every other precision needs a file of its own."""

BLOCK_KINDS: Mapping[Precision, frozenset[EngineKind]] = {
    Precision.INT8_BLOCK: frozenset({EngineKind.ORT}),
    Precision.INT4_BLOCK: frozenset({EngineKind.ORT, EngineKind.OPENVINO}),
}
"""Engines that read files of weights in blocks. OpenVINO multiplies 8-bit blocks by floats, ONNX
Runtime by 8-bit activations: they would make different pictures of one precision."""

PROCESSOR_HALVES: Mapping[EngineKind, Mapping[Precision, frozenset[str]]] = {
    EngineKind.OPENVINO: {
        Precision.BF16: frozenset({"avx512_bf16", "amx_bf16"}),
        Precision.FP16: frozenset({"avx512_fp16", "amx_fp16"}),
    },
}
"""Half precisions that an engine computes in on a CPU, and the flags of processors, one of which it
needs: without any it refuses, or would compute in float32 and not say so. Bfloat16 on an ARM is
left out: no run of ours has seen it there."""

ENGINE_WORDS = tuple(
    "triton:HOST[:PORT]" if kind is EngineKind.TRITON else kind.value for kind in EngineKind
)
"""How each is asked for."""

GPU_GRAPH_KINDS = frozenset({EngineKind.TENSORRT})
"""Engines that take a graph in the form that the bundle keeps for compilers of GPUs."""

CODE: Mapping[EngineKind, str] = {
    EngineKind.ORT: "cascade.engines.ort",
    EngineKind.OPENVINO: "cascade.engines.openvino",
    EngineKind.ORT_CUDA: "cascade.engines.ort_gpu",
    EngineKind.ORT_TENSORRT: "cascade.engines.ort_gpu",
    EngineKind.TENSORRT: "cascade.engines.trt",
    EngineKind.TRITON: "cascade.engines.triton",
}
"""Our module of each, which imports the runtime."""

MODULES: Mapping[EngineKind, tuple[str, ...]] = {
    EngineKind.ORT: ("onnxruntime",),
    EngineKind.OPENVINO: ("openvino",),
    EngineKind.ORT_CUDA: ("onnxruntime",),
    EngineKind.ORT_TENSORRT: ("onnxruntime",),
    # Not TensorRT itself: that also builds where nothing can run.
    EngineKind.TENSORRT: ("pycuda",),
    # A server elsewhere, spoken to with the standard library.
    EngineKind.TRITON: (),
}
"""The package without which an engine cannot run."""

PROVIDER_LIBRARIES = {
    EngineKind.ORT_CUDA: "capi/*onnxruntime_providers_cuda*",
    EngineKind.ORT_TENSORRT: "capi/*onnxruntime_providers_tensorrt*",
}
"""Part of the package in builds of ONNX Runtime that know GPUs."""


def reads_files(kind: EngineKind, precision: Precision) -> bool:
    """Whether an engine reads files of a precision, where a bundle has one."""
    return precision not in BLOCK_KINDS or kind in BLOCK_KINDS[precision]


def installed_kinds() -> tuple[EngineKind, ...]:
    """The engines whose packages are installed, in the order of `EngineKind`; loads none.

    Not Triton: it is an address, and only asked for by name.
    """
    return tuple(k for k in EngineKind if k is not EngineKind.TRITON and is_installed(k))


def is_installed(kind: EngineKind) -> bool:
    """Whether an engine's packages are here, not whether the machine has what they need."""
    specs = [find_spec(module) for module in MODULES[kind]]
    library = PROVIDER_LIBRARIES.get(kind)
    if None in specs or library is None:
        return None not in specs
    folders = [
        Path(path) for spec in specs if spec for path in spec.submodule_search_locations or ()
    ]
    return any(next(folder.glob(library), None) is not None for folder in folders)
