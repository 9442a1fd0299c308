"""The `cascade` command: one door; the subcommands are those of `cascade.commands.table`.

A package is imported when one of its subcommands is named, and says then which extra it lacks. Here
errors, signals and lost output become one line and an exit code. Everything but the signals is
imported once they are taken over, so that Ctrl-C during imports shows no traceback.
"""

import sys
from typing import TYPE_CHECKING

from cascade.system.interruption import EndingSignals, interruption_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cascade.commands.parser import CommandParser

SWITCH_S = 0.0005
"""How long a thread runs Python while another wants to. At Python's own 5 ms a thread that opens an
engine waits as long after each call to the system, for one that imports."""
EVERYTHING = "completion"
"""The one subcommand that needs the flags of all others."""


def build_parser(words: "Sequence[str] | None" = None) -> "CommandParser":
    """The parser of the command.

    Args:
        words: the command line. Of the subcommands that it does not name, only the names and what
            each does are there; None registers all of them with their flags.
    """
    from importlib import import_module

    from cascade import __version__
    from cascade.commands import completion
    from cascade.commands.parser import CommandParser
    from cascade.commands.table import COMMANDS

    parser = CommandParser(
        prog="cascade",
        description="A text-to-image cascade, half on the device and half on a server.",
        epilog="Exit codes, signals and streams: docs/reference/cli.md.",
    )
    version = f"edge-cascade {__version__}"
    parser.add_argument("-V", "--version", action="version", version=version)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module, summaries in COMMANDS.items():
        if words is None or EVERYTHING in words or not summaries.keys().isdisjoint(words):
            import_module(module).register(subparsers)
        else:
            for name, summary in summaries.items():
                subparsers.add_parser(name, help=summary)
    completion.register(subparsers, parser)
    return parser


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run one subcommand; returns the exit code.

    Args:
        arguments: the command line without the program's name. None takes `sys.argv`, and this
            process's signals and streams with it: they are the command's then.
    """
    if arguments is not None:
        return run_command(arguments, lambda: None)
    signals = EndingSignals()
    signals.exit_at_once()
    sys.setswitchinterval(SWITCH_S)
    from cascade.commands.early_server import MODULES, wants_server
    from cascade.system.early_child import discard_early, start_early
    from cascade.system.standard_streams import prepare_streams

    prepare_streams()
    if wants_server(sys.argv[1:]):
        # Before the imports of this side: two cores then load two interpreters.
        start_early(MODULES)
    try:
        return run_command(sys.argv[1:], signals.raise_first)
    finally:
        signals.exit_at_once()
        discard_early()


def run_command(words: "Sequence[str]", ready: "Callable[[], None]") -> int:
    """Parse and run; what is raised becomes one line and an exit code.

    Args:
        words: the command line.
        ready: called when there may be something to clean up.
    """
    from cascade.commands.errors import report_error, report_interruption, report_lost_output
    from cascade.errors import CascadeError
    from cascade.system.standard_streams import OutputLost

    args = None
    try:
        try:
            args = build_parser(words).parse_args(words)
            ready()
            code = int(args.run(args))
        finally:
            # Also after `--help`, which leaves by an exception.
            sys.stdout.flush()
    except KeyboardInterrupt as exc:
        return report_interruption(exc, getattr(args, "interrupted", ""))
    except Exception as exc:
        # What fails while a signal unwinds everything is the signal's doing, whatever it is.
        if (interruption := interruption_behind(exc)) is not None:
            return report_interruption(interruption, getattr(args, "interrupted", ""))
        if isinstance(exc, OutputLost):
            return report_lost_output(exc)
        if isinstance(exc, CascadeError | OSError | MemoryError | ImportError):
            return report_error(exc, words)
        raise
    return code


if __name__ == "__main__":
    sys.exit(main())
