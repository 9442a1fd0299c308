"""Fields of another project's configuration in JSON: known by name, of a kind that makes sense.

Knows names and kinds; not what they mean.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import UnsupportedModel
from export.adapters.scheduler_fields import number, whole


@dataclass(frozen=True, slots=True)
class JsonField:
    """What a field may hold, and what it is where it is not given."""

    default: Any
    fits: Callable[[Any], bool]
    words: str


def at_least(least: int) -> Callable[[Any], bool]:
    """Whole numbers from there on."""
    return lambda value: whole(value) and value >= least


def is_truth(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def is_number(value: Any) -> bool:
    """A finite number."""
    return number(value)


def one_of(*values: Any) -> Callable[[Any], bool]:
    """One of a few values; 1 is not true."""
    return lambda value: any(type(value) is type(v) and value == v for v in values)


def list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A list of values that fit, at least one."""
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


def one_or_list(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A value that fits, or a list of them."""
    return lambda value: fits(value) or list_of(fits)(value)


def none_or(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Null, or a value that fits."""
    return lambda value: value is None or fits(value)


def read_fields(
    path: Path, given: Mapping[str, Any], known: Mapping[str, JsonField], unread: tuple[str, ...]
) -> dict[str, Any]:
    """The value of every known field.

    Args:
        path: of the file, and perhaps the part of it, for errors.
        given: what it holds.
        known: by name.
        unread: names of fields that change no picture.

    Raises:
        UnsupportedModel: naming the file and the field.
    """
    found = {name: field.default for name, field in known.items()}
    for name, value in given.items():
        if name in unread:
            continue
        if name not in known:
            raise UnsupportedModel(
                f"{path}: {name} is not known here, and what it changes would be lost; known: "
                f"{', '.join(known)}",
                field=f"{path}:{name}",
            )
        if not known[name].fits(value):
            refuse_value(path, name, value, known[name].words)
        found[name] = value
    return found


def refuse_value(path: Path, name: str, value: Any, supported: str) -> None:
    """Raise for a value.

    Raises:
        UnsupportedModel: naming the file, the field, the value and what is supported.
    """
    raise UnsupportedModel(
        f"{path}: {name} is {str(value)[:80]!r}; supported: {supported}", field=f"{path}:{name}"
    )
