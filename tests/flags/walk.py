"""Every flag of every subcommand, found by walking the parsers."""

import argparse
from collections.abc import Iterator

from cascade.commands.cli import build_parser


def subparsers(
    parser: argparse.ArgumentParser, name: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each subcommand by its words, `data prepare` for one below another."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                below = f"{name} {word}".strip()
                inner = list(subparsers(child, below))
                yield from inner or [(below, child)]


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """The long names of a parser's flags and the names of its arguments; help is everybody's."""
    return [
        next((o for o in action.option_strings if o.startswith("--")), action.dest)
        for action in parser._actions
        if action.dest != "help"
    ]


def all_flags() -> list[str]:
    """`generate --cut` for each, and those of the command itself as `cascade --version`."""
    parser = build_parser()
    own = [
        f"cascade {flag}" for flag in flags_of(parser) if flag.startswith("--") or flag == "version"
    ]
    return own + [
        f"{name} {flag}" for name, child in subparsers(parser) for flag in flags_of(child)
    ]


def parsed(*words: str) -> argparse.Namespace:
    """A command line as its subcommand gets it."""
    return build_parser().parse_args(words)
