"""The tensors of an ONNX file that lie in another one: found in its bytes, compared, or refused.

An ONNX file may name any file of the machine as the place of a tensor, and readers differ in what
they follow. Here a tensor may lie in one file alone, the one that the manifest names; exactly where
that file's header says; and only as a weight of the main graph. Everything else is refused before
any parser sees the graph. Only the protobuf wire format is walked; operators are not known.

References:
    https://github.com/onnx/onnx/blob/main/docs/ExternalData.md and onnx.proto (field numbers).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cascade.codecs.onnx_files import (
    CHILDREN,
    EXTERNAL_FIELDS,
    GRAPH,
    LENGTH_DELIMITED,
    decode_varint,
    fields,
    walk,
)
from cascade.errors import ManifestError
from cascade.weights.header import StoredTensor

INITIALIZER = 5
DIMS, DATA_TYPE, NAME = 1, 2, 8
EXTERNAL_DATA, DATA_LOCATION = EXTERNAL_FIELDS
ALLOWED = {DIMS, DATA_TYPE, NAME, EXTERNAL_DATA, DATA_LOCATION}
"""Fields of a tensor whose data lie elsewhere; any other could hold data too."""
EXTERNAL = 1
"""Value of `data_location`."""
KEY, VALUE = 1, 2
KEYS = {"location", "offset", "length"}
NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")

DTYPE_NUMBERS = {1: "F32", 2: "U8", 3: "I8", 6: "I32", 7: "I64", 10: "F16"}
"""ONNX's numbers of number formats, and safetensors' names."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an ONNX file says that one of its weights lies.

    Attributes:
        name: of the tensor.
        location: name of the other file.
        tensor: dtype, shape and place, as the graph has them.
    """

    name: str
    location: str
    tensor: StoredTensor


def find_references(graph: bytes, file: str) -> dict[str, Reference]:
    """Every weight of a graph that lies in another file, by name.

    Args:
        graph: an ONNX file's bytes.
        file: its name, for errors.

    Raises:
        ManifestError: a tensor anywhere else lies outside, or one says it in another way than
            with a file, an offset and a length; or the bytes are not protobuf.
    """
    found: dict[str, Reference] = {}
    try:
        for body in tensors_outside(memoryview(graph), file):
            reference = read_reference(body, file)
            if reference.name in found:
                raise ManifestError(f"{file}: two weights are called {reference.name}")
            found[reference.name] = reference
    except (IndexError, OverflowError, UnicodeDecodeError) as exc:
        raise ManifestError(f"{file}: truncated or not an ONNX file") from exc
    return found


def tensors_outside(model: memoryview, file: str) -> Iterator[memoryview]:
    """Weights of the main graph whose data lie elsewhere; raises for one at any other place."""
    for number, wire_type, _, graph in fields(model):
        if wire_type != LENGTH_DELIMITED:
            continue
        if number != GRAPH:
            walk_child(graph, "model", number, file)
            continue
        for inner, inner_type, _, body in fields(graph):
            if inner_type != LENGTH_DELIMITED:
                continue
            if inner == INITIALIZER and is_outside(body):
                yield body
            else:
                walk_child(body, "graph", inner, file)


def walk_child(body: memoryview, kind: str, number: int, file: str) -> None:
    """Refuse a tensor that lies outside anywhere in one field of a message."""
    child = CHILDREN[kind].get(number)
    if child is not None:
        walk(body, child, file, 2)


def is_outside(tensor: memoryview) -> bool:
    """Whether a tensor says of itself that its data lie elsewhere."""
    return any(number in EXTERNAL_FIELDS for number, _, _, _ in fields(tensor))


def read_reference(tensor: memoryview, file: str) -> Reference:
    """What a weight says of where it lies.

    Raises:
        ManifestError: it says more or less than name, dtype, shape, file, offset and length, or
            one of them twice.
    """
    numbers: dict[int, int] = {}
    dims: list[int] = []
    name: str | None = None
    pairs: list[tuple[str, str]] = []
    for number, wire_type, value, body in fields(tensor):
        if number not in ALLOWED or number in numbers or (number == NAME and name is not None):
            raise ManifestError(f"{file}: a weight beside the graph has field {number} too much")
        if number == DIMS:
            dims += packed(body) if wire_type == LENGTH_DELIMITED else [value]
        elif number == NAME:
            name = str(body, "utf-8")
        elif number == EXTERNAL_DATA:
            pairs.append(read_pair(body))
        else:
            numbers[number] = value
    said = dict(pairs)
    if not name or numbers.get(DATA_LOCATION) != EXTERNAL or numbers.get(DATA_TYPE) is None:
        raise ManifestError(f"{file}: a weight beside the graph lacks name, dtype or data_location")
    if len(pairs) != len(KEYS) or set(said) != KEYS:
        keys = ", ".join(sorted(key for key, _ in pairs))
        raise ManifestError(f"{file}: {name}: expected location, offset and length, got {keys}")
    return Reference(
        name, said["location"], place_of(f"{file}: {name}", numbers[DATA_TYPE], dims, said)
    )


def place_of(path: str, dtype: int, dims: list[int], said: Mapping[str, str]) -> StoredTensor:
    """Dtype, shape and place of a reference."""
    if dtype not in DTYPE_NUMBERS:
        raise ManifestError(f"{path}: dtype {dtype} does not lie beside a graph")
    for key in ("offset", "length"):
        if not NUMBER.fullmatch(said[key]):
            raise ManifestError(f"{path}: {key} {said[key][:20]!r} is no number of bytes")
    begin = int(said["offset"])
    place = (begin, begin + int(said["length"]))
    return StoredTensor(DTYPE_NUMBERS[dtype], tuple(dims), place)


def packed(body: memoryview) -> list[int]:
    """Whole numbers written one after the other."""
    found, at = [], 0
    while at < len(body):
        value, at = decode_varint(body, at)
        found.append(value)
    return found


def read_pair(body: memoryview) -> tuple[str, str]:
    """A key and its value; the last of each counts, as for every reader of protobuf."""
    key = value = ""
    for number, _, _, text in fields(body):
        if number == KEY:
            key = str(text, "utf-8")
        elif number == VALUE:
            value = str(text, "utf-8")
    return key, value


def check_references(
    references: Mapping[str, Reference],
    stored: Mapping[str, StoredTensor],
    file: str,
    weights_file: str,
) -> None:
    """Refuse a weight that does not lie exactly where the file of weights has it.

    Args:
        references: of a graph.
        stored: the header of the file of weights.
        file: the graph's name, for errors.
        weights_file: the one file that it may name.

    Raises:
        ManifestError: naming graph, weight and what differs.
    """
    for name, reference in references.items():
        path = f"{file}: {name}"
        if reference.location != weights_file:
            raise ManifestError(
                f"{path} lies in {reference.location[:100]!r}; the manifest names {weights_file}"
            )
        there, said = stored.get(name), reference.tensor
        if there is None:
            raise ManifestError(f"{path} is not in {weights_file}")
        for what, one, other in (
            ("dtype", said.dtype, there.dtype),
            ("shape", list(said.shape), list(there.shape)),
            ("offset", said.place[0], there.place[0]),
            ("length", said.size_bytes, there.size_bytes),
        ):
            if one != other:
                raise ManifestError(f"{path}: {what} is {one}, {weights_file} says {other}")
