"""An error that is a signal's doing is told from one that is not."""

import signal
import subprocess
import sys

import pytest

from cascade.errors import TransportError
from cascade.system.interruption import Interrupted, interruption_behind
from tests.support.command_line import PATIENCE_S

LOST = """
import os, signal, sys, threading
from cascade.system.interruption import EndingSignals, Interrupted

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

class Lock:
    def __enter__(self):
        os.kill(os.getpid(), signal.SIGTERM)

    def __exit__(self, *kinds):
        pass

EndingSignals().raise_first()
never = threading.Lock()
never.acquire()
try:
    if sys.argv[1] == "destructor":
        Dropping()
    else:
        with Lock():
            pass
    never.acquire()
except Interrupted as exc:
    print(exc.exit_code)
"""
"""A signal whose exception Python drops, or that comes while a lock is taken; then a wait without
end."""


def failing_cleanup() -> None:
    """A signal, and then what was to be cleaned up after it fails twice."""
    try:
        try:
            raise Interrupted(signal.SIGTERM)
        finally:
            raise RuntimeError("release unlocked lock")
    except RuntimeError as exc:
        raise TransportError("the server went away") from exc


def test_what_fails_while_a_signal_unwinds_is_the_signal() -> None:
    """However many errors lie between."""
    with pytest.raises(TransportError) as failed:
        failing_cleanup()
    found = interruption_behind(failed.value)
    assert isinstance(found, Interrupted)
    assert found.exit_code == 143


def test_an_error_of_its_own_is_not() -> None:
    """Also one with another error behind it, and one that is its own cause."""
    with pytest.raises(TransportError) as failed:
        raise TransportError("gone") from OSError("reset")
    assert interruption_behind(failed.value) is None
    failed.value.__cause__ = failed.value
    assert interruption_behind(failed.value) is None


@pytest.mark.parametrize("place", ["destructor", "lock"])
def test_a_signal_that_could_not_be_raised_ends_the_next_wait(place: str) -> None:
    """Raised anew in the main thread, although that waits for a lock and runs no Python."""
    found = subprocess.run(
        [sys.executable, "-c", LOST, place],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (found.stdout, found.stderr) == ("143\n", "")
