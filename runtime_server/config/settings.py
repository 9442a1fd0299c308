"""The fields of `ServerConfig` as settings: name, type, default and help, for whoever offers them.

A field added to the configuration is a flag and a key of the TOML file with nothing more to do.
Knows how the class is written; neither command lines nor files.
"""

from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from runtime_server.config.config import ServerConfig
from runtime_server.config.setting_field import HELP

Scalar = type[bool] | type[int] | type[float] | type[str] | type[Path]
SCALARS: tuple[Scalar, ...] = (bool, int, float, str, Path)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSetting:
    """One field of the configuration."""

    name: str
    kind: Scalar
    """Type of the value."""
    choices: tuple[str, ...]
    """The only values allowed; empty where the type decides."""
    required: bool
    default: Any
    """None where the field is required."""
    help: str
    """What it means, in one line."""

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")


@cache
def settings() -> tuple[ServerSetting, ...]:
    """Every setting in the order of the fields."""
    return tuple(read_field(field) for field in fields(ServerConfig))


def read_field(field: "Field[Any]") -> ServerSetting:
    """One field as a setting.

    Raises:
        TypeError: its type is none that a flag or a TOML key can have: a mistake in the class.
    """
    kind, choices = read_type(field.type)
    required = field.default is MISSING
    return ServerSetting(
        name=field.name,
        kind=kind,
        choices=choices,
        required=required,
        default=None if required else field.default,
        help=field.metadata[HELP],
    )


def read_type(annotation: Any) -> tuple[Scalar, tuple[str, ...]]:
    """Type of a value, and the values allowed; empty where the type decides.

    Raises:
        TypeError: a flag or a TOML key has no such type.
    """
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = [part for part in get_args(annotation) if part is not NoneType]
    if get_origin(annotation) is Literal:
        return str, get_args(annotation)
    if annotation not in SCALARS:
        raise TypeError(f"{annotation} is no type of a setting: use one of {SCALARS}")
    return annotation, ()
