"""Standard input, output and error of a command, whatever the shell made of them.

A closed one becomes the null device: the next file that is opened would otherwise be given its
number, and whatever a library prints would end up in it. Output that nobody takes any more is one
typed exception; error output that nobody takes is dropped, for progress is not worth a picture.
Knows file descriptors; not what is printed.
"""

import io
import os
import sys
from typing import Any, TextIO

from cascade.errors import InvalidRequest

INPUT, OUTPUT, ERROR = 0, 1, 2


class OutputLost(Exception):
    """Standard output took no more; from now on what is printed goes nowhere."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output: {error.strerror}")
        self.closed = isinstance(error, BrokenPipeError)
        """Whether its reader has simply gone."""


class GuardedOutput(io.FileIO):
    """Standard output, whose failures are no other file's."""

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        """As a file's; raises `OutputLost`."""
        try:
            return super().write(data)
        except OSError as exc:
            # What is still buffered must not fail once more when the process ends.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            raise OutputLost(exc) from exc


class LosableOutput(io.FileIO):
    """Standard error: what it does not take is dropped."""

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        """As a file's; never fails."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


def prepare_streams() -> None:
    """Make the three streams of this process safe to use; see the module."""
    closed = open_missing()
    if closed or sys.stdin is None:
        sys.stdin = sys.stdin or open(INPUT, closefd=False)  # noqa: SIM115 - lives as long
    sys.stdout = text_stream(GuardedOutput(OUTPUT, "w", closefd=False), sys.stdout)
    sys.stderr = text_stream(LosableOutput(ERROR, "w", closefd=False), sys.stderr)
    sys.stdout.closed_at_start = OUTPUT in closed  # type: ignore[attr-defined]


def open_missing() -> frozenset[int]:
    """Open the null device in place of each of the three that is closed; says which were."""
    closed = set()
    for number in (INPUT, OUTPUT, ERROR):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, and all below are in use.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003
            closed.add(number)
    return frozenset(closed)


def text_stream(raw: io.FileIO, old: TextIO | None) -> TextIO:
    """Text onto a raw file, encoded as before; what the encoding lacks is escaped."""
    # What was written before must come out before what follows.
    if old is not None:
        old.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if old is None else old.encoding,
        errors="backslashreplace",
        # People see every line at once; a pipe gets blocks.
        line_buffering=raw.isatty() or raw.fileno() == ERROR,
    )


def refuse_without_output() -> None:
    """Raise unless standard output goes somewhere that a picture may go.

    Raises:
        InvalidRequest: it was closed when the command began, or is a terminal.
    """
    if getattr(sys.stdout, "closed_at_start", False):
        raise InvalidRequest("output: standard output is closed; name a file", field="output")
    if sys.stdout.isatty():
        raise InvalidRequest(
            "output: a terminal shows no pictures; redirect standard output, or name a file",
            field="output",
        )
