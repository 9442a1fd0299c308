"""Standard streams that are closed, full, or no longer read: a line is lost, never a picture."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from tests.support.command_line import CASCADE, PATIENCE_S, cascade, generate_here, in_shell

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def unread(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command whose standard output nobody reads any more, as after `| head`."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [*CASCADE, *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        os.close(writer)


@pytest.fixture(scope="module")
def expected(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> "np.ndarray":
    """The pixels of a run that lacked nothing."""
    output = tmp_path_factory.mktemp("whole") / "a.png"
    assert cascade(*generate_here(bundle.folder, output)).returncode == 0
    return pixels(output)


def pixels(path: Path) -> "np.ndarray":
    """A picture file's."""
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize(
    "redirection",
    [
        ">&-",
        "2>&-",
        "<&- >&- 2>&-",
        pytest.param(">/dev/full", marks=needs_full),
        pytest.param("2>/dev/full", marks=needs_full),
        pytest.param(">/dev/full 2>&1", marks=needs_full),
    ],
)
def test_no_stream_costs_the_picture(
    bundle: Bundle, tmp_path: Path, expected: "np.ndarray", redirection: str
) -> None:
    """The picture is written whole, alone in its folder, and the exit code says so."""
    output = tmp_path / "a.png"
    found = in_shell(redirection, *generate_here(bundle.folder, output))
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr + found.stdout
    np.testing.assert_array_equal(pixels(output), expected)
    assert list(tmp_path.iterdir()) == [output]


def test_a_table_that_nobody_reads_costs_nothing(bundle: Bundle, tmp_path: Path) -> None:
    """The reader that left needs no word."""
    output = tmp_path / "a.png"
    found = unread(*generate_here(bundle.folder, output, "--quiet"))
    assert (found.returncode, found.stderr) == (0, "")
    assert output.exists()
    found = unread(*generate_here(bundle.folder, output))
    assert found.returncode == 0
    assert "Broken" not in found.stderr


@needs_full
def test_a_lost_object_is_an_exit_code(bundle: Bundle, tmp_path: Path) -> None:
    """For programs the object is the result: 1 where it was lost, with the picture written."""
    output = tmp_path / "a.png"
    found = in_shell(">/dev/full", *generate_here(bundle.folder, output, "--json", "--quiet"))
    assert found.returncode == 1
    assert found.stderr.startswith("error: standard output: No space left on device")
    assert output.exists()
    assert unread(*generate_here(bundle.folder, output, "--json", "--quiet")).returncode == 141


def test_a_closed_output_takes_no_picture(bundle: Bundle) -> None:
    """`-o -` with nothing there is refused before any work."""
    found = in_shell(">&-", *generate_here(bundle.folder, Path("-")))
    assert found.returncode == 2
    assert found.stderr == "error: output: standard output is closed; name a file\n"


def printing(bundle: Bundle, folder: Path) -> list[tuple[str, ...]]:
    """Every subcommand that prints and is quick."""
    return [
        ("--help",),
        ("--version",),
        ("generate", "--help"),
        ("inspect", str(bundle.folder)),
        ("inspect", "--json", str(bundle.folder)),
        ("verify", str(bundle.folder)),
        ("serve", "--print-config"),
        ("serve", "--dry-run", "--bundle", str(bundle.folder), "--listen", "127.0.0.1:0"),
        ("sign", "--make-key", str(folder / "key")),
        ("token", "somebody"),
        ("completion", "bash"),
    ]


@needs_full
def test_every_command_says_that_its_output_was_lost(bundle: Bundle, tmp_path: Path) -> None:
    """Full: 1 and one line. Unread: 141 and none. Closed: nobody wanted it."""
    for number, arguments in enumerate(printing(bundle, tmp_path)):
        full = in_shell(">/dev/full", *arguments)
        lines = [line for line in full.stderr.splitlines() if not line.startswith("{")]
        assert full.returncode == 1, (arguments, full.stderr)
        assert len(lines) == 1, (arguments, lines)
        assert lines[0].startswith("error: standard output: No space left"), (arguments, lines)
        for left in (tmp_path / "key", tmp_path / "key.pub"):
            left.unlink(missing_ok=True)
        gone = unread(*arguments)
        assert gone.returncode == 141, (arguments, gone.stderr)
        assert "Traceback" not in gone.stderr, arguments
        for left in (tmp_path / "key", tmp_path / "key.pub"):
            left.unlink(missing_ok=True)
        closed = in_shell(">&-", *arguments)
        assert closed.returncode == 0, (number, arguments, closed.stderr)


def test_an_encoding_without_the_letters_escapes_them(bundle: Bundle) -> None:
    """A prompt in an error line, in a locale that lacks its letters."""
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    found = cascade("inspect", "größe", environment=environment)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr


def test_errors_are_objects_for_programs(bundle: Bundle, tmp_path: Path) -> None:
    """With `--json`: what is wrong on standard output too, also for a wrong command line."""
    output = tmp_path / "a.png"
    nowhere = ("--cut", "2", "--server", f"unix:{tmp_path}/nothing.sock")
    found = cascade(*generate_here(bundle.folder, output, "--json", *nowhere))
    error = json.loads(found.stdout)["error"]
    assert found.returncode == error["exit_code"] == 3
    assert error["reason"] == "TRANSPORT_ERROR"
    assert len(error["request_id"]) == 32
    found = cascade(*generate_here(bundle.folder, Path("-"), "--json", *nowhere))
    assert found.stdout == ""
    assert json.loads(found.stderr.splitlines()[-1])["error"]["exit_code"] == 3
    found = cascade(*generate_here(bundle.folder, output, "--json", "--sed", "1"))
    error = json.loads(found.stdout)["error"]
    assert found.returncode == error["exit_code"] == 2
    assert "did you mean --seed?" in error["message"]
