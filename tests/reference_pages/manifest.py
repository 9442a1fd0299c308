"""The manifest as tables: every record that it can hold, found from the types of its fields.

Knows dataclasses and their docstrings; a new family appears by itself.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import EnumType
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cascade.bundle.manifest import Manifest
from cascade.families import FAMILIES
from tests.reference_pages.markdown import field_docs, summary, table

ROOTS = (Manifest, *(family.spec_type for family in FAMILIES.values()))
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}


def parts(hint: Any) -> list[Any]:
    """A type and all those it is made of."""
    return [hint, *(part for below in get_args(hint) for part in parts(below))]


def records() -> list[type]:
    """Every record, those that hold others first."""
    found: list[type] = []
    waiting: list[Any] = list(ROOTS)
    while waiting:
        kind = waiting.pop(0)
        if kind in found:
            continue
        found.append(kind)
        for hint in get_type_hints(kind).values():
            waiting += [part for part in parts(hint) if isinstance(part, type) and is_record(part)]
    return found


def is_record(kind: Any) -> bool:
    """Whether a type is one of the manifest's records."""
    return is_dataclass(kind) and isinstance(kind, type)


def in_json(hint: Any) -> str:
    """A type as JSON has it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = [in_json(part) for part in arguments if part is not type(None)]
        return " or ".join([*kinds, *(["null"] if type(None) in arguments else [])])
    if origin is Literal:
        return " or ".join(f'`"{value}"`' for value in arguments)
    if origin is tuple:
        return f"list of {in_json(arguments[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"object of {in_json(arguments[1])}"
    if isinstance(hint, EnumType):
        return " or ".join(f'`"{value.value}"`' for value in hint)
    linked = f"[{hint.__name__}](#{hint.__name__.lower()})" if is_record(hint) else "component"
    return WORDS.get(hint, linked)


def default_of(field: "Field[Any]") -> str:
    """What stands in a manifest that was written with nothing chosen."""
    if field.default_factory is not MISSING:
        return "`{}`"
    if field.default is MISSING:
        return ""
    if field.metadata.get("left_out"):
        return "left out"
    return f"`{json.dumps(field.default)}`"


def described(kind: type) -> str:
    """One record."""
    docs, hints = field_docs(kind), get_type_hints(kind)
    rows = [
        (f"`{f.name}`", in_json(hints[f.name]), default_of(f), docs.get(f.name, ""))
        for f in fields(kind)
    ]
    head = f"### {kind.__name__}\n\n{summary(kind)}\n\n"
    return head + table(("field", "type", "default", "meaning"), rows)


def manifest() -> str:
    """Every record of the manifest."""
    return "\n\n".join(described(kind) for kind in records())
