"""Frozen dataclasses from JSON and back, strictly: no unknown, missing or mistyped field passes.

Knows the types a record may hold (numbers, strings, literals, enumerations, tuples, optional and
nested records, string maps); not what any record means.
"""

import dataclasses
import json
import sys
import types
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cascade.errors import ManifestError

Record = TypeVar("Record")
MAX_FREE_DEPTH = 8
"""Levels of a value whose shape no record declares."""
MAX_FLOAT = sys.float_info.max


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value, for hashes: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def from_json(
    kind: type[Record],
    value: Any,
    path: str = "manifest",
    read: Mapping[str, Any] | None = None,
) -> Record:
    """A record of type `kind` from parsed JSON.

    Args:
        kind: a dataclass.
        value: what the JSON parser returned.
        path: where in the document `value` stands, for errors.
        read: fields that the caller has read, by name: those whose type another field tells.

    Raises:
        ManifestError: naming the path, what was expected and what came.
    """
    if not isinstance(value, dict):
        raise ManifestError(f"{path}: expected an object, got {type(value).__name__}", field=path)
    record: type = kind
    hints = hints_of(record)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    # A field of a newer format may change what the others mean: ignoring it would be a guess.
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise ManifestError(f"{path}: unknown field {unknown[0]!r}", field=f"{path}.{unknown[0]}")
    arguments: dict[str, Any] = dict(read or {})
    for name, field in fields.items():
        if name in arguments:
            continue
        if name in value:
            arguments[name] = convert(hints[name], value[name], f"{path}.{name}")
        # Neither kind of default: the record cannot be made without it.
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ManifestError(f"{path}.{name}: missing", field=f"{path}.{name}")
    return kind(**arguments)


@cache
def hints_of(kind: type) -> dict[str, Any]:
    """The types of a record's fields, worked out once: a manifest holds a hundred records."""
    return get_type_hints(kind)


def convert(hint: Any, value: Any, path: str) -> Any:
    """One value checked against one type hint; `Any` takes whatever JSON can say."""
    if hint is Any:
        return free_value(value, path)
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        return convert_union(parts, value, path)
    if origin is Literal or is_enumeration(hint):
        return convert_choice(hint, value, path)
    if origin in (tuple, dict, Mapping):
        return convert_many(hint, value, path)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value, path)
    return convert_plain(hint, value, path)


def convert_many(hint: Any, value: Any, path: str) -> Any:
    """A list or an object whose items are all of one type."""
    parts = get_args(hint)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise mismatch(path, "a list", value)
        return tuple(convert(parts[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if not isinstance(value, dict):
        raise mismatch(path, "an object", value)
    return {key: convert(parts[1], item, f"{path}.{key}") for key, item in value.items()}


def is_enumeration(hint: Any) -> bool:
    """Whether a type hint is an enumeration."""
    return isinstance(hint, type) and issubclass(hint, Enum)


def convert_choice(hint: Any, value: Any, path: str) -> Any:
    """One of the values of a `Literal`, or the member of an enumeration that has the value."""
    listed = is_enumeration(hint)
    known = [member.value for member in hint] if listed else list(get_args(hint))
    if value not in known:
        raise mismatch(path, f"one of {', '.join(map(str, known))}", value)
    return hint(value) if listed else value


def convert_union(parts: tuple[Any, ...], value: Any, path: str) -> Any:
    """A value of any of several types; null only where the record allows it."""
    if value is None and type(None) in parts:
        return None
    parts = tuple(part for part in parts if part is not type(None))
    kinds = {kind_of(part): part for part in parts}
    if len(parts) > 1 and None not in kinds and len(kinds) == len(parts):
        return from_json(told_kind(kinds, value, path), value, path)
    errors = []
    for part in parts:
        try:
            return convert(part, value, path)
        except ManifestError as exc:
            errors.append(exc)
    # The one that got furthest into the value says most.
    raise max(errors, key=lambda error: len(error.field))


def kind_of(part: Any) -> str | None:
    """The word by which a record of a tagged union is known; None of any other type."""
    if not (dataclasses.is_dataclass(part) and isinstance(part, type)):
        return None
    hint = hints_of(part).get("kind")
    words = get_args(hint) if get_origin(hint) is Literal else ()
    return words[0] if len(words) == 1 else None


def told_kind(kinds: Mapping[str | None, Any], value: Any, path: str) -> Any:
    """Which record of a tagged union a value says that it is."""
    if not isinstance(value, dict):
        raise mismatch(path, "an object", value)
    if "kind" not in value:
        raise ManifestError(f"{path}.kind: missing", field=f"{path}.kind")
    if value["kind"] not in list(kinds):
        raise mismatch(f"{path}.kind", f"one of {', '.join(map(str, kinds))}", value["kind"])
    return kinds[value["kind"]]


def convert_plain(hint: Any, value: Any, path: str) -> Any:
    """A number, string or truth value; JSON's `true` is no number and a whole number is a float."""
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        # JSON as Python reads it also holds NaN, Infinity and whole numbers beyond any float.
        if not -MAX_FLOAT <= value <= MAX_FLOAT:
            raise mismatch(path, "a finite number", value)
        return float(value)
    # In Python `True` is an int; in a manifest it is a mistake.
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise mismatch(path, hint.__name__, value)
    return value


def free_value(value: Any, path: str, depth: int = 0) -> Any:
    """A value of no declared type: text, finite numbers, truth values, null, lists and objects."""
    if isinstance(value, dict | list) and depth >= MAX_FREE_DEPTH:
        raise mismatch(path, f"at most {MAX_FREE_DEPTH} levels", value)
    if isinstance(value, dict):
        return {key: free_value(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(free_value(item, f"{path}[{at}]", depth + 1) for at, item in enumerate(value))
    if isinstance(value, float):
        return convert_plain(float, value, path)
    return value


def mismatch(path: str, expected: str, value: Any) -> ManifestError:
    """The error for a value of the wrong type."""
    return ManifestError(f"{path}: expected {expected}, got {str(value)[:80]!r}", field=path)


def to_json(record: Any) -> Any:
    """A record as what a JSON writer takes: every field, None as null.

    But for a field whose metadata say `left_out`, which is written only where it says something.
    """
    if dataclasses.is_dataclass(record):
        return {
            field.name: to_json(getattr(record, field.name))
            for field in dataclasses.fields(record)
            if not is_left_out(field, getattr(record, field.name))
        }
    if isinstance(record, tuple):
        return [to_json(item) for item in record]
    if isinstance(record, Mapping):
        return {key: to_json(item) for key, item in record.items()}
    if isinstance(record, Enum):
        return record.value
    return record


def is_left_out(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field is not written: one added to a format later, at its default."""
    if not field.metadata.get("left_out"):
        return False
    made = field.default_factory
    default = field.default if made is dataclasses.MISSING else made()
    return bool(value == default)
