"""The large weights of a component's graphs moved into one file beside them.

Ensures: every graph computes what it computed; equal weights of several files are stored once.
Requires: graphs complete, weights as initialisers of the main graph. Knows ONNX graphs; not which
networks they are.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from cascade.codecs.shared_initializers import attach_initializers
from cascade.graph_spec import FileEntry, GraphSpec
from cascade.weights.header import StoredTensor
from cascade.weights.references import DTYPE_NUMBERS
from export.fresh_names import names_in
from export.weights.weights_file import NewTensor, write_weights

LEAST_BYTES = 1 << 16
"""Smaller weights stay in the graph: engines look at them while they rewrite it."""

Content = tuple[int, tuple[int, ...], str]


@dataclass(frozen=True, slots=True)
class MovedWeights:
    """Graphs without their large weights, and the file that holds those.

    Attributes:
        files: the graphs by file name.
        entry: of the file of weights, for the manifest.
        path: where it was written.
    """

    files: Mapping[str, bytes]
    entry: FileEntry
    path: Path


def move_weights(
    graphs: Mapping[str, bytes], path: Path, *, least_bytes: int | None = None
) -> MovedWeights | None:
    """Write a component's file of weights, and its graphs anew.

    Args:
        graphs: complete ONNX files by name; the first one's weights come first.
        path: of the file of weights.
        least_bytes: smaller weights stay; `LEAST_BYTES` when None.

    Returns:
        None where no weight is large enough to be moved.
    """
    least = LEAST_BYTES if least_bytes is None else least_bytes
    models = {name: onnx.load_from_string(data) for name, data in graphs.items()}
    stored: dict[Content, str] = {}
    tensors: dict[str, NewTensor] = {}
    moved = {
        name: [tensor for tensor in model.graph.initializer if is_moved(tensor, least)]
        for name, model in models.items()
    }
    for name, model in models.items():
        for tensor in moved[name]:
            others = names_in(model) - {tensor.name}
            key = content_of(tensor)
            # A name that means something else in this graph cannot stand for the weight here.
            if stored.get(key, "") in ("", *others):
                stored[key] = free_name(tensor.name, others | set(tensors))
                tensors[stored[key]] = lazily(stored[key], tensor)
            rename(model, tensor, stored[key])
    if not tensors:
        return None
    entry, layout = write_weights(path, list(tensors.values()))
    for found in moved.values():
        for tensor in found:
            refer(tensor, layout.tensors[tensor.name], path.name)
    files = {name: model.SerializeToString() for name, model in models.items()}
    return MovedWeights(files, entry, path)


def complete_files(graphs: Iterable[GraphSpec], files: Mapping[str, bytes]) -> dict[str, bytes]:
    """A component's graphs, each with all its weights, the float32 ones first.

    Args:
        graphs: of the component.
        files: by name; variants and forms for GPUs borrow weights from the float32 file.
    """
    specs = list(graphs)
    found = {graph.file: files[graph.file] for graph in specs}
    for graph in specs:
        for name in graph.all_files[1:]:
            found[name] = attach_initializers(files[name], files[graph.file], name)
    return found


def is_moved(tensor: TensorProto, least_bytes: int) -> bool:
    """Whether a weight is large, and of a format that a file of weights holds."""
    return len(tensor.raw_data) >= least_bytes and tensor.data_type in DTYPE_NUMBERS


def content_of(tensor: TensorProto) -> Content:
    """What makes two weights the same: type, shape and numbers."""
    return tensor.data_type, tuple(tensor.dims), hashlib.sha256(tensor.raw_data).hexdigest()


def lazily(name: str, tensor: TensorProto) -> NewTensor:
    """A weight to be written under a name."""
    dtype, shape = DTYPE_NUMBERS[tensor.data_type], tuple(tensor.dims)
    return NewTensor(name, dtype, shape, lambda: numpy_helper.to_array(tensor))


def free_name(name: str, taken: set[str]) -> str:
    """A name that nothing else has."""
    number, free = 1, name
    while free in taken:
        number, free = number + 1, f"{name}.{number}"
    return free


def rename(model: onnx.ModelProto, tensor: TensorProto, name: str) -> None:
    """Give a weight another name wherever the main graph reads it."""
    if tensor.name == name:
        return
    for node in model.graph.node:
        for place, read in enumerate(node.input):
            if read == tensor.name:
                node.input[place] = name
    tensor.name = name


def refer(tensor: TensorProto, there: StoredTensor, file: str) -> None:
    """Let a weight lie in a file: its data are left out, its place stands instead."""
    name, dtype, dims = tensor.name, tensor.data_type, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type = name, dtype
    tensor.dims.extend(dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (
        ("location", file),
        ("offset", str(there.place[0])),
        ("length", str(there.size_bytes)),
    ):
        tensor.external_data.add(key=key, value=value)
