"""Torch networks to ONNX bytes: inputs and outputs by name, free axes free, everything per sample.

Knows networks and the exporter of torch; not storage, parity or manifests.
"""

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from cascade.graph_spec import TensorSpec
from export.exact_constants import constants_kept
from export.free_axes import STRIDE
from export.untraceable import untraceable
from export.weights.own_weights import own_weights

OPSET = 21
"""The oldest operator set in which GroupNormalization has the meaning that torch gives it."""

EXAMPLE_AXES = {"batch": 2, "tokens": 7, "height": 64, "width": 96}
"""Sizes of the free axes while tracing; all different, none 1, so that none is taken for fixed."""

DTYPES = {"float32": torch.float32, "int64": torch.int64}


def example_inputs(inputs: Sequence[TensorSpec]) -> tuple[Tensor, ...]:
    """Made-up inputs of the listed shapes."""
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for spec in inputs:
        shape = [EXAMPLE_AXES[n] if isinstance(n, str) else n for n in spec.shape]
        values = torch.rand(shape, generator=generator)
        tensors.append((values * (1 if spec.dtype == "float32" else 100)).to(DTYPES[spec.dtype]))
    return tuple(tensors)


def export_graph(
    network: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> onnx.ModelProto:
    """One network as an ONNX model whose inputs and outputs are exactly the listed ones.

    Args:
        network: in evaluation mode; takes the inputs by name.
        inputs: names, dtypes and shapes; a named axis stays free.
        outputs: names and shapes, for the names.

    Raises:
        UnsupportedModel: see `trace`.
    """
    program = trace(network, inputs, outputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        program.save(str(path), external_data=False)
        model = onnx.load(path)
    clean(model, inputs, outputs)
    return model


def trace(
    network: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    folds: bool = True,
) -> torch.onnx.ONNXProgram:
    """One network as torch's exporter gives it.

    Args:
        network: see `export_graph`.
        inputs: see `export_graph`.
        outputs: see `export_graph`.
        folds: whether constants are computed ahead; without it every weight is the network's own,
            and none a copy.

    Raises:
        UnsupportedModel: torch cannot export it; the error names the module.
    """
    sizes = {n for spec in inputs for n in spec.shape if isinstance(n, str)}
    # Height and width in multiples: a U-Net halves them, and torch would guard each halving
    # otherwise.
    dims = {
        name: STRIDE * torch.export.Dim(f"{name}_{STRIDE}", min=1, max=128)
        if name in ("height", "width")
        else torch.export.Dim(name, min=1, max=512)
        for name in sizes
    }
    shapes = {
        spec.name: {axis: dims[n] for axis, n in enumerate(spec.shape) if isinstance(n, str)}
        for spec in inputs
    }
    # Sizes of the examples are all different and none is 1: torch takes equal or single axes for
    # the same or fixed.
    examples = zip(inputs, example_inputs(inputs), strict=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), constants_kept():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        try:
            program = torch.onnx.export(
                network,
                kwargs={spec.name: tensor for spec, tensor in examples},
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.name for spec in inputs],
                output_names=[spec.name for spec in outputs],
                dynamic_shapes=shapes,
                verbose=False,
                optimize=folds,
            )
        except Exception as failed:
            raise untraceable(network, failed) from failed
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return program


def clean(
    model: onnx.ModelProto, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    """Name the listed axes, and drop what the exporter wrote for its own use, in place."""
    name_axes(model, inputs, outputs)
    for node in model.graph.node:
        # Traces of the exporter's own source lines: they weigh more than some weights.
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    # torch's names of inner shapes; `axis_names` declares its own, and only what is proven.
    del model.graph.value_info[:]
    own_weights(model)


def name_axes(
    model: onnx.ModelProto, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    """Write the listed axis names into the graph's signature."""
    for infos, specs in ((model.graph.input, inputs), (model.graph.output, outputs)):
        for info, spec in zip(infos, specs, strict=True):
            if info.name != spec.name:
                raise RuntimeError(f"expected {spec.name}, the exporter named it {info.name}")
            for dim, size in zip(info.type.tensor_type.shape.dim, spec.shape, strict=True):
                dim.Clear()
                if isinstance(size, str):
                    dim.dim_param = size
                else:
                    dim.dim_value = size
