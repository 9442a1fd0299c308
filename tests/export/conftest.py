"""What the tests of export share: one thread, and the few graphs that take seconds to make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from cascade.diffusion.spec import DiffusionSpec
from cascade.graph_spec import TensorSpec
from cascade.precision import Precision
from cascade.request import Handoff
from export.adapters.reference_cascade import describe_stage
from export.components.component import (
    ExportedComponent,
    ExportJob,
    ExportOptions,
    StageJob,
)
from export.components.diffusion import export_stage
from export.description import StageDescription, TextEncoderDescription
from export.graphs import export_graph
from export.weights.rounding import Storage, release
from stages.evaluation.sampling import graph_inputs, graph_outputs
from stages.networks.efficient_unet import EfficientUNet
from stages.reference import StagePreset, as_released
from stages.training.checkpoint import save_checkpoint
from tests.export.foreign_networks.one_registry import keep_registry
from tests.support.tiny_training import FACTS, SELF_BASE, TINY_SR, stirred, tiny_dataset, tiny_unet


@dataclass(frozen=True, slots=True)
class Exported:
    """A network and its graph."""

    preset: StagePreset
    network: EfficientUNet
    model: onnx.ModelProto
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]


def exported(preset: StagePreset) -> Exported:
    """A stirred network of that preset, exported."""
    network = stirred(preset.unet)
    inputs, outputs = graph_inputs(preset), graph_outputs(preset)
    return Exported(preset, network, export_graph(network, inputs, outputs), inputs, outputs)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Sums in one order, and no contention."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """Exports of one process share torch's table of operators: it takes half a second to read."""
    with pytest.MonkeyPatch.context() as patch:
        keep_registry(patch)
        yield


@pytest.fixture(scope="session")
def upscaler() -> Exported:
    """Super-resolution with cross-attention: height and width are free. Tests copy the model."""
    return exported(replace(TINY_SR, unet=tiny_unet(attention="cross", upscales=True, levels=1)))


OneStage = tuple[ExportedComponent[DiffusionSpec], list[str]]
"""A stage as it goes into a bundle, and what was said while it was made."""

EVERYTHING = ExportOptions(
    precisions=frozenset({Precision.FP32, Precision.INT8}),
    gpu_forms=frozenset({Precision.FP16}),
    web_forms=True,
)
"""What `cascade export` writes of the reference cascade, forms for browsers too."""


def export_preset(
    preset: StagePreset,
    checkpoint: Path,
    options: ExportOptions = EVERYTHING,
    *,
    storage: Storage = Storage.FLOAT16,
) -> OneStage:
    """A stage of the reference cascade's kind from its checkpoint, on the tiny data."""
    lines: list[str] = []
    described = describe_stage(preset, checkpoint, tiny_dataset(), storage)
    return export_described(described, options, lines, width=preset.unet.context_width), lines


def export_described(
    stage: StageDescription, options: ExportOptions, lines: list[str], *, width: int
) -> ExportedComponent[DiffusionSpec]:
    """A described stage beside a text encoder that is not exported: embeddings are noise."""
    encoder = TextEncoderDescription(
        network=torch.nn.Identity(),
        tokenizer=b"",
        max_tokens=8,
        context_width=width,
        provenance="none",
    )
    job = ExportJob(
        encoder=encoder,
        prompts=("a", "b"),
        options=options,
        requires_gpu_forms=True,
        report=lines.append,
    )

    def start(text: object) -> Handoff:
        rng = np.random.default_rng(ord(str(text)))
        return Handoff(context=rng.standard_normal((4, width)).astype(np.float16))

    return export_stage(StageJob(job, start, 1), stage)


@pytest.fixture(scope="session")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> OneStage:
    """`SELF_BASE` from its checkpoint through export, storage and proof; and what was said."""
    folder = tmp_path_factory.mktemp("checkpoints") / "base"
    save_checkpoint(folder, {"ema": stirred(SELF_BASE.unet).state_dict()}, FACTS)
    return export_preset(SELF_BASE, folder)


@pytest.fixture(scope="session")
def base(one_stage: OneStage) -> Exported:
    """The graph of `one_stage` as it lies in a bundle: height and width are fixed."""
    network = release(stirred(SELF_BASE.unet), Storage.FLOAT16)
    # The same weights; a release stretches its estimates.
    network.config = as_released(SELF_BASE).unet
    model = onnx.load_from_string(one_stage[0].files["base.onnx"])
    return Exported(SELF_BASE, network, model, graph_inputs(SELF_BASE), graph_outputs(SELF_BASE))


def pytest_itemcollected(item: pytest.Item) -> None:
    """All of these need torch."""
    item.add_marker("torch")
