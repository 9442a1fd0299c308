"""The parser of every subcommand: names in full, mistakes in one line with what was meant.

argparse takes any beginning of a name for the name, so that a mistyped `--image a.png` once was
`--image-index`; and it answers a mistake with its whole usage. Knows argparse; no subcommand.
"""

import argparse
import difflib
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from cascade.errors import InvalidRequest

MOST_FLAGS = 4
"""More of them in a usage line are no help."""


class CommandParser(argparse.ArgumentParser):
    """argparse, strict; also what its `add_subparsers` makes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; refuses an unknown flag before it misses anything else.

        Raises:
            InvalidRequest: the command line is wrong.
        """
        if args is not None and self._subparsers is None:
            self._refuse_unknown_flags(args)
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """As argparse's; where there are many flags, the first line leaves them to the list."""
        flags = [a for a in self._actions if a.option_strings]
        if self.usage is None and self._subparsers is None and len(flags) > MOST_FLAGS:
            words = [in_usage(action) for action in self._actions]
            self.usage = " ".join([self.prog, *filter(None, words), "[flags]"])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """One line for the command's rim to print.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest(f"{message}; see {self.prog} --help", field="arguments")

    def _refuse_unknown_flags(self, words: Sequence[str]) -> None:
        """Raise for the first word that looks like a long flag and is none."""
        for word in words:
            if word == "--":
                return
            name = word.partition("=")[0]
            # argparse as well takes what holds a space for a value.
            if (
                name.startswith("--")
                and " " not in word
                and name not in self._option_string_actions
            ):
                self.error(f"unknown flag {name}{meant(name, self._option_string_actions)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse's, for a value that is none of the choices."""
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        what = "command" if isinstance(action, argparse._SubParsersAction) else "value"  # noqa: SLF001
        hint = meant(str(value), names) or f": expected {', '.join(names)}"
        raise argparse.ArgumentError(
            None if what == "command" else action, f"unknown {what} {value!r}{hint}"
        )


def in_usage(action: argparse.Action) -> str:
    """A word of the command line as its usage shows it; empty for a flag that may be left out."""
    value = str(action.metavar or action.dest.upper())
    if action.option_strings:
        return f"{action.option_strings[0]} {value}" if action.required else ""
    return f"[{value}]" if action.nargs == "?" else value


def meant(word: str, known: Collection[str]) -> str:
    """`: did you mean WORD?` where something known is close; else empty."""
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]}?" if close else ""
