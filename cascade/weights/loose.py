"""Large weights taken out of a graph and widened here, before ONNX Runtime opens it.

A graph stores its weights in 8 or 16 bits with nodes that widen them. ONNX Runtime folds these
nodes when it opens the graph, and holds every stage of that at once: six times the file. Taken
out, a weight is widened once, to the numbers that those nodes make, and its memory is free as soon
as the engine has laid it out for its kernels. Walks bytes; loads no engine.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.codecs.onnx_files import (
    GRAPH,
    GRAPH_OUTPUT,
    LENGTH_DELIMITED,
    fields,
    output_names,
)
from cascade.codecs.shared_initializers import (
    INITIALIZER,
    NODE,
    NODE_INPUT,
    NODE_OUTPUT,
    TENSOR_NAME,
    VALUE_NAME,
    children,
    encode_varint,
    message,
    tag,
    text,
    written,
)
from cascade.types import Array
from cascade.weights.buffer import private_memory
from cascade.weights.readers import (
    ATTRIBUTE,
    BLOCK_PRODUCT,
    DOMAIN,
    LOOK_UPS,
    OP_TYPE,
    PRODUCTS,
    SUBGRAPHS,
    operators_by_input,
)
from cascade.weights.references import (
    DATA_LOCATION,
    DATA_TYPE,
    DIMS,
    EXTERNAL,
    EXTERNAL_DATA,
    KEY,
    VALUE,
    packed,
)

LEAST_BYTES = 1 << 16
"""Of a weight in memory; smaller ones stay in the graph, where an optimiser may look at them."""
LEAST_WIDENED = 36 << 20
"""Of a graph's widened weights together; with less the graph is opened as it is. Looking through
the bytes costs tens of milliseconds, which the largest graphs alone repay: files of a quarter of
this, which can widen to no more, are not looked at."""
FILE = "loose.weights"
"""What the graph says that its weights lie in. There is no such file."""

FLOAT, INT8, FLOAT16, RAW_DATA = 1, 3, 10, 9
STORED: Mapping[int, np.dtype[Any]] = {
    FLOAT: np.dtype("<f4"),
    INT8: np.dtype("i1"),
    FLOAT16: np.dtype("<f2"),
}
"""ONNX's numbers of the formats that weights are stored in."""
ATTRIBUTE_NAME, ATTRIBUTE_INT = 1, 3
MOST_WIDENING = 4
"""Bytes that one byte of a file becomes: of 8 bits, 32."""
READ_IN_PLACE = PRODUCTS | LOOK_UPS


@dataclass(frozen=True, slots=True, eq=False)
class LooseGraph:
    """A graph whose large weights were taken out of it.

    Attributes:
        data: the ONNX file without them; it names each with dtype and shape.
        tensors: the weights by name, of their own shapes, each in memory of its own that is free
            with the last reference to it.
    """

    data: bytes
    tensors: Mapping[str, Array]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the weights that were taken out."""
        return tuple(self.tensors)

    @property
    def file(self) -> str:
        """Name of the file that `data` says its weights lie in."""
        return FILE

    def lease(self) -> "LooseLease":
        """The weights, for an engine that is opened on them."""
        return LooseLease(self.tensors)


class LooseLease:
    """Weights that an engine reads until it lets them go; see `cascade.weights.buffer.Lease`."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.tensors = dict(tensors)
        """By name, of their own shapes."""

    def keep(self, names: Collection[str]) -> None:
        """Let all go but some."""
        self.tensors = {name: self.tensors[name] for name in names if name in self.tensors}

    def release(self) -> None:
        """Let all go; a second call is harmless."""
        self.tensors = {}


