"""The network of a bundle's text encoder, read back from its graph.

Tables and biases bear their names in the form that keeps its blocks whole; matrices lie there
turned and nameless, in the order in which the network asks for them. What was read is proven: the
network answers as the bundle's own graph does. Knows graphs and the two encoders of this software.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from cascade.bundle.bundle import Bundle
from cascade.bundle.gpu_graph import gpu_graph
from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError, UnsupportedModel
from cascade.precision import Precision
from cascade.text.spec import TextEncoderSpec
from cascade.types import Array
from cascade.weights.source import whole_graph
from export.parity import compare_engines
from export.weights.graph_constants import Constants
from export.weights.released_weights import LEAST_TOLERANCE, MARGIN, matrices
from export.weights.released_words import table_of
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.text_encoder import TextEncoder, TextEncoderConfig
from stages.networks.word_table import WordTable

MATRICES = ("query", "key", "value", "attention_out", "inner", "outer")
"""Of one layer, in the order of its forward pass."""
TOKENS = 5


def released_encoder(bundle: Bundle, spec: TextEncoderSpec) -> nn.Module:
    """The text encoder whose graph a bundle holds, in evaluation mode.

    Raises:
        UnsupportedModel: it is neither a word table nor the encoder of this version.
        ParityError: what was read does not answer as the bundle's graph does.
    """
    rows = table_of(bundle)
    if rows is not None:
        network: nn.Module = WordTable(torch.tensor(rows))
    else:
        network = TextEncoder(TextEncoderConfig())
        try:
            form = onnx.load_from_string(whole_graph(encoder_form(bundle, spec)))
            network.load_state_dict(read_encoder(form, network.state_dict()))
        except (KeyError, RuntimeError, ValueError) as exc:
            raise UnsupportedModel(
                f"{spec.name}: the bundle's network is not the one of this version: {exc}",
                field=spec.name,
            ) from exc
    prove_encoder(network, bundle, spec)
    return network.eval().requires_grad_(requires_grad=False)


def encoder_form(bundle: Bundle, spec: TextEncoderSpec) -> bytes:
    """The graph's file that keeps blocks whole where there is one, else its own."""
    if any(form.precision is Precision.FP16 for form in spec.graph.gpu_forms):
        return whole_graph(gpu_graph(bundle, spec.graph, Precision.FP16))
    return whole_graph(bundle.read_graph(spec.graph, Precision.FP32))


def read_encoder(model: onnx.ModelProto, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of a `TextEncoder` from a graph.

    Raises:
        KeyError, ValueError: one of them is not there, or of another shape.
    """
    constants = Constants(model)
    state: dict[str, Tensor] = {}
    for name in wanted:
        try:
            state[name] = torch.tensor(constants.value(name), dtype=torch.float32)
        except KeyError:
            continue
    layers = sorted({int(name.split(".")[1]) for name in wanted if name.startswith("layers.")})
    nameless = [f"layers.{layer}.{part}.weight" for layer in layers for part in MATRICES]
    for name, matrix in zip(nameless, matrices(model, constants), strict=True):
        state[name] = torch.tensor(matrix.T.copy(), dtype=torch.float32)
    kinds = wanted["kinds.weight"].clone().zero_()
    # Of the two kinds a prompt has the first; the exporter keeps that row alone.
    kinds[0] = torch.tensor(first_row(model, constants, kinds.shape[1:]))
    state["kinds.weight"] = kinds
    return state


def first_row(model: onnx.ModelProto, constants: Constants, shape: Sequence[int]) -> Array:
    """The first constant of a shape that is added to something.

    Raises:
        KeyError: there is none.
    """
    stored = set(constants.names)
    for node in model.graph.node:
        for name in node.input if node.op_type == "Add" else ():
            if name in stored and constants.value(name).shape == tuple(shape):
                return constants.value(name)
    raise KeyError("kinds.weight")


def prove_encoder(network: nn.Module, bundle: Bundle, spec: TextEncoderSpec) -> None:
    """Compare with the bundle's own graph.

    Raises:
        ParityError: they differ by more than `MARGIN` times what the manifest records.
    """
    (output,) = (tensor.name for tensor in spec.graph.outputs)
    tolerance = max(MARGIN * spec.graph.parity.max_abs_error, LEAST_TOLERANCE)
    case: dict[str, Array] = {
        "token_ids": np.arange(TOKENS, dtype=np.int64)[None],
        "token_mask": np.ones((1, TOKENS), np.float32),
    }
    engine = OrtEngine(bundle.read_graph(spec.graph, Precision.FP32))
    try:
        original = TorchEngine(network, output)
        compare_engines(original, engine, [case], output, tolerance_abs=tolerance)
    except ParityError as exc:
        raise ParityError(
            f"{spec.name}: the weights read are not those of the graph: {exc}", field=spec.name
        ) from exc
    finally:
        engine.close()
