"""Values between a server and its replicas as bytes: records as JSON, arrays and bytes beside it.

Reading gives data alone. A record, an enumeration or an error is one of this project's classes,
looked up by name in modules that are loaded; its fields are set, and nothing of it is run but the
constructor of an error. Knows no socket and no meaning.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from cascade.errors import CascadeError, StageError
from cascade.types import Array

ROOMS = frozenset({"cascade", "runtime_server", "wire"})
"""Packages whose classes may be named."""
KINDS = "biuf"
"""Of arrays: truth values, integers and floating point; no objects."""
LENGTH_BYTES = 4
SEQUENCES: Mapping[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}

Beside = list[bytes | memoryview]
"""Bytes that follow the JSON of a frame, in order."""
Outline = list[Any]
"""What stands for a value in JSON."""


class Malformed(ConnectionAbortedError):
    """What was received is no frame; the connection is of no more use."""


def encode(value: object) -> Beside:
    """A value as pieces to be sent one after the other.

    Args:
        value: a record, and whatever it holds: records, enumerations, errors, numbers, text, bytes,
            arrays, sequences and mappings.

    Raises:
        TypeError: it holds anything else.
    """
    beside: Beside = []
    tree = json.dumps([outlined(value, beside), [len(part) for part in beside]]).encode()
    return [len(tree).to_bytes(LENGTH_BYTES, "big"), tree, *beside]


def decode(data: bytes) -> Any:
    """The value that `encode` was given; arrays are copies and may be written to.

    Raises:
        Malformed: it is none that `encode` returns, or names a class that is not loaded here.
    """
    try:
        begin = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big")
        tree, sizes = json.loads(data[LENGTH_BYTES:begin])
        beside = []
        for size in sizes:
            beside.append(memoryview(data)[begin : begin + size])
            begin += size
        if begin != len(data):
            raise ValueError(f"{len(data)} bytes, expected {begin}")
        return restored(tree, beside)
    except (ValueError, TypeError, KeyError, LookupError, AttributeError) as exc:
        raise Malformed(f"no frame: {exc}") from exc


def outlined(value: Any, beside: Beside) -> Any:
    """A value as JSON has it; a list begins with what it stands for. Bytes go into `beside`.

    Raises:
        TypeError: nothing that a frame can hold.
    """
    # Before plain text and numbers, which some enumerations are as well.
    if isinstance(value, Enum):
        return ["enum", name_of(type(value)), value.name]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    for kinds, outline in OUTLINES:
        if isinstance(value, kinds):
            return outline(value, beside)
    if is_dataclass(value):
        held = {f.name: outlined(getattr(value, f.name), beside) for f in fields(value)}
        return ["record", name_of(type(value)), held]
    raise TypeError(f"{type(value).__name__} is nothing that a frame can hold")


def outlined_bytes(value: bytes, beside: Beside) -> Outline:
    """Where they lie."""
    beside.append(value)
    return ["bytes", len(beside) - 1]


def outlined_array(value: Array | np.generic, beside: Beside) -> Outline:
    """An array's place, dtype and shape.

    Raises:
        TypeError: it holds objects.
    """
    array = np.ascontiguousarray(value)
    if array.dtype.kind not in KINDS:
        raise TypeError(f"an array of {array.dtype} is nothing that a frame can hold")
    beside.append(array.reshape(-1).view(np.uint8).data)
    return ["array", len(beside) - 1, array.dtype.str, list(np.shape(value))]


def outlined_mapping(value: Mapping[Any, Any], beside: Beside) -> Outline:
    """Pairs: keys need not be text."""
    return ["dict", [[outlined(k, beside), outlined(v, beside)] for k, v in value.items()]]


def outlined_sequence(value: Any, beside: Beside) -> Outline:
    """Its items, and which kind it is.

    Raises:
        TypeError: a kind of its own, such as a named tuple.
    """
    if type(value) not in SEQUENCES.values():
        raise TypeError(f"{type(value).__name__} is nothing that a frame can hold")
    return [type(value).__name__, [outlined(item, beside) for item in value]]


def outlined_error(value: Exception, beside: Beside) -> Outline:
    """Its class, message and attributes."""
    # What no caller was meant to see: its kind says where to look in the replica's log.
    known = value if isinstance(value, CascadeError) else failed(type(value).__name__)
    held = {name: outlined(item, beside) for name, item in vars(known).items()}
    return ["error", name_of(type(known)), str(known), held]


OUTLINES: tuple[tuple[Any, Callable[[Any, Beside], Outline]], ...] = (
    (bytes, outlined_bytes),
    (np.ndarray | np.generic, outlined_array),
    (Mapping, outlined_mapping),
    (tuple(SEQUENCES.values()), outlined_sequence),
    (Exception, outlined_error),
)


def failed(kind: str) -> StageError:
    """The error of an attempt that ended in a way that is not planned for."""
    return StageError(f"a replica failed: {kind}")


def restored(tree: Any, beside: Sequence[memoryview]) -> Any:
    """The value of a piece of JSON; see `outlined`."""
    if not isinstance(tree, list):
        return tree
    what, *rest = tree
    if what in SEQUENCES:
        return SEQUENCES[what](restored(item, beside) for item in rest[0])
    return RESTORES[what](beside, *rest)


def restored_record(beside: Sequence[memoryview], name: str, held: Mapping[str, Any]) -> object:
    """A record with its fields as they were; they were checked where it was made.

    Raises:
        ValueError: it is no record, or has other fields.
    """
    kind = class_of(name)
    names = {f.name for f in fields(kind)}
    if set(held) != names:
        raise ValueError(f"{name} has other fields: {sorted(names ^ set(held))}")
    record: object = object.__new__(kind)
    for field, item in held.items():
        object.__setattr__(record, field, restored(item, beside))
    return record


def restored_error(
    beside: Sequence[memoryview], name: str, message: str, held: Mapping[str, Any]
) -> CascadeError:
    """An error with its attributes.

    Raises:
        ValueError: it is none of the tree.
    """
    kind = class_of(name)
    if not issubclass(kind, CascadeError):
        raise ValueError(f"{name} is no error of the tree")
    error = kind(message)
    for attribute, item in held.items():
        setattr(error, attribute, restored(item, beside))
    return error


def restored_enum(beside: Sequence[memoryview], name: str, member: str) -> Enum:
    """A member of an enumeration.

    Raises:
        ValueError: it is no enumeration.
    """
    del beside
    kind = class_of(name)
    if not issubclass(kind, Enum):
        raise ValueError(f"{name} is no enumeration")
    return kind[member]


def restored_mapping(beside: Sequence[memoryview], pairs: list[list[Any]]) -> dict[Any, Any]:
    """A mapping."""
    return {restored(k, beside): restored(v, beside) for k, v in pairs}


def restored_bytes(beside: Sequence[memoryview], place: int) -> bytes:
    """Bytes of their own."""
    return bytes(beside[place])


def restored_array(beside: Sequence[memoryview], place: int, dtype: str, shape: list[int]) -> Array:
    """An array of its own memory.

    Raises:
        ValueError: it holds objects, or its bytes are of another number.
    """
    kind = np.dtype(dtype)
    if kind.kind not in KINDS:
        raise ValueError(f"an array of {kind}")
    return np.frombuffer(beside[place], kind).reshape(shape).copy()


RESTORES: Mapping[str, Callable[..., Any]] = {
    "record": restored_record,
    "error": restored_error,
    "enum": restored_enum,
    "dict": restored_mapping,
    "bytes": restored_bytes,
    "array": restored_array,
}


def name_of(kind: type) -> str:
    """How a class is named.

    Raises:
        TypeError: it is none of this project's.
    """
    if kind.__module__.partition(".")[0] not in ROOMS:
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} is not of this project")
    return f"{kind.__module__}:{kind.__qualname__}"


def class_of(name: str) -> type:
    """The class of a name.

    Raises:
        ValueError: no class of this project that is loaded.
    """
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module) if module.partition(".")[0] in ROOMS else None
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or name_of(found) != name:
        raise ValueError(f"{name} is no class that is loaded here")
    return found
