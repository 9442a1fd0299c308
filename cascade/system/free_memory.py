"""Memory that this process has freed, given back to the system.

The C library keeps what was freed, in case it is asked for again. Opening an engine frees several
times what the engine then holds: a quarter of a client's resident memory was such leftovers. Knows
the C library of Linux; elsewhere nothing is done.
"""

import ctypes
import sys
from functools import cache
from typing import Any


def give_back_free_memory() -> None:
    """Return what is free; takes milliseconds, from any thread."""
    trim = trimmer()
    if trim is not None:
        trim(0)


@cache
def trimmer() -> Any:
    """The C library's `malloc_trim`; None where it has none (musl, macOS, Windows)."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
