"""Every subcommand with its arguments, read from argparse.

Knows parsers; not what a subcommand does.
"""

import argparse
from collections.abc import Iterator

from cascade.commands.cli import build_parser
from tests.reference_pages.markdown import table


def below(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Subcommands with the line that describes each."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, sub in action.choices.items():
                yield lines.get(name, ""), sub


def flags(action: argparse.Action) -> str:
    """An argument as it is typed."""
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    if action.choices is not None and not action.metavar:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(
        f"`{flag} {value}`" if value else f"`{flag}`" for flag in action.option_strings
    )


def described(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Its help, with its default filled in."""
    return parser._get_formatter()._expand_help(action) if action.help else ""


def section(line: str, parser: argparse.ArgumentParser, depth: int = 3) -> Iterator[str]:
    """One subcommand and those below it."""
    yield f"{'#' * depth} {parser.prog}"
    yield f"{line[:1].upper()}{line[1:]}." if line else ""
    hidden = (argparse._HelpAction, argparse._SubParsersAction)
    shown = [
        action
        for action in parser._actions
        if not isinstance(action, hidden) and action.help != argparse.SUPPRESS
    ]
    if shown:
        rows = [(flags(action), described(action, parser)) for action in shown]
        yield table(("argument", "meaning"), rows)
    for words, sub in below(parser):
        yield from section(words, sub, depth + 1)


def command_line() -> str:
    """Every subcommand."""
    parts = [text for line, sub in below(build_parser()) for text in section(line, sub)]
    return "\n\n".join(part for part in parts if part)
