"""The torch side of the race between engines: the network, its ways to run, its plain export.

The only benchmark module that imports torch. Knows one stage at a time.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.lib.race_entries import Run, Subject, TorchWay
from export.graphs import export_graph
from export.weights.rounding import Storage, release
from stages.evaluation.sampling import graph_inputs, graph_outputs
from stages.networks.efficient_unet import EfficientUNet
from stages.reference import PRESETS, StagePreset, as_released
from stages.training.trained_network import load_network

GEMM_SIZES = (512, 1024, 2048)
"""Square matrices whose product is timed for the machine's best rate."""


def preset_of_subject(subject: Subject) -> StagePreset:
    """The stage's preset; a student of guidance is told from its inputs."""
    preset = PRESETS[subject.stage]
    if "guidance" not in subject.inputs:
        return preset
    return replace(preset, unet=preset.unet.with_guidance())


def stage_network(subject: Subject) -> EfficientUNet:
    """The checkpoint's network as it was released, or one of random weights."""
    preset = preset_of_subject(subject)
    if subject.checkpoint is not None:
        network = load_network(as_released(preset), subject.checkpoint)
        return release(network, Storage(subject.storage))
    torch.manual_seed(0)
    network = EfficientUNet(preset.unet)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():  # a fresh network is silent: nothing would be computed with
                parameter.normal_(0, 0.02)
    return network.eval().requires_grad_(requires_grad=False)


def tensors_of(subject: Subject, *, channels_last: bool = False) -> dict[str, torch.Tensor]:
    """The inputs as torch has them."""
    tensors = {name: torch.from_numpy(value.copy()) for name, value in subject.inputs.items()}
    if not channels_last:
        return tensors
    return {
        name: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t
        for name, t in tensors.items()
    }


def open_torch(way: TorchWay, subject: Subject) -> Run:
    """The torch module in one of its ways."""
    if subject.threads:
        torch.set_num_threads(subject.threads)
    network: Any = stage_network(subject)
    if way.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if way.compiled is not None:
        network = torch.compile(network, dynamic=False, options=dict(way.compiled))
    inputs = tensors_of(subject, channels_last=way.channels_last)

    def run() -> Any:
        precision = torch.autocast("cpu", torch.bfloat16) if way.bf16 else nullcontext()
        with torch.no_grad(), precision:
            return network(**inputs).float().numpy()

    return run


def export_plain(subject: Subject, folder: Path) -> Path:
    """The network as `torch.onnx.export` writes it; takes minutes."""
    preset = preset_of_subject(subject)
    path = folder / f"{subject.stage}.onnx"
    model = export_graph(stage_network(subject), graph_inputs(preset), graph_outputs(preset))
    onnx.save(model, path)
    return path


def gigaflop(subject: Subject) -> float:
    """Floating-point operations of one evaluation, in billions; a multiply-add counts as two."""
    network, inputs = stage_network(subject), tensors_of(subject)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(**inputs)
    return float(counter.get_total_flops()) / 1e9


def best_gemm_rate(threads: int) -> float:
    """The machine's best float32 matrix product, GFLOP/s, of numpy's and torch's libraries."""
    if threads:
        torch.set_num_threads(threads)
    best = 0.0
    for size in GEMM_SIZES:
        matrix = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
        tensor = torch.from_numpy(matrix)
        for product in (partial(np.matmul, matrix, matrix), partial(torch.mm, tensor, tensor)):
            seconds = min(timed(product) for _ in range(8))
            best = max(best, 2 * size**3 / seconds / 1e9)
    return best


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