@dataclass(frozen=True, slots=True)
class Constant:
    """A weight as the graph stores it, and what the graph's nodes make of it.

    Attributes:
        levels: its message.
        steps: message of what a `Mul` multiplies it with, of a shape that fits; None for nothing.
        is_widened: whether nodes make float32 of it.
    """

    levels: memoryview
    steps: memoryview | None = None
    is_widened: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is read in the end."""
        parts = (self.levels, self.steps) if self.steps is not None else (self.levels,)
        return np.broadcast_shapes(*(shape_of(part) for part in parts))

    @property
    def dtype(self) -> int:
        """ONNX's number of the format of what is read in the end."""
        return FLOAT if self.is_widened else dtype_of(self.levels)

    @property
    def size_bytes(self) -> int:
        """Of what is read in the end."""
        return int(np.prod(self.shape, dtype=np.int64)) * STORED[self.dtype].itemsize

    def value(self) -> Array:
        """What is read in the end, of its own shape and dtype, in memory of its own."""
        # Not from the C library, which would keep it: it is needed once.
        flat = np.frombuffer(private_memory(self.size_bytes), STORED[self.dtype])
        found = flat.reshape(self.shape)
        if self.steps is None:
            found[...] = view(self.levels)
        else:
            # What `Mul(Cast(levels), steps)` is: 8 and 16 bits are float32 without loss.
            np.multiply(view(self.levels), view(self.steps), out=found)
        return found


def loosened(graph: bytes) -> bytes | LooseGraph:
    """A graph with its large weights taken out, or the graph where that saves little.

    Only weights that products and look-ups alone read are taken: an engine computes with these as
    they are. The numbers are those that the graph's own nodes make, to the bit.

    Args:
        graph: an ONNX file's bytes, with all weights in it.
    """
    if len(graph) < LEAST_WIDENED // MOST_WIDENING:
        return graph
    readers, results = operators_by_input(graph), set(output_names(graph))
    if any(BLOCK_PRODUCT in operators for operators in readers.values()):
        return graph
    constants = find_constants(graph)
    large = {
        name: constant
        for name, constant in constants.items()
        if name not in results
        and readers[name]
        and readers[name] <= READ_IN_PLACE
        and constant.size_bytes >= LEAST_BYTES
    }
    if sum(c.size_bytes for c in large.values() if c.is_widened) < LEAST_WIDENED:
        return graph
    tensors = {name: constant.value() for name, constant in large.items()}
    return LooseGraph(without(graph, large), tensors)


def find_constants(graph: bytes) -> dict[str, Constant]:
    """Weights of a main graph, and what its nodes make of them, by name."""
    found: dict[str, Constant] = {}
    for main in children(memoryview(graph), GRAPH):
        weights = {text(body, TENSOR_NAME): body for body in children(main, INITIALIZER)}
        found |= {name: Constant(body) for name, body in weights.items() if is_readable(body)}
        for node in children(main, NODE):
            made = text(node, NODE_OUTPUT)
            read = [found.get(name) for name in names_in(node, NODE_INPUT)]
            constant = folded(node, [value for value in read if value is not None])
            if constant is not None and None not in read:
                found[made] = constant
    return found


def folded(node: memoryview, read: list[Constant]) -> Constant | None:
    """What a node makes of constants, if it widens or scales one; all of its inputs are `read`."""
    operator = "" if text(node, DOMAIN) else text(node, OP_TYPE)
    match operator, read:
        case "Cast", [one] if not one.is_widened and casts_to_float(node):
            return Constant(one.levels, is_widened=True)
        case "Mul", [one, other] if one.is_widened and one.steps is None:
            if not other.is_widened and other.dtype == FLOAT:
                return Constant(one.levels, other.levels, is_widened=True)
    return None


def is_readable(tensor: memoryview) -> bool:
    """Whether a weight is stored in a format that is known here, as bytes."""
    kind = STORED.get(dtype_of(tensor))
    if kind is None:
        return False
    expected = int(np.prod(shape_of(tensor), dtype=np.int64)) * kind.itemsize
    return expected > 0 and [len(raw) for raw in children(tensor, RAW_DATA)] == [expected]


def dtype_of(tensor: memoryview) -> int:
    """ONNX's number of a weight's format; 0 for none."""
    return next((value for number, _, value, _ in fields(tensor) if number == DATA_TYPE), 0)


