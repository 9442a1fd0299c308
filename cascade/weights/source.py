"""A graph as an engine takes it: one ONNX file with all in it, or one with weights beside it."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cascade.codecs.onnx_files import GRAPH, LENGTH_DELIMITED, fields
from cascade.codecs.shared_initializers import TENSOR_NAME, encode_varint, tag, text, written
from cascade.errors import EngineError
from cascade.types import Array
from cascade.weights.buffer import Lease, WeightBuffer
from cascade.weights.loose import LooseGraph
from cascade.weights.references import DATA_LOCATION, EXTERNAL_DATA, INITIALIZER, is_outside

RAW_DATA = 9
MAX_MESSAGE_BYTES = (1 << 31) - 1
"""Of protobuf."""


@dataclass(frozen=True, slots=True, eq=False)
class ExternalGraph:
    """A graph some of whose weights lie in a file of their own; each stands there as it says.

    Attributes:
        data: the ONNX file.
        names: of the weights that lie outside.
        buffer: of the file that they lie in.
    """

    data: bytes
    names: tuple[str, ...]
    buffer: WeightBuffer

    @property
    def file(self) -> str:
        """Name of the file that its weights lie in."""
        return self.buffer.entry.name

    def lease(self) -> Lease:
        """Those weights in memory, checked; whoever opens an engine on them releases the lease.

        Raises:
            ManifestError: the file is not what the manifest says.
        """
        return self.buffer.lease(self.names)


GraphSource = bytes | ExternalGraph | LooseGraph
"""An ONNX file's bytes with all weights in it, or a graph with its weights beside it or taken out
of it."""


def graph_data(source: GraphSource) -> bytes:
    """The ONNX file of a source; of weights beside it only names, shapes and places are in it."""
    return source if isinstance(source, bytes) else source.data


def source_bytes(source: GraphSource) -> int:
    """Bytes of a source with the weights that it names elsewhere; reads none of those.

    Raises:
        ManifestError: the header of the file that they lie in is not what the manifest says.
    """
    size = len(graph_data(source))
    if isinstance(source, ExternalGraph):
        stored = source.buffer.tensors
        return size + sum(stored[name].size_bytes for name in source.names)
    return size + (
        sum(t.nbytes for t in source.tensors.values()) if isinstance(source, LooseGraph) else 0
    )


def source_sha256(source: GraphSource) -> str:
    """A hash over all that a source computes with, weights included."""
    found = hashlib.sha256(graph_data(source))
    if isinstance(source, ExternalGraph):
        found.update(source.buffer.entry.sha256.encode())
    elif isinstance(source, LooseGraph):
        for tensor in source.tensors.values():
            found.update(tensor.data)
    return found.hexdigest()


def whole_graph(source: GraphSource) -> bytes:
    """One ONNX file with all weights in it, for engines that take nothing else: a copy of them.

    Raises:
        EngineError: protobuf holds no file of that size.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, LooseGraph):
        return joined(source.data, source.tensors)
    size = source_bytes(source)
    if size > MAX_MESSAGE_BYTES:
        raise EngineError(
            f"engine: its weights take {size / 1e9:.1f} GB, and this engine takes graphs of at "
            "most 2.1 GB: use --engine ort",
            field="engine",
        )
    lease = source.lease()
    try:
        return joined(source.data, lease.tensors)
    finally:
        lease.release()


def joined(data: bytes, tensors: Mapping[str, Array]) -> bytes:
    """An ONNX file with its outer weights, of any shapes and dtypes, put in their places."""
    parts: list[bytes | memoryview] = []
    for number, wire_type, value, body in fields(memoryview(data)):
        if number == GRAPH and wire_type == LENGTH_DELIMITED:
            inner = list(whole_weights(body, tensors))
            parts += [tag(GRAPH), encode_varint(sum(map(len, inner))), *inner]
        else:
            parts += written(number, wire_type, value, body)
    return b"".join(parts)


def whole_weights(graph: memoryview, tensors: Mapping[str, Array]) -> Iterator[bytes | memoryview]:
    """A graph's fields in order, the weights beside it, of any shape and dtype, in their places."""
    for number, wire_type, value, body in fields(graph):
        if number != INITIALIZER or not is_outside(body):
            yield from written(number, wire_type, value, body)
            continue
        raw = tensors[text(body, TENSOR_NAME)].reshape(-1).view(np.uint8).data
        own: list[bytes | memoryview] = []
        for inner, inner_type, inner_value, inner_body in fields(body):
            if inner not in (EXTERNAL_DATA, DATA_LOCATION):
                own += written(inner, inner_type, inner_value, inner_body)
        own += [tag(RAW_DATA), encode_varint(len(raw)), raw]
        yield tag(INITIALIZER)
        yield encode_varint(sum(map(len, own)))
        yield from own
