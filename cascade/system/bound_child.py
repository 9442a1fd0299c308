"""A program that ends with the process that started it, also where that is killed.

Run as a file, it asks Linux to be ended with its parent, and becomes the program. A function run
between fork and exec would do the same, and may deadlock where the parent has threads. Elsewhere
the program is run as it is. Knows processes; no program.
"""

import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def bound(command: Sequence[str]) -> list[str]:
    """A command line that runs another one as a child that ends with this process.

    The kernel counts the thread that starts it as the parent: start it from one that stays.

    Args:
        command: a program's path and its arguments.
    """
    # Isolated and without site: no package is imported, and it starts in some 20 ms.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def ask_to_end_with_parent(parent: int) -> None:
    """From now on SIGTERM comes when the parent ends; nothing where the system has no such thing.

    Args:
        parent: its process id; one that is gone already ends this process.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes  # noqa: PLC0415  of the child alone

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    ask_to_end_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  a program of the caller's, with no shell