def shape_of(tensor: memoryview) -> tuple[int, ...]:
    """A weight's shape."""
    found: list[int] = []
    for number, wire_type, value, body in fields(tensor):
        if number == DIMS:
            found += packed(body) if wire_type == LENGTH_DELIMITED else [value]
    return tuple(found)


def casts_to_float(node: memoryview) -> bool:
    """Whether a `Cast` makes float32."""
    to = [body for body in children(node, ATTRIBUTE) if text(body, ATTRIBUTE_NAME) == "to"]
    return any(n == ATTRIBUTE_INT and v == FLOAT for body in to for n, _, v, _ in fields(body))


def view(tensor: memoryview) -> Array:
    """A weight over the file's bytes, of its own shape and dtype."""
    raw = next(children(tensor, RAW_DATA))
    return np.frombuffer(raw, STORED[dtype_of(tensor)]).reshape(shape_of(tensor))


def names_in(node: memoryview, number: int) -> list[str]:
    """The names in one field of a node."""
    return [str(name, "utf-8") for name in children(node, number)]


def without(graph: bytes, taken: Mapping[str, Constant]) -> bytes:
    """A graph's bytes that name some weights and hold neither them nor the nodes that made them."""
    main = next(children(memoryview(graph), GRAPH))
    nodes = list(children(main, NODE))
    made = {text(node, NODE_OUTPUT): node for node in nodes}
    needed = Counter(name for node in nodes for name in all_inputs(node))
    needed.update(output_names(graph))
    gone = {name for name in taken if name in made}
    # Backwards from what was taken: what only these nodes read is needed no longer.
    ends = list(gone)
    while ends:
        for name in names_in(made[ends.pop()], NODE_INPUT):
            needed[name] -= 1
            if not needed[name]:
                gone.add(name)
                ends += [name] if name in made else []
    gone |= set(taken)
    parts: list[bytes | memoryview] = []
    for number, wire_type, value, body in fields(memoryview(graph)):
        if number == GRAPH and wire_type == LENGTH_DELIMITED:
            inner = [*kept_fields(body, gone), *references(taken)]
            parts += [tag(GRAPH), encode_varint(sum(map(len, inner))), *inner]
        else:
            parts += written(number, wire_type, value, body)
    return b"".join(parts)


def all_inputs(node: memoryview) -> Iterator[str]:
    """What a node reads, and what the graphs inside it read."""
    yield from names_in(node, NODE_INPUT)
    for attribute in children(node, ATTRIBUTE):
        for number in SUBGRAPHS:
            for graph in children(attribute, number):
                for inner in children(graph, NODE):
                    yield from all_inputs(inner)
                yield from (text(info, VALUE_NAME) for info in children(graph, GRAPH_OUTPUT))


def kept_fields(main: memoryview, gone: Collection[str]) -> Iterator[bytes | memoryview]:
    """A graph's fields in order, without some weights and the nodes that make some names."""
    for number, wire_type, value, body in fields(main):
        if number == INITIALIZER and text(body, TENSOR_NAME) in gone:
            continue
        if number == NODE and text(body, NODE_OUTPUT) in gone:
            continue
        yield from written(number, wire_type, value, body)


def references(taken: Mapping[str, Constant]) -> Iterator[bytes]:
    """A graph's fields that name weights which lie elsewhere."""
    for name, constant in taken.items():
        said = {"location": FILE, "offset": "0", "length": str(constant.size_bytes)}
        yield message(
            INITIALIZER,
            b"".join(
                [
                    *(number_field(DIMS, size) for size in constant.shape),
                    number_field(DATA_TYPE, constant.dtype),
                    message(TENSOR_NAME, name.encode()),
                    *(message(EXTERNAL_DATA, pair(*item)) for item in said.items()),
                    number_field(DATA_LOCATION, EXTERNAL),
                ]
            ),
        )


def pair(key: str, value: str) -> bytes:
    """A key and its value."""
    return message(KEY, key.encode()) + message(VALUE, value.encode())


def number_field(number: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return encode_varint(number << 3) + encode_varint(value)
