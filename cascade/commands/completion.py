"""`cascade completion`: what a shell needs to complete commands, flags and values.

Written from the parser itself, as data: pressing Tab starts no Python. Files are completed by the
shell, wherever nothing else fits. Knows argparse and bash; zsh reads bash's by its `bashcompinit`.
"""

import argparse
import sys
from collections.abc import Iterator

from cascade.commands.parser import CommandParser

SHELLS = ("bash", "zsh")
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
FUNCTION = """\
_cascade() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} path= word known i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        case "$path $word" in
{descents}
        esac
    done
    known=
    case "$path $prev" in
{values}
    *)
        case "$path" in
{words}
        esac ;;
    esac
    COMPREPLY=($(compgen -W "$known" -- "$cur"))
}}
complete -o default -F _cascade cascade
"""


def register(
    subparsers: "argparse._SubParsersAction[CommandParser]", parser: CommandParser
) -> None:
    """Add the subcommand, last: it completes all others."""
    words = "print what makes a shell complete this command"
    added = subparsers.add_parser(
        "completion",
        help=words,
        description=f"{words.capitalize()}; in ~/.bashrc: source <(cascade completion bash)",
    )
    added.add_argument("shell", choices=SHELLS)
    added.set_defaults(run=lambda args: run(args, parser))


def run(args: argparse.Namespace, parser: CommandParser) -> int:
    """Print the script."""
    sys.stdout.write(script(parser, args.shell))
    return 0


def script(parser: CommandParser, shell: str) -> str:
    """The script for one shell.

    Args:
        parser: of the whole command.
        shell: one of `SHELLS`.
    """
    parsers = dict(every_parser(parser, ""))
    body = FUNCTION.format(
        descents="\n".join(descent(path) for path in parsers if path),
        values="\n".join(line for path, found in parsers.items() for line in choices(path, found)),
        words="\n".join(words(path, found) for path, found in parsers.items()),
    )
    return body if shell == "bash" else ZSH + body


def descent(path: str) -> str:
    """The line that goes down to a subcommand."""
    above, _, name = path.rpartition(" ")
    return f'        "{above} {name}") path="{path}" ;;'


def choices(path: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """A line for every flag whose values are known."""
    for action in visible(parser):
        if action.option_strings and action.choices:
            cases = "|".join(f'"{path} {flag}"' for flag in action.option_strings)
            yield f'    {cases}) known="{" ".join(map(str, action.choices))}" ;;'


def words(path: str, parser: argparse.ArgumentParser) -> str:
    """The line of what may come next: flags, and commands or other words that are known."""
    actions = visible(parser)
    flags = " ".join(flag for action in actions for flag in action.option_strings)
    named = [a for a in actions if not a.option_strings and a.choices]
    if not named:
        # Elsewhere a word is a file, or whatever the user likes.
        return f'        "{path}") [[ $cur == -* ]] && known="{flags}" ;;'
    listed = " ".join(str(name) for action in named for name in action.choices or ())
    return f'        "{path}") known="{listed} {flags}" ;;'


def every_parser(
    parser: argparse.ArgumentParser, path: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser and those below it, by the words that lead there, each after a space."""
    yield path, parser
    for action in visible(parser):
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, below in action.choices.items():
                yield from every_parser(below, f"{path} {name}")


def visible(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a parser takes, but for what its help hides."""
    return [a for a in parser._actions if a.help != argparse.SUPPRESS]  # noqa: SLF001
