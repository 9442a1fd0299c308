"""The `cascade` command: one door, subcommands brought by whichever packages are installed.

Each package registers its own subcommands through the entry point group `cascade.commands`; this
file knows none of them. A package whose extra is missing says so when its subcommand is called.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from cascade import __version__
from cascade.errors import CascadeError

GROUP = "cascade.commands"
BAD_INPUT, INTERRUPTED = 2, 130
"""Exit codes: the command line or an input is at fault; Ctrl-C."""


def build_parser() -> argparse.ArgumentParser:
    """The parser with every registered subcommand."""
    parser = argparse.ArgumentParser(
        prog="cascade",
        description="A text-to-image cascade, half on the device and half on a server.",
    )
    parser.add_argument("--version", action="version", version=f"edge-cascade {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        entry.load()(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code.

    Args:
        arguments: the command line without the program's name; `sys.argv` when None.
    """
    args = build_parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except CascadeError as exc:
        print(f"error: {exc}", file=sys.stderr)
    except OSError as exc:
        # The rim: whatever file a flag names may be missing, a folder, or somebody else's.
        if exc.strerror is None:
            raise
        where = "" if exc.filename is None else f"{exc.filename}: "
        print(f"error: {where}{exc.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        return INTERRUPTED
    return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
