"""An error that is a signal's doing is told from one that is not."""

import signal

import pytest

from cascade.errors import TransportError
from cascade.system.interruption import Interrupted, interruption_behind


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
