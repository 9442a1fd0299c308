"""What the `cascade` command returns to the shell, and which error means what.

One table for every subcommand; docs/reference/cli.md shows it. Knows errors; not who raises them.
"""

from cascade.errors import (
    CascadeError,
    EngineError,
    InvalidRequest,
    ManifestError,
    MissingExtra,
    UnsupportedModel,
)

DONE = 0
OUTPUT_LOST = 1
"""The work is done, and standard output did not take what it should have shown."""
BAD_INPUT = 2
"""The command line, a file or what is installed is at fault: the same call fails again."""
FAILED = 3
"""A server, the network, an engine or the time allowed: the same call may succeed later."""
START_REFUSED = BAD_INPUT
"""Of `cascade serve`, whatever keeps it from starting: a supervisor must not start it again."""
SIGNALLED = 128
"""Ended by a signal: this plus its number; 129 hung up, 130 Ctrl-C, 143 asked to end."""
OUTPUT_CLOSED = 141
"""Whoever reads standard output has closed it, as `| head` does: what SIGPIPE would return."""

# An engine that names a flag was asked for what it cannot do.
INPUT_ERRORS = (InvalidRequest, ManifestError, MissingExtra, UnsupportedModel)


def exit_code(error: CascadeError) -> int:
    """The exit code of a command that ended with an error."""
    named = isinstance(error, EngineError) and error.field
    return BAD_INPUT if named or isinstance(error, INPUT_ERRORS) else FAILED
