"""The weights of a bundle's stages as checkpoints again: for going on where a release ended.

Read from the form of the graph that keeps its blocks whole: there most weights still bear their
names in the network, and matrices stand in the order in which the network asks for them. What was
read is proven before it is handed out: it lies on the grid of the bundle's storage, number for
number, and the network answers as the bundle's own graph does. Knows graphs and networks; not
training.
"""

import copy
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from onnx import NodeProto
from torch import Tensor

from cascade.bundle.bundle import Bundle
from cascade.bundle.gpu_graph import gpu_graph
from cascade.diffusion.family import diffusion_specs
from cascade.diffusion.spec import DiffusionSpec
from cascade.engines.ort import OrtEngine
from cascade.errors import InvalidRequest, ParityError
from cascade.precision import Precision
from cascade.tuning.dummy_inputs import dummy_inputs, free_axes
from cascade.types import Array
from cascade.weights.source import GraphSource, whole_graph
from export.parity import compare_engines
from export.weights.graph_constants import Constants
from export.weights.rounding import Storage, release
from export.weights.training_metadata import METADATA_NAMES, STRETCH
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.efficient_unet import EfficientUNet, UNetConfig
from stages.reference import StagePreset
from stages.training.checkpoint import save_checkpoint

TOKENS = 5
MARGIN, LEAST_TOLERANCE = 10.0, 1e-4
"""The network may be so many times as far from the graph as at its export, on other inputs and
another processor; float32 in another order of summation is not closer than the second."""


def released_network(bundle: Bundle, preset: StagePreset) -> EfficientUNet:
    """The network whose graph a bundle holds.

    Args:
        bundle: with forms of its graphs for GPUs.
        preset: of the stage.

    Raises:
        InvalidRequest: the bundle has no such stage, or that is another network than the preset's.
        ParityError: what was read does not answer as the bundle's graph does.
    """
    position = bundle.manifest.position(preset.name)
    spec = diffusion_specs(bundle.manifest.components)[position - 1]
    config = preset.unet.with_guidance() if spec.guidance.taught else preset.unet
    network = EfficientUNet(stretched(config, spec))
    form = onnx.load_from_string(whole_graph(gpu_graph(bundle, spec.graph, Precision.FP16)))
    try:
        network.load_state_dict(read_state(form, config, network.state_dict()))
    except (KeyError, RuntimeError, ValueError) as exc:
        raise InvalidRequest(
            f"{preset.name}: the bundle's network is not the one of this version: {exc}",
            field="bundle",
        ) from exc
    check_grid(network, spec)
    prove(network, bundle.read_graph(spec.graph, Precision.FP32), spec)
    return network.eval()


def stretched(config: UNetConfig, spec: DiffusionSpec) -> UNetConfig:
    """The configuration with the stretch that a stage was released with."""
    training = spec.provenance.get("training", {})
    return replace(config, stretch=float(training.get(STRETCH, 1.0)))


