"""The fields of `ServerConfig` as settings: name, type, default and help, for whoever offers them.

A field added to the configuration is a flag and a key of the TOML file with nothing more to do.
Knows how the class is written; neither command lines nor files.
"""

import ast
import inspect
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from runtime_server.config import config
from runtime_server.config.config import ServerConfig

Scalar = type[bool] | type[int] | type[float] | type[str] | type[Path]
SCALARS: tuple[Scalar, ...] = (bool, int, float, str, Path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One field of the configuration."""

    name: str
    kind: Scalar
    """Type of the value, of each one where `many`."""
    many: bool
    """Whether the value is a tuple of them."""
    choices: tuple[str, ...]
    """The only values allowed; empty where the type decides."""
    required: bool
    default: Any
    """None where the field is required."""
    help: str
    """What its docstring says, in one line."""

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")


@cache
def settings() -> tuple[Setting, ...]:
    """Every setting in the order of the fields; reads the class's source once."""
    texts = field_texts()
    return tuple(read_field(field, texts.get(field.name, "")) for field in fields(ServerConfig))


def read_field(field: "Field[Any]", text: str) -> Setting:
    """One field as a setting.

    Raises:
        TypeError: its type is none that a flag or a TOML key can have: a mistake in the class.
    """
    kind, many, choices = read_type(field.type)
    required = field.default is MISSING
    return Setting(
        name=field.name,
        kind=kind,
        many=many,
        choices=choices,
        required=required,
        default=None if required else field.default,
        help=text,
    )


def read_type(annotation: Any) -> tuple[Scalar, bool, tuple[str, ...]]:
    """Type of one value, whether there are many, and the values allowed."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = [part for part in get_args(annotation) if part is not NoneType]
    many = get_origin(annotation) is tuple
    if many:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return str, many, get_args(annotation)
    if annotation not in SCALARS:
        raise TypeError(f"{annotation} is no type of a setting: use one of {SCALARS}")
    return annotation, many, ()


def field_texts() -> dict[str, str]:
    """The docstring under each field; empty where the source is not at hand."""
    try:
        tree = ast.parse(inspect.getsource(config))
    except OSError:
        return {}
    name = ServerConfig.__name__
    (body,) = [n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    texts = {}
    for before, after in pairwise(body):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                texts[before.target.id] = " ".join(text.value.split())
    return texts
