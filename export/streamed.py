"""A network larger than protobuf holds to a graph and a file of weights, one tensor at a time.

The graph never holds a large weight: it is written from the network to the file as it is, in half
precision where that is exact, turned over where the graph would turn it. Afterwards the network
computes with the file's checked copy too, so that proving it takes no second one. Knows torch's
exporter and ONNX graphs; not which networks they are.
"""

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import NodeProto, TensorProto, helper
from torch import Tensor, nn

from cascade.graph_spec import FileEntry, TensorSpec
from cascade.precision import Precision
from cascade.types import Array
from cascade.weights.buffer import WeightBuffer
from cascade.weights.header import StoredTensor
from cascade.weights.source import ExternalGraph
from export.blocks.streamed_blocks import BlockDraft, draft_blocks
from export.fresh_names import FreshNames
from export.graphs import clean, trace
from export.weights.beside import LEAST_BYTES, refer
from export.weights.weights_file import NewTensor, write_weights


@dataclass(frozen=True, slots=True)
class StreamedGraph:
    """A graph whose weights were written beside it.

    Attributes:
        source: the graph, its weights in the file.
        entry: of the file, for the manifest.
        path: of the file.
        sizes: bytes of weights by format.
        nodes: of the graph.
        blocks: graphs over the same file with their matrices in blocks, by precision, and how many
            products each has.
    """

    source: ExternalGraph
    entry: FileEntry
    path: Path
    sizes: Mapping[str, int]
    nodes: int
    blocks: Mapping[Precision, tuple[ExternalGraph, int]]


@dataclass(slots=True)
class Outer:
    """A weight on its way into the file.

    Attributes:
        value: the network's own tensor.
        turned: whether the graph wants its transpose.
        half: whether it is stored in half precision.
    """

    value: Tensor
    turned: bool = False
    half: bool = False

    @property
    def array(self) -> Array:
        """The value as it is stored, of the network's shape or its transpose, float32 or 16."""
        value = self.value.detach()
        value = value.t() if self.turned else value
        return value.half().numpy() if self.half else value.numpy()


def export_streamed(
    network: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    path: Path,
    precisions: Collection[Precision] = (),
) -> StreamedGraph:
    """Export a network with its weights beside the graph.

    Args:
        network: in evaluation mode; its parameters are over the file's copy afterwards.
        inputs: see `export_graph`.
        outputs: see `export_graph`.
        path: of the file of weights.
        precisions: those in blocks for which a graph is written too; the others are passed over.
    """
    program = trace(network, inputs, outputs, folds=False)
    outer = take_out(program.model)
    model = ir.to_proto(program.model)
    del program
    clean(model, inputs, outputs)
    weights = weights_by_name(model, outer)
    # The only other reference to the network's own memory, which is freed piece by piece below.
    del outer
    fold_turns(model, weights)
    drafts = block_drafts(model, weights, precisions)
    tensors = [stored(name, weight) for name, weight in weights.items()]
    tensors += [tensor for draft in drafts.values() for tensor in draft.tensors]
    entry, layout = write_weights(path, tensors)
    buffer = WeightBuffer(path, entry)
    source = referring(model, layout.tensors, buffer)
    blocks = {
        precision: (referring(draft.model, layout.tensors, buffer), draft.products)
        for precision, draft in drafts.items()
    }
    sizes: Counter[str] = Counter()
    for name, weight in weights.items():
        sizes["float16" if weight.half else "float32"] += layout.tensors[name].size_bytes
    adopt(network, weights, source.buffer)
    return StreamedGraph(source, entry, path, sizes, len(model.graph.node), blocks)


def block_drafts(
    model: onnx.ModelProto, weights: dict[str, Outer], precisions: Collection[Precision]
) -> dict[Precision, BlockDraft]:
    """The graph with its matrices in blocks, per precision; both dicts name what is to be written.

    Afterwards `model` and `weights` store in half precision what it holds exactly.
    """
    whole = dict(weights)
    before = onnx.ModelProto()
    before.CopyFrom(model)
    store_halves(model, weights)

    def value_of(name: str) -> Array:
        """A weight as the graph multiplies by it, float32."""
        return whole[name].array.astype(np.float32, copy=False)

    return draft_blocks(before, model, value_of, precisions)


