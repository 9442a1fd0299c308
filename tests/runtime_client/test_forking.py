"""A forked child of a process with a client: it ends, and leaves what is not its own alone.

In processes of their own, so that no fork copies the threads of a test session.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle

FORKER = Path(__file__).parents[1] / "support" / "forker.py"
PATIENCE_S = 120
"""A child that hangs does so for ever; one that ends takes a moment, more on a busy machine."""
CASES = [
    *(("private", child) for child in ("end", "use", "close", "own", "iterate", "multiprocessing")),
    *(("named", child) for child in ("end", "iterate")),
    *(("none", child) for child in ("end", "own")),
]


@pytest.mark.parametrize(("server", "child"), CASES)
def test_a_forked_child_leaves_its_parents_client_alone(
    bundle: Bundle, server: str, child: str
) -> None:
    """It is told to make its own, ends by itself, and the parent goes on with server and folder."""
    command = [sys.executable, str(FORKER), str(bundle.folder), server, child]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["parent:ok"]


def test_the_private_server_ends_with_its_client_though_a_child_lives(bundle: Bundle) -> None:
    """A child holds none of its parent's pipes open: closing takes no SIGTERM and no 5 s."""
    command = [sys.executable, str(FORKER), str(bundle.folder), "private", "outlive"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["parent:ok", "server:0"]
