"""A process of this interpreter that is started before its command line is known.

The interpreter and the modules that it will need load meanwhile, on another core. It reads one line
from its standard input, the command line as JSON, and is from then on that command; where the line
never comes it ends with its parent. Knows processes and `cascade`; not which command will come.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module

LONGEST_LINE = 1 << 16
"""Bytes of a command line; a longer one is started anew."""


class EarlyChild:
    """One process that waits for its command line."""

    def __init__(self, modules: Sequence[str]) -> None:
        """Start it.

        Args:
            modules: to import while it waits.

        Raises:
            OSError: the system refused.
        """
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Ctrl-C goes to the whole foreground group: it must end by its parent's word alone.
            start_new_session=True,
        )

    def become(self, words: Sequence[str]) -> bool:
        """Give it its command line.

        Args:
            words: of `cascade`, without the program's name.

        Returns:
            Whether it took it; one that has ended is released.
        """
        line = json.dumps(list(words)).encode() + b"\n"
        pipe = self.process.stdin
        if pipe is not None and len(line) <= LONGEST_LINE:
            # It has ended, or somebody closed the pipe.
            with contextlib.suppress(OSError, ValueError):
                pipe.write(line)
                pipe.flush()
                return True
        self.close()
        return False

    def close(self) -> None:
        """End it without a command."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


_waiting: list[EarlyChild] = []
"""The one of this process, until it is taken."""


def start_early(modules: Sequence[str]) -> None:
    """Start a child that `take_early` hands out; without one where the system refuses."""
    with contextlib.suppress(OSError):
        _waiting.append(EarlyChild(modules))


def take_early() -> EarlyChild | None:
    """The child that was started early, once; None where there is none, or it has ended."""
    child = _waiting.pop() if _waiting else None
    if child is not None and child.process.poll() is not None:
        child.close()
        return None
    return child


def discard_early() -> None:
    """End a child that was not taken."""
    while _waiting:
        _waiting.pop().close()


def read_line(descriptor: int) -> bytes:
    """Bytes up to the end of a line, and none beyond it: what follows is the command's to read."""
    line = bytearray()
    while len(line) <= LONGEST_LINE:
        byte = os.read(descriptor, 1)
        if byte in (b"", b"\n"):
            break
        line += byte
    return bytes(line)


def wait_and_become(modules: Sequence[str]) -> int:
    """The child's whole life; returns the exit code."""
    for module in modules:
        # What is not installed the command says better, once it is known.
        with contextlib.suppress(ImportError):
            import_module(module)
    line = read_line(0)
    if not line:
        return 0
    sys.argv = ["cascade", *json.loads(line)]
    return int(import_module("cascade.commands.cli").main())


if __name__ == "__main__":
    sys.exit(wait_and_become(sys.argv[1:]))
