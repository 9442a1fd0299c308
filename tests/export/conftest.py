"""What the tests of export share: one thread, and the few graphs that take seconds to make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import onnx
import pytest
import torch

from cascade.graph_spec import TensorSpec
from export.bundle_parts import BundleParts, ExportOptions
from export.graphs import export_graph
from export.stage_component import StageSource, add_stage
from export.weights.rounding import Storage, release
from stages.evaluation.sampling import graph_inputs, graph_outputs
from stages.networks.efficient_unet import EfficientUNet
from stages.presets import StagePreset
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


@pytest.fixture(scope="session")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> tuple[BundleParts, list[str]]:
    """`SELF_BASE` from its checkpoint through export, storage and proof; and what was said."""
    folder = tmp_path_factory.mktemp("checkpoints") / "base"
    save_checkpoint(folder, {"ema": stirred(SELF_BASE.unet).state_dict()}, FACTS)
    parts: BundleParts = BundleParts()
    lines: list[str] = []
    source = StageSource(preset=SELF_BASE, checkpoint=folder, data=tiny_dataset())
    options = ExportOptions(storage=Storage.FLOAT16)
    add_stage(parts, source, options, lines.append)
    return parts, lines


@pytest.fixture(scope="session")
def base(one_stage: tuple[BundleParts, list[str]]) -> Exported:
    """The graph of `one_stage` as it lies in a bundle: height and width are fixed."""
    network = release(stirred(SELF_BASE.unet), Storage.FLOAT16)
    model = onnx.load_from_string(one_stage[0].files["base.onnx"])
    return Exported(SELF_BASE, network, model, graph_inputs(SELF_BASE), graph_outputs(SELF_BASE))
