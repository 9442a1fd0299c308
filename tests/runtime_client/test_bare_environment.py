"""What the environment lacks costs a cache, never a picture: homes, disks, temporary folders."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cascade.addresses import UNIX_PREFIX
from cascade.bundle.bundle import Bundle
from cascade.errors import TransportError
from runtime_client.local.private_server import private_folder
from tests.support.command_line import (
    PATIENCE_S,
    PROMPT,
    SMALL_FILES,
    WITHOUT_A_NAME,
    cascade,
    generate_here,
    generate_split,
)

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become a user of no name")
has_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="openvino keeps what it compiled; it is not installed"
)
HOMES = ("HOME", "XDG_CACHE_HOME")
ON_FULL_DISKS = """
mount -t tmpfs -o size=64k tmpfs "$1" && dd if=/dev/zero of="$1/filling" bs=1k 2>/dev/null
shift; exec "$@"
"""
WITHOUT_TEMPORARY_FOLDERS = """
mount -t tmpfs tmpfs /mnt
for place in /tmp /var/tmp /dev/shm "$1"; do
    mount --bind $place $place && mount -o remount,bind,ro $place || exit 99
done
shift; exec "$@"
"""


def can_mount() -> bool:
    """Whether a process of ours may have mounts of its own."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


can_have_mounts = pytest.mark.skipif(not can_mount(), reason="needs a mount namespace of its own")


def mounted(script: str, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """A command with other mounts than ours."""
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(folder), *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd="/",
        env={name: value for name, value in os.environ.items() if name != "TMPDIR"},
    )


@is_root
def test_a_user_of_no_name_gets_a_picture(bundle: Bundle, tmp_path: Path) -> None:
    """HOME unset and no entry for the user: nothing is kept, and nothing is said."""
    program = (sys.executable, "-c", WITHOUT_A_NAME)
    output = tmp_path / "a.png"
    arguments = generate_here(bundle.folder, output, "--quiet")
    found = cascade(*arguments, without=HOMES, program=program)
    assert (found.returncode, found.stderr) == (0, "")
    assert output.exists()


@is_root
def test_a_user_of_no_name_can_serve(bundle: Bundle) -> None:
    """The server's plan looks for the same folder."""
    arguments = ("serve", "--dry-run", "--bundle", str(bundle.folder), "--listen", "127.0.0.1:0")
    program = (sys.executable, "-c", WITHOUT_A_NAME)
    found = cascade(*arguments, without=HOMES, program=program)
    assert found.returncode == 0, found.stderr


@is_root
def test_what_lies_in_the_cache_needs_one(bundle: Bundle) -> None:
    """`cascade tune` has nowhere to put its record, and says what would help before it measures."""
    program = (sys.executable, "-c", WITHOUT_A_NAME)
    found = cascade("tune", str(bundle.folder), without=HOMES, program=program)
    assert found.returncode == 2
    assert found.stderr.startswith("error: cache: this user has no home folder: set XDG_CACHE_HOME")


@has_openvino
@pytest.mark.parametrize("cache", ["/proc/nowhere", "/dev/null"])
def test_a_cache_that_cannot_be_made_costs_a_line(
    bundle: Bundle, tmp_path: Path, cache: str
) -> None:
    """A file in its place, a file system that takes none: the picture, and a word on it."""
    output = tmp_path / "a.png"
    found = cascade(
        *generate_here(bundle.folder, output, "--engine", "openvino", "--quiet"),
        environment={"XDG_CACHE_HOME": cache},
    )
    assert found.returncode == 0, found.stderr
    assert output.exists()
    assert {line.partition(":")[0] for line in found.stderr.splitlines()} == {"cache"}


@has_openvino
def test_a_cache_on_a_full_disk_costs_a_line(bundle: Bundle, tmp_path: Path) -> None:
    """Every engine is too large for it, the picture is not."""
    program = (sys.executable, "-c", SMALL_FILES.format(size=8192))
    output = tmp_path / "a.png"
    found = cascade(
        *generate_here(bundle.folder, output, "--engine", "openvino", "--quiet"),
        environment={"XDG_CACHE_HOME": str(tmp_path / "cache")},
        program=program,
    )
    assert found.returncode == 0, found.stderr
    assert output.exists()
    assert "File too large; the engine will be built again" in found.stderr
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path for path in kept if path.name.startswith(".")] == []
    assert all(path.stat().st_size < 8192 for path in kept)