def read_state(
    model: onnx.ModelProto, config: UNetConfig, wanted: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The parameters that a network wants, from a graph.

    Raises:
        KeyError, ValueError: one of them is not there, or of another shape.
    """
    constants = Constants(model)
    state: dict[str, Tensor] = {}
    for name in wanted:
        try:
            state[name] = torch.tensor(constants.value(name), dtype=torch.float32)
        except KeyError:
            continue  # a matrix: the exporter turned it and took its name away
    nameless = [name for name in matrix_names(config) if name not in state]
    for name, matrix in zip(nameless, matrices(model, constants), strict=True):
        state[name] = torch.tensor(matrix.T.copy(), dtype=torch.float32)
    for name, tensor in wanted.items():
        if name not in state:
            # Of two equal biases the exporter keeps one: ask the layer that reads it.
            bias = constants.bias_beside(name.removesuffix("bias") + "weight")
            state[name] = torch.tensor(bias, dtype=torch.float32)
        if state[name].shape != tensor.shape:
            raise ValueError(f"{name} is {list(state[name].shape)}, not {list(tensor.shape)}")
    return state


def matrices(model: onnx.ModelProto, constants: Constants) -> list[Array]:
    """Constant right-hand sides of matrix products, in the order of the graph."""
    found = []
    for node in model.graph.node:
        if node.op_type == "MatMul":
            matrix = constant_or_none(node, constants)
            if matrix is not None:
                found.append(matrix)
    return found


def constant_or_none(node: NodeProto, constants: Constants) -> Array | None:
    """A product's second factor; None where it depends on an input."""
    try:
        return constants.value(node.input[1])
    except KeyError:
        return None


def matrix_names(config: UNetConfig) -> list[str]:
    """Matrices applied to tokens, in the order in which `EfficientUNet.forward` meets them."""
    names = ["text_in.weight"]
    levels = range(len(config.blocks))
    for side, level in [("down", i) for i in levels] + [("up", i) for i in reversed(levels)]:
        kind = config.blocks[level].attention
        if kind != "none":
            layers = ("text_kv", *(["image_kv"] if kind == "self" else []), "query", "out")
            names += [f"{side}.{level}.attention.{layer}.weight" for layer in layers]
    return names


def check_grid(network: EfficientUNet, spec: DiffusionSpec) -> None:
    """Releasing the network again must move nothing: its weights are those that were released.

    Outputs cannot tell: rounding to half precision changes them by less than other inputs do.

    Raises:
        ParityError: a weight is off the grid of the bundle's storage.
    """
    again = release(copy.deepcopy(network), Storage(spec.graph.storage))
    wanted = dict(network.named_parameters())
    moved = [name for name, p in again.named_parameters() if not torch.equal(p, wanted[name])]
    if moved:
        raise ParityError(
            f"{spec.name}: {moved[0]} and {len(moved) - 1} others are not on the grid of "
            f"{spec.graph.storage}: they are not the weights that were released"
        )


def prove(network: EfficientUNet, graph: GraphSource, spec: DiffusionSpec) -> None:
    """Compare with the bundle's own graph.

    Raises:
        ParityError: they differ by more than `MARGIN` times what the manifest records.
    """
    tolerance = max(MARGIN * spec.graph.parity.max_abs_error, LEAST_TOLERANCE)
    inputs = dummy_inputs(spec, free_axes(spec, batch=1, tokens=TOKENS))
    (output,) = (tensor.name for tensor in spec.graph.outputs)
    engine = OrtEngine(graph)
    try:
        original = TorchEngine(network, output)
        compare_engines(original, engine, [inputs], output, tolerance_abs=tolerance)
    except ParityError as exc:
        raise ParityError(
            f"{spec.name}: the weights read are not those of the graph: {exc}"
        ) from exc
    finally:
        engine.close()


def write_checkpoint(bundle: Bundle, preset: StagePreset, folder: Path) -> None:
    """A stage's released weights as a checkpoint for `cascade train --start` and `cascade export`.

    It says of the training what the manifest says, so that exporting it again makes the same entry.

    Args:
        bundle: an opened bundle.
        preset: of the stage.
        folder: of the checkpoint, beside those of other stages; must not exist.

    Raises:
        InvalidRequest: the folder exists.
    """
    if folder.exists():
        raise InvalidRequest(f"{folder} exists: name another --checkpoints", field="checkpoints")
    spec = diffusion_specs(bundle.manifest.components)[bundle.manifest.position(preset.name) - 1]
    training = spec.provenance.get("training", {})
    facts = {
        "stage": preset.name,
        "released_in": bundle.bundle_id,
        "guided": float(bool(spec.guidance.taught)),
        **{name: training[e] for e, name in METADATA_NAMES.items() if e in training},
        **({"teacher": training["teacher"]} if "teacher" in training else {}),
    }
    network = released_network(bundle, preset)
    save_checkpoint(folder, {"ema": network.state_dict()}, facts)
