"""Freed memory goes back to the system."""

import subprocess
import sys
from pathlib import Path

import pytest

from cascade.system.free_memory import give_back_free_memory, trimmer

KEPT = """
from cascade.system.free_memory import give_back_free_memory

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

blocks = [bytearray(100_000) for _ in range(400)]
last = bytearray(100_000)
del blocks
held = anonymous()
give_back_free_memory()
print(held - anonymous())
"""


@pytest.mark.skipif(trimmer() is None, reason="this C library keeps nothing or gives nothing back")
def test_what_was_freed_under_something_else_is_given_back() -> None:
    """40 MB below a block that is still in use: the C library keeps them until it is told."""
    done = subprocess.run(
        [sys.executable, "-c", KEPT],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
    assert int(done.stdout) > 30_000, "KiB"


def test_it_can_be_asked_anywhere_and_again() -> None:
    """A platform without the call does nothing."""
    give_back_free_memory()
    give_back_free_memory()
