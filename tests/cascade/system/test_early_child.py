"""A child that loads before it knows what it is: it becomes a command, or leaves nothing behind."""

import os

import pytest

from cascade.system.early_child import (
    EarlyChild,
    discard_early,
    load_early,
    read_line,
    start_early,
    take_early,
)


def test_it_becomes_the_command_that_it_is_given() -> None:
    """A command that fails says so on the child's standard error, with its exit code."""
    child = EarlyChild(["json", "no.such.module"])
    assert child.become(["inspect", "/nowhere/at/all"])
    _, words = child.process.communicate()
    assert child.process.returncode == 2
    assert b"/nowhere/at/all is not a folder" in words


def test_it_imports_more_while_it_waits() -> None:
    """What cannot be imported is left to the command; the command comes after it all the same."""
    start_early([])
    assert load_early(["json", "no.such.module"])
    child = take_early()
    assert child is not None
    assert child.become(["inspect", "/nowhere/at/all"])
    child.process.communicate()
    assert child.process.returncode == 2
    assert not load_early(["json"])


def test_it_ends_where_no_command_comes() -> None:
    """With its standard input closed, as at its parent's end, it leaves without an error."""
    child = EarlyChild([])
    _, words = child.process.communicate()
    assert (child.process.returncode, words) == (0, b"")
    assert not child.become(["inspect"])


def test_it_is_handed_out_once_and_discarded_once() -> None:
    """Whoever needs it takes it; what nobody took is ended."""
    start_early([])
    child = take_early()
    assert child is not None
    assert take_early() is None
    child.close()
    start_early([])
    discard_early()
    assert take_early() is None


@pytest.mark.parametrize(
    ("sent", "line", "rest"), [(b"[1]\nmore", b"[1]", b"more"), (b"", b"", b"")]
)
def test_nothing_behind_the_line_is_read(sent: bytes, line: bytes, rest: bytes) -> None:
    """What follows is for the command."""
    reading, writing = os.pipe()
    os.write(writing, sent)
    os.close(writing)
    try:
        assert read_line(reading) == line
        assert os.read(reading, 9) == rest
    finally:
        os.close(reading)