@has_openvino
@can_have_mounts
def test_a_full_cache_stops_neither_generate_nor_serve(bundle: Bundle, tmp_path: Path) -> None:
    """A file system without one free byte."""
    cache, output = tmp_path / "cache", tmp_path / "a.png"
    cache.mkdir()
    command = ["env", f"XDG_CACHE_HOME={cache}", sys.executable, "-m", "cascade"]
    arguments = generate_here(bundle.folder, output, "--engine", "openvino", "--quiet")
    found = mounted(ON_FULL_DISKS, cache, *command, *arguments)
    assert found.returncode == 0, found.stderr
    assert output.exists()
    serve = ("serve", "--dry-run", "--bundle", str(bundle.folder), "--engine", "openvino")
    found = mounted(ON_FULL_DISKS, cache, *command, *serve, "--listen", "127.0.0.1:0")
    assert found.returncode == 0, found.stderr


@can_have_mounts
def test_no_temporary_folder_is_said_with_a_remedy(bundle: Bundle, tmp_path: Path) -> None:
    """Where none can be written a private server has no socket: one line; its remedies work."""
    output = Path("/mnt/a.png")
    split = generate_split(bundle.folder, output, "--quiet")
    command = (sys.executable, "-m", "cascade")
    found = mounted(WITHOUT_TEMPORARY_FOLDERS, tmp_path, *command, *split)
    assert found.returncode == 3, found.stderr
    assert found.stderr.startswith("error: the private server finds no folder for its socket: set")
    for remedy in (
        (*command, *generate_here(bundle.folder, output, "--quiet")),
        (*command, *split, "--fallback", "local"),
        ("env", "TMPDIR=/mnt", *command, *split),
    ):
        found = mounted(WITHOUT_TEMPORARY_FOLDERS, tmp_path, *remedy)
        assert found.returncode == 0, found.stderr


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for a socket in one of its folders; pytest's is not."""
    with TemporaryDirectory(prefix="c-", dir="/tmp") as folder:
        yield Path(folder)


def test_a_private_folder_goes_where_it_can(short: Path) -> None:
    """The named place first, then the next; not where sockets cannot be, nor at too long a path."""
    named, long = short / "named", short / ("long" * 20)
    named.mkdir()
    long.mkdir()
    for environment, parent in (
        ({"TMPDIR": str(named)}, named),
        ({"TMPDIR": "/proc", "XDG_RUNTIME_DIR": str(named)}, named),
        ({"TMPDIR": "relative"}, short),
        ({"TMPDIR": str(long)}, short),
        ({}, short),
    ):
        folder = private_folder(environment, (str(short),))
        assert folder.parent == parent
        assert list(folder.iterdir()) == []
    assert list(long.iterdir()) == []
    with pytest.raises(TransportError, match="set TMPDIR to one"):
        private_folder({"TMPDIR": "/proc"}, ("/proc", "/dev/null"))


@pytest.mark.parametrize("seconds", ["1e10", "nan", "inf", "-1", "0", "604801"])
def test_a_time_that_no_clock_has_is_refused(bundle: Bundle, tmp_path: Path, seconds: str) -> None:
    """Before any work, in one line."""
    found = cascade(*generate_split(bundle.folder, tmp_path / "a.png", "--timeout", seconds))
    assert found.returncode == 2
    assert found.stderr.startswith("error: timeout_s: expected more than 0 seconds and at most")


def test_a_week_is_allowed(bundle: Bundle, tmp_path: Path) -> None:
    """The longest time that may be asked for goes through every clock on the way."""
    output = tmp_path / "a.png"
    found = cascade(*generate_split(bundle.folder, output, "--timeout", "604800", "--quiet"))
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("serve", "--drain-grace-s", "1e10"), "drain_grace_s"),
        (("serve", "--stage-probe-s", "inf"), "stage_probe_s"),
        (("tune", "--seconds", "nan"), "seconds"),
        (("tune", "--seconds", "1e300"), "seconds"),
    ],
)
def test_other_times_are_bounded_too(arguments: tuple[str, ...], field: str) -> None:
    """Wherever seconds are taken from a command line."""
    found = cascade(*arguments)
    assert found.returncode == 2
    assert found.stderr.startswith(f"error: {field}: expected")


def test_what_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    """A key that cannot be written: no traceback, whichever command it is."""
    found = cascade("sign", "--make-key", "/proc/nowhere/key")
    assert found.returncode == 2
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1


def test_the_folder_that_we_stand_in_may_be_gone(bundle: Bundle, tmp_path: Path) -> None:
    """A shell whose folder somebody removed."""
    script = f'mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir ../gone; exec "$@"'
    program = ("sh", "-c", script, "sh", sys.executable, "-m", "cascade")
    output = tmp_path / "a.png"
    found = cascade(*generate_split(bundle.folder, output, "--quiet"), program=program)
    assert found.returncode == 0, found.stderr
    found = cascade("generate", PROMPT, "-o", "a.png", program=program)
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1


def test_the_private_servers_address_is_short(bundle: Bundle) -> None:
    """Wherever it was made."""
    folder = private_folder()
    assert len(f"{UNIX_PREFIX}{folder}") < 100
    folder.rmdir()
