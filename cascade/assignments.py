"""`NAME=VALUE`, and lists of them: one way to say a value for all components or for some by name.

Text in, values out: `auto`, `int8`, `base=fp32,sr256=int8`. Knows no bundle and no command line.
"""

from collections.abc import Callable
from typing import TypeVar

AUTO = "auto"
ALL = ""
"""Stands for every component that is not named."""
V = TypeVar("V")


def parse_assignment(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as its two parts.

    Raises:
        ValueError: one of them is missing.
    """
    name, _, value = text.partition("=")
    if not name or not value:
        raise ValueError(f"{text!r} is no NAME=VALUE")
    return name, value


def parse_assignments(text: str, parse: Callable[[str], V]) -> dict[str, V | None]:
    """`VALUE`, or `NAME=VALUE,...`, by name; `auto` is None.

    Args:
        text: as it was given.
        parse: of one value; raises ValueError for what is none.

    Raises:
        ValueError: neither of the two forms, a value that is none, or a name given twice.
    """
    found: dict[str, V | None] = {}
    for part in text.split(","):
        name, sign, word = part.strip().rpartition("=")
        if bool(sign) != bool(name) or name in found:
            raise ValueError(f"{part!r} is no VALUE or NAME=VALUE")
        found[name] = None if word == AUTO else parse(word)
    return found
