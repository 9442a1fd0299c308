"""Files replaced under a running server: what is new and good is taken, nothing else is."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cascade.errors import InvalidRequest
from runtime_server.auth.watched_file import WatchedFiles, read_setting


class Reader:
    """Reads one file of digits, and counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.reads = 0

    def __call__(self) -> int:
        """The number in the file."""
        self.reads += 1
        data = read_setting(self._path, "number")
        if not data.isdigit():
            raise InvalidRequest("number: no digits", field="number")
        return int(data)


def replaced(path: Path, text: str) -> None:
    """Another file under the same name."""
    staged = path.with_suffix(".new")
    staged.write_text(text)
    staged.replace(path)


def rewritten(path: Path, text: str) -> None:
    """The same file with other content."""
    path.write_text(text)


def relinked(path: Path, text: str) -> None:
    """As mounted secrets change: the name becomes a link to another file."""
    target = path.parent / f"target-{text}"
    target.write_text(text)
    link = path.parent / "link"
    link.symlink_to(target)
    link.replace(path)


@pytest.mark.parametrize("change", [replaced, rewritten, relinked])
def test_a_changed_file_is_read_again_once(
    change: Callable[[Path, str], None], tmp_path: Path
) -> None:
    """However it changes; and a file that does not is not read twice."""
    path = tmp_path / "number"
    path.write_text("1")
    reader = Reader(path)
    watched = WatchedFiles("number", (path,), reader)
    assert [watched.current() for _ in range(3)] == [1, 1, 1]
    assert reader.reads == 1
    change(path, "22")
    assert [watched.current() for _ in range(3)] == [22, 22, 22]
    assert reader.reads == 2


def test_a_successor_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    """It is another file."""
    path = tmp_path / "number"
    path.write_text("1")
    watched = WatchedFiles("number", (path,), Reader(path))
    status = path.stat()
    staged = tmp_path / "staged"
    staged.write_text("2")
    os.utime(staged, ns=(status.st_atime_ns, status.st_mtime_ns))
    staged.replace(path)
    assert watched.current() == 2


def test_what_is_bad_or_missing_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The old value stays, with one line in the log per change, until something good comes."""
    path = tmp_path / "number"
    path.write_text("1")
    watched = WatchedFiles("number", (path,), Reader(path))
    for spoil in (lambda: path.write_text("no digits"), path.unlink):
        spoil()
        caplog.clear()
        with caplog.at_level("INFO", "runtime_server"):
            assert [watched.current() for _ in range(3)] == [1, 1, 1]
        assert [record.getMessage() for record in caplog.records] == ["reload_refused"]
    path.write_text("3")
    assert watched.current() == 3


def test_what_is_bad_from_the_start_is_an_error(tmp_path: Path) -> None:
    """A server does not begin without its files."""
    path = tmp_path / "number"
    with pytest.raises(InvalidRequest, match="No such file"):
        WatchedFiles("number", (path,), Reader(path))
