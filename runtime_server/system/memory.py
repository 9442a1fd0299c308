"""The memory of this process: how much is resident, and giving back what is free.

Knows the system; not what the memory is for.
"""

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

STATM = Path("/proc/self/statm")
M_ARENA_MAX = -8
"""The number of that option in glibc's malloc.h."""
ARENAS = 1


def resident_bytes() -> int:
    """Resident memory of this process; its peak where the system does not tell the present one."""
    try:
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def share_arenas() -> None:
    """Let all threads take their memory from the same pools, where the C library can be told so.

    Each thread would get a pool of its own, and what a network leaves behind in the pool of a
    thread that is gone is not given back: 30 MiB more with every reload of the reference bundle.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Return free memory to the system, where the C library has a call for it.

    Without it the memory of a network that is gone stays with the process: its blocks lie between
    others that are in use.
    """
    with contextlib.suppress(OSError, AttributeError):
        # glibc alone has it; elsewhere there is nothing to do.
        ctypes.CDLL(None).malloc_trim(0)
