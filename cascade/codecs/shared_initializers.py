"""Two forms of one graph with one copy of the weights.

The CPU and the GPU need the same network in different operators (docs/decisions/0011). The second
form is an ONNX file that leaves out the large weights; it names them as the first file does, and
takes them from there before any parser sees it. Only the protobuf wire format is known here:
messages written one after the other are merged, repeated fields joined, so that attaching them is
appending.

References:
    https://protobuf.dev/programming-guides/encoding/#last-one-wins
"""

from collections.abc import Iterator

from cascade.codecs.onnx_files import LENGTH_DELIMITED, fields
from cascade.errors import ManifestError

GRAPH, NODE, INITIALIZER, INPUT = 7, 1, 5, 11
NODE_INPUT, NODE_OUTPUT = 1, 2
TENSOR_NAME, VALUE_NAME = 8, 1


def attach_initializers(graph_file: bytes, weights_file: bytes, name: str) -> bytes:
    """An ONNX file completed by the weights that it names and another one holds.

    Args:
        graph_file: an ONNX file some of whose weights are missing.
        weights_file: the ONNX file that holds them.
        name: the graph's file name, for errors.

    Raises:
        ManifestError: a weight is in neither file, or one of them cannot be read.
    """
    try:
        wanted = missing(graph_file)
        found = {n: body for n, body in initializers(weights_file) if n in wanted}
    except (IndexError, OverflowError, UnicodeDecodeError) as exc:
        raise ManifestError(f"{name}: truncated or not an ONNX file") from exc
    absent = sorted(wanted - set(found))
    if absent:
        raise ManifestError(f"{name}: {absent[0]!r} is neither in it nor in the file it belongs to")
    graph = b"".join(message(INITIALIZER, body) for body in found.values())
    # A second message of the same field: protobuf merges it into the first.
    return graph_file + message(GRAPH, graph)


def missing(model: bytes) -> set[str]:
    """Names that nodes of a graph read and nothing in it defines."""
    read: set[str] = set()
    defined = {n for n, _ in initializers(model)}
    for graph in children(memoryview(model), GRAPH):
        defined |= {text(value, VALUE_NAME) for value in children(graph, INPUT)}
        for node in children(graph, NODE):
            read |= {str(n, "utf-8") for n in children(node, NODE_INPUT)}
            defined |= {str(n, "utf-8") for n in children(node, NODE_OUTPUT)}
    # The empty name is an optional input that is left out.
    return read - defined - {""}


def initializers(model: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and message of every weight of a graph."""
    for graph in children(memoryview(model), GRAPH):
        for tensor in children(graph, INITIALIZER):
            yield text(tensor, TENSOR_NAME), bytes(tensor)


def children(parent: memoryview, number: int) -> Iterator[memoryview]:
    """The messages or strings in one field of a message."""
    for field, wire_type, _, body in fields(parent):
        if field == number and wire_type == LENGTH_DELIMITED:
            yield body


def text(parent: memoryview, number: int) -> str:
    """The last string in one field of a message, which is the one that counts."""
    found = ""
    for body in children(parent, number):
        found = str(body, "utf-8")
    return found


def message(number: int, body: bytes) -> bytes:
    """A field that holds a message."""
    return encode_varint((number << 3) | LENGTH_DELIMITED) + encode_varint(len(body)) + body


def encode_varint(value: int) -> bytes:
    """A whole number in base 128, low digits first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int) -> bytes:
    """What stands before a field of that number that holds bytes."""
    return encode_varint((number << 3) | LENGTH_DELIMITED)


def written(number: int, wire_type: int, value: int, body: memoryview) -> list[bytes | memoryview]:
    """A number or a field of bytes as it was; onnx.proto has no fixed fields outside of tensors."""
    if wire_type == LENGTH_DELIMITED:
        return [tag(number), encode_varint(len(body)), body]
    if wire_type == 0:
        return [encode_varint(number << 3), encode_varint(value)]
    return []
