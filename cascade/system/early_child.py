"""A process of this interpreter that is started before its command line is known.

The interpreter and the modules that it will need load meanwhile, on another core. It reads lines of
JSON from its standard input: more modules to import, then the command line, and is from then on
that command. Where none comes it ends with its parent. Knows processes and `cascade`; not which
command will come.
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

    def load(self, modules: Sequence[str]) -> None:
        """Have it import more while it waits; what cannot be imported its command will say."""
        self._send({"import": list(modules)})

    def become(self, words: Sequence[str]) -> bool:
        """Give it its command line.

        Args:
            words: of `cascade`, without the program's name.

        Returns:
            Whether it took it; one that has ended is released.
        """
        if self._send(list(words)):
            return True
        self.close()
        return False

    def _send(self, value: object) -> bool:
        """One line; False where it has ended, or the line is too long."""
        line = json.dumps(value).encode() + b"\n"
        pipe = self.process.stdin
        if pipe is None or len(line) > LONGEST_LINE:
            return False
        try:
            pipe.write(line)
            pipe.flush()
        # It has ended, or somebody closed the pipe.
        except (OSError, ValueError):
            return False
        return True

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


def load_early(modules: Sequence[str]) -> bool:
    """Have the child that `take_early` would hand out import more; False where there is none."""
    for child in _waiting:
        child.load(modules)
    return bool(_waiting)


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
    import_all(modules)
    while line := read_line(0):
        asked = json.loads(line)
        if isinstance(asked, list):
            sys.argv = ["cascade", *asked]
            return int(import_module("cascade.commands.cli").main())
        import_all(asked["import"])
    return 0


def import_all(modules: Sequence[str]) -> None:
    """Import; what is not installed the command says better, once it is known."""
    for module in modules:
        with contextlib.suppress(ImportError):
            import_module(module)


if __name__ == "__main__":
    sys.exit(wait_and_become(sys.argv[1:]))
