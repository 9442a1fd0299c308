"""The weights of a bundle's stages of pixels by groups as checkpoints again.

Convolutions and tables bear their names in the graph. Matrices lie there turned and nameless, in
front of a bias that has its name; a table whose rows are all read is there as the rows. What was
read is proven bit for bit: the network answers as the bundle's own graphs do. Knows graphs and
networks; not training.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from cascade.bundle.bundle import Bundle
from cascade.engines.ort import OrtEngine
from cascade.errors import InvalidRequest, ParityError
from cascade.families import family_of
from cascade.pixels.family import pixel_specs
from cascade.pixels.spec import HEADS, PASS, PixelSpec
from cascade.types import Array
from export.weights.graph_constants import Constants
from export.weights.training_metadata import METADATA_NAMES
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.exact import BIAS_UNIT, HALF_STEP, ExactLayer, frozen
from stages.networks.subscale_network import AnyPixelNetwork
from stages.pixel_presets import PixelPreset
from stages.training.checkpoint import save_checkpoint

ROWS, TOKENS = 2, 5
TABLE_AXES = 2
HEADS_IN_ORDER = ("match", "hidden", "deeper", "high", "low", "copy")
"""Linear layers of a head in the order of its forward pass; some heads lack the first or the last.
"""


def released_pixels(bundle: Bundle, preset: PixelPreset) -> AnyPixelNetwork:
    """The network whose graphs a bundle holds, as it is trained.

    Raises:
        InvalidRequest: the bundle has no such stage, or that is another network than the preset's.
        ParityError: what was read does not answer as the bundle's graphs do.
    """
    spec = spec_of(bundle, preset)
    network = preset.network()
    for role, part in ((PASS, network.body), (HEADS, network.heads)):
        model = onnx.load_from_string(bundle.read(spec.graphs[role].file))
        try:
            part.load_state_dict(read_state(model, part))
        except (KeyError, RuntimeError, ValueError) as exc:
            raise InvalidRequest(
                f"{preset.name}: the bundle's network is not the one of this version: {exc}",
                field="bundle",
            ) from exc
    exact = frozen(network)
    for role, part in ((PASS, exact.body), (HEADS, exact.heads)):
        prove_same(part, bundle.read(spec.graphs[role].file), spec, role)
    return network


def spec_of(bundle: Bundle, preset: PixelPreset) -> PixelSpec:
    """The stage's entry.

    Raises:
        InvalidRequest: the bundle has no such stage.
    """
    for spec in pixel_specs(bundle.manifest.components):
        if spec.name == preset.name:
            return spec
    raise InvalidRequest(
        f"stages: this bundle has no stage {preset.name} of pixels by groups", field="stages"
    )


def read_state(model: onnx.ModelProto, network: nn.Module) -> dict[str, Tensor]:
    """The parameters of a body or of heads as they are trained, from its graph.

    Raises:
        KeyError, ValueError: one of them is not there, or of another shape.
    """
    constants = Constants(model)
    state: dict[str, Tensor] = {}
    for name, wanted in network.state_dict().items():
        value = number_of(model, constants, name, network)
        layer = network.get_submodule(name.rpartition(".")[0])
        if name.endswith("bias") and isinstance(layer, ExactLayer):
            # As it is used: a whole number and half a step.
            value = (value - np.float32(HALF_STEP)) / np.float32(BIAS_UNIT)
        if value.shape != tuple(wanted.shape):
            raise ValueError(f"{name} is {list(value.shape)}, not {list(wanted.shape)}")
        state[name] = torch.tensor(value, dtype=torch.float32)
    return state


def number_of(model: onnx.ModelProto, constants: Constants, name: str, network: nn.Module) -> Array:
    """One parameter of a network as the graph has it, of any shape, float32.

    Raises:
        KeyError: it is not there.
    """
    for read in (
        lambda: stored_table(constants, name),
        lambda: matrix_before(model, constants, name.removesuffix("weight") + "bias"),
        lambda: constants.bias_beside(name.removesuffix("bias") + "weight"),
        lambda: in_order(model, constants, name, network),
    ):
        try:
            return np.asarray(read(), np.float32)
        except KeyError:
            continue
    return all_rows(constants, model, name, tuple(network.state_dict()[name].shape))


def stored_table(constants: Constants, name: str) -> Array:
    """A parameter under its own name; rows that are widened after they were looked up have two.

    Raises:
        KeyError: there is none.
    """
    try:
        return constants.value(name)
    except KeyError:
        # The scale of every row may itself be stored in eight bits.
        return constants.value(f"{name}_i8") * stored_table(constants, f"{name}_scale")


def in_order(model: onnx.ModelProto, constants: Constants, name: str, network: nn.Module) -> Array:
    """A head's matrix `[out, in]` or bias `[out]` by the place of its layer.

    Of two layers with equal biases the exporter keeps one bias, under one of their names.

    Raises:
        KeyError: these are not the layers of a head, or others than the graph's.
    """
    layers = [layer for layer in HEADS_IN_ORDER if hasattr(network, layer)]
    layers = [layer for layer in layers if getattr(network, layer) is not None]
    layer, _, kind = name.rpartition(".")
    products = list(biased_products(model, constants))
    if layer not in layers or len(products) != len(layers):
        raise KeyError(name)
    matrix, bias = products[layers.index(layer)]
    return matrix.T if kind == "weight" else bias


def biased_products(model: onnx.ModelProto, constants: Constants) -> Iterator[tuple[Array, Array]]:
    """Constant matrices `[in, out]` with the biases `[out]` added to their products, in order."""
    stored = set(constants.names)
    for node in model.graph.node:
        added = [name for name in node.input if name in stored] if node.op_type == "Add" else []
        for product in model.graph.node if added else ():
            if product.op_type == "MatMul" and product.output[0] in node.input:
                yield constants.value(product.input[1]), constants.value(added[0])


def matrix_before(model: onnx.ModelProto, constants: Constants, bias: str) -> Array:
    """The matrix, `[out, in]`, of the product that a named bias is added to.

    Raises:
        KeyError: there is none.
    """
    makers = {out: node for node in model.graph.node for out in node.output}
    for node in model.graph.node:
        if node.op_type == "Add" and bias in node.input:
            (other,) = (name for name in node.input if name != bias)
            if other in makers and makers[other].op_type == "MatMul":
                return constants.value(makers[other].input[1]).T
    raise KeyError(bias)


def all_rows(
    constants: Constants, model: onnx.ModelProto, name: str, shape: tuple[int, ...]
) -> Array:
    """A table all of whose rows the graph adds as one map `[1, width, h, w]`: `[h * w, width]`.

    Raises:
        KeyError: there is none.
    """
    if len(shape) != TABLE_AXES:
        raise KeyError(name)
    rows, width = shape
    for node in model.graph.node:
        for given in node.input:
            try:
                value = constants.value(given)
            except KeyError:
                continue
            if value.shape[:2] == (1, width) and value.shape[2:] and value[0, 0].size == rows:
                return np.ascontiguousarray(value.reshape(width, rows).T) / np.float32(BIAS_UNIT)
    raise KeyError(name)


def prove_same(network: nn.Module, graph: bytes, spec: PixelSpec, role: str) -> None:
    """Compare a frozen body or heads with the bundle's graph, bit for bit.

    Raises:
        ParityError: a value differs.
    """
    family = family_of(spec)
    axes = family.dummy_run.axes(spec, batch=ROWS, tokens=TOKENS)
    inputs: Mapping[str, Any] = family.dummy_run.inputs(spec, role, axes)
    names = [output.name for output in spec.graphs[role].outputs]
    wanted, engine = TorchEngine(network, *names).run(inputs), OrtEngine(graph)
    found = engine.run(inputs)
    engine.close()
    # Bytes: a zero of the other sign is another answer.
    differing = [name for name in names if found[name].tobytes() != wanted[name].tobytes()]
    if differing:
        raise ParityError(
            f"{spec.name}.{role}: the weights read are not those of the graph: "
            f"{', '.join(differing)} differs"
        )


def write_pixel_checkpoint(bundle: Bundle, preset: PixelPreset, folder: Path) -> None:
    """A stage's released weights as a checkpoint for `cascade train --start` and `cascade export`.

    Args:
        bundle: an opened bundle.
        preset: of the stage.
        folder: of the checkpoint, beside those of other stages; must not exist.

    Raises:
        InvalidRequest: the folder exists, or the bundle has another network.
    """
    if folder.exists():
        raise InvalidRequest(f"{folder} exists: name another --checkpoints", field="checkpoints")
    network = released_pixels(bundle, preset)
    training = spec_of(bundle, preset).provenance.get("training", {})
    facts = {
        "stage": preset.name,
        "released_in": bundle.bundle_id,
        **{name: training[e] for e, name in METADATA_NAMES.items() if e in training},
    }
    save_checkpoint(folder, {"ema": network.state_dict()}, facts)