def referring(
    model: onnx.ModelProto, stored: Mapping[str, StoredTensor], buffer: WeightBuffer
) -> ExternalGraph:
    """A graph whose outer weights say where they lie in a file."""
    names = []
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            refer(tensor, stored[tensor.name], buffer.entry.name)
            names.append(tensor.name)
    return ExternalGraph(model.SerializeToString(), tuple(names), buffer)


def take_out(model: ir.Model) -> list[Outer]:
    """The large float32 weights of a traced model; their places in it only say which is which."""
    outer: list[Outer] = []
    for name, value in model.graph.initializers.items():
        held = value.const_value
        raw = getattr(held, "raw", None)
        if not isinstance(raw, Tensor) or raw.dtype != torch.float32:
            continue
        if held is None or held.nbytes < LEAST_BYTES:
            continue
        # As the offset, the place in the list: a graph may use a weight under two names.
        value.const_value = ir.ExternalTensor(
            location="weights", offset=len(outer), length=held.nbytes, dtype=held.dtype,
            shape=ir.Shape(raw.shape), name=name,
        )  # fmt: skip
        outer.append(Outer(raw))
    return outer


def weights_by_name(model: onnx.ModelProto, outer: Sequence[Outer]) -> dict[str, Outer]:
    """Every weight that was taken out, by its name in the graph."""
    found = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            said = {pair.key: pair.value for pair in tensor.external_data}
            found[tensor.name] = Outer(outer[int(said["offset"])].value)
    return found


def fold_turns(model: onnx.ModelProto, weights: Mapping[str, Outer]) -> None:
    """Store a weight as the graph wants it, in place: an engine would turn a copy of it."""
    graph = model.graph
    users = Counter(name for node in graph.node for name in node.input)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    turned: dict[str, str] = {}
    kept: list[NodeProto] = []
    for node in graph.node:
        source = node.input[0] if node.op_type == "Transpose" else ""
        if source in weights and users[source] == 1 and len(tensors[source].dims) == 2:
            turned[node.output[0]] = source
            weights[source].turned = True
            tensors[source].dims[:] = list(reversed(tensors[source].dims))
        else:
            kept.append(node)
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = turned.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)


def store_halves(model: onnx.ModelProto, weights: dict[str, Outer]) -> None:
    """Store what half precision holds exactly in it, in place, and widen it in the graph.

    So a checkpoint that was published in half precision is as large in the bundle.
    """
    names = FreshNames(model)
    casts: list[NodeProto] = []
    for tensor in model.graph.initializer:
        weight = weights.get(tensor.name)
        if weight is None or not is_half(weight.value):
            continue
        weight.half = True
        half = names.fresh(f"{tensor.name}_f16")
        casts.append(helper.make_node("Cast", [half], [tensor.name], to=TensorProto.FLOAT))
        weights[half] = weights.pop(tensor.name)
        tensor.name, tensor.data_type = half, TensorProto.FLOAT16
    body = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + body)


def is_half(value: Tensor) -> bool:
    """Whether half precision holds a tensor of any shape exactly; looks at a part of it first."""
    flat = value.detach().reshape(-1)
    return all(bool(torch.equal(v.half().float(), v)) for v in (flat[:4096], flat))


def stored(name: str, weight: Outer) -> NewTensor:
    """A weight to be written."""
    shape = tuple(weight.value.t().shape if weight.turned else weight.value.shape)
    return NewTensor(name, "F16" if weight.half else "F32", shape, lambda: weight.array)


def adopt(network: nn.Module, weights: Mapping[str, Outer], buffer: WeightBuffer) -> None:
    """Let the network compute with the file's copy of its float32 weights, one after the other.

    Each of its own is freed as its turn comes: at no time are there two of more than one.
    """
    owners: dict[int, list[Tensor]] = {}
    for tensor in (*network.parameters(), *network.buffers()):
        owners.setdefault(tensor.data_ptr(), []).append(tensor)
    for name, weight in weights.items():
        if weight.half:
            continue
        owned = owners.get(weight.value.data_ptr(), [])
        # Never released: the network is the caller's, who may use it for as long as it lives.
        lease = buffer.lease([name])
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # torch wants to write; a network in evaluation does not
            view = torch.from_numpy(lease.tensors[name])
        for tensor in owned:
            tensor.data = view.t() if weight.turned else view
        weight.value = view
