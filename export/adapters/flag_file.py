"""Flags of another project's command, as they are pasted into a file: `--name value`, any order.

Every flag is known by its name and of a kind that makes sense. Knows text; not what a flag means.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import UnsupportedModel

MOST_BYTES = 1 << 16
TRUE, FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")


@dataclass(frozen=True, slots=True)
class Flag:
    """What one flag may hold, and what it is where it is not given."""

    default: Any
    read: Callable[[str], Any]
    """Raises ValueError."""
    words: str


def truth(text: str) -> bool:
    """Yes or no in any of the words for it."""
    if text.lower() not in (*TRUE, *FALSE):
        raise ValueError(text)
    return text.lower() in TRUE


def positive(text: str) -> int:
    """A whole number from 1."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def positive_or_none(text: str) -> int | None:
    """A whole number from 1, or -1 for none."""
    return None if int(text) == -1 else positive(text)


def positives(text: str) -> tuple[int, ...]:
    """Whole numbers from 1 between commas."""
    return tuple(positive(part) for part in text.split(","))


def read_flags(path: Path, known: Mapping[str, Flag], unread: tuple[str, ...]) -> dict[str, Any]:
    """The value of every known flag.

    Args:
        path: of a file of flags.
        known: by name.
        unread: names of flags that change no picture.

    Raises:
        UnsupportedModel: naming the file and the flag.
    """
    found = {name: flag.default for name, flag in known.items()}
    for name, text in pairs(path):
        if name in unread:
            continue
        if name not in known:
            raise UnsupportedModel(
                f"{path}: {name} is not known here, and what it changes would be lost; known: "
                f"{', '.join(known)}",
                field=f"{path}:{name}",
            )
        try:
            found[name] = known[name].read(text)
        except ValueError as exc:
            raise UnsupportedModel(
                f"{path}: {name} is {text[:80]!r}; supported: {known[name].words}",
                field=f"{path}:{name}",
            ) from exc
    return found


def pairs(path: Path) -> list[tuple[str, str]]:
    """Names and values in the order of the file.

    Raises:
        UnsupportedModel: the file is missing, too large, no text or no flags.
    """
    if not path.is_file():
        raise UnsupportedModel(f"{path}: this file is missing", field=str(path))
    data = path.read_bytes()
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES} bytes")
        words = shlex.split(data.decode("utf-8"))
    except ValueError as exc:
        raise UnsupportedModel(f"{path}: no flags: {exc}", field=str(path)) from exc
    found = []
    rest = iter(words)
    for word in rest:
        name, separator, value = word.partition("=")
        if not name.startswith("--"):
            raise UnsupportedModel(
                f"{path}: expected --name value, got {word[:80]!r}", field=str(path)
            )
        if not separator:
            value = next(rest, "")
        found.append((name.removeprefix("--"), value))
    return found
