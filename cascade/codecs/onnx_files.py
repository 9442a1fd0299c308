"""A first look at ONNX bytes before any parser sees them: external data is refused.

A tensor of an ONNX file may point at another file, which has been used to read and write outside a
model's folder. Our bundles hold none, so any such pointer is an attack or an accident. Only the
protobuf wire format is walked here; operators and shapes are not known.

References:
    https://protobuf.dev/programming-guides/encoding/ and onnx.proto (field numbers below).
"""

from collections.abc import Iterator

from cascade.errors import EngineError, ManifestError

LENGTH_DELIMITED = 2
MAX_DEPTH = 32
MAX_TAG = (1 << 32) - 1
"""C++ parsers drop the bits beyond: a longer tag would be one field here and another one there."""

CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Which field of a message holds which message, as far as a tensor can hide there."""

EXTERNAL_FIELDS = (13, 14)
"""`external_data` and `data_location` of a TensorProto."""

GRAPH, GRAPH_INPUT, GRAPH_OUTPUT, INFO_NAME = 7, 11, 12, 1
"""Fields of ModelProto, GraphProto and ValueInfoProto."""


def refuse_external_data(graph: bytes, name: str) -> None:
    """Raise unless every tensor of an ONNX file lies inside it.

    Args:
        graph: the file's bytes.
        name: the file's name, for errors.

    Raises:
        ManifestError: a tensor refers to another file, or the bytes are not protobuf.
    """
    try:
        walk(memoryview(graph), "model", name, 0)
    except (IndexError, OverflowError) as exc:
        raise ManifestError(f"{name}: truncated or not an ONNX file") from exc


def walk(message: memoryview, kind: str, name: str, depth: int) -> None:
    """Visit one message and what it holds."""
    # Control flow nests graphs in nodes in graphs: an attacker's file must not end the recursion.
    if depth > MAX_DEPTH:
        raise ManifestError(f"{name}: graphs nested deeper than {MAX_DEPTH}")
    for field, wire_type, value, body in fields(message):
        if (
            kind == "tensor"
            and field in EXTERNAL_FIELDS
            and (wire_type == LENGTH_DELIMITED or value)
        ):
            raise ManifestError(f"{name}: a tensor points outside the file; bundles may not")
        child = CHILDREN[kind].get(field)
        if child is not None and wire_type == LENGTH_DELIMITED:
            walk(body, child, name, depth + 1)


def fields(message: memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
    """Number, wire type, number value and bytes of every field of a message."""
    at = 0
    empty = message[:0]
    while at < len(message):
        tag, at = decode_varint(message, at)
        if tag > MAX_TAG:
            raise IndexError("field number too large")
        wire_type = tag & 7
        value, body = 0, empty
        if wire_type == 0:
            value, at = decode_varint(message, at)
        elif wire_type == LENGTH_DELIMITED:
            length, at = decode_varint(message, at)
            body, at = message[at : at + length], at + length
        # Fixed 64 and 32 bits: skipped, no field that matters here has one.
        elif wire_type in (1, 5):
            at += 8 if wire_type == 1 else 4
        else:
            raise IndexError("unknown wire type")
        # Slicing beyond the end is silent in Python.
        if at > len(message):
            raise IndexError("field runs past the end")
        yield tag >> 3, wire_type, value, body


def decode_varint(message: memoryview, at: int) -> tuple[int, int]:
    """A base-128 number and the position behind it."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        # Ten bytes hold every 64-bit number; a longer one never ends.
        if shift > 63:
            raise OverflowError("number too long")


def input_names(graph: bytes) -> tuple[str, ...]:
    """Names of a graph's inputs in order; a runtime may know them under several.

    Raises:
        EngineError: the bytes are not an ONNX file.
    """
    return value_names(graph, GRAPH_INPUT)


def output_names(graph: bytes) -> tuple[str, ...]:
    """Names of a graph's outputs in order; see `input_names`."""
    return value_names(graph, GRAPH_OUTPUT)


def value_names(graph: bytes, side: int) -> tuple[str, ...]:
    """Names of the values in one field of a graph."""
    try:
        model = next(body for field, _, _, body in fields(memoryview(graph)) if field == GRAPH)
        infos = [body for field, _, _, body in fields(model) if field == side]
        return tuple(
            next(bytes(name).decode() for field, _, _, name in fields(info) if field == INFO_NAME)
            for info in infos
        )
    except (IndexError, OverflowError, StopIteration, UnicodeDecodeError, RuntimeError) as exc:
        raise EngineError("not an ONNX file: its inputs and outputs cannot be read") from exc
