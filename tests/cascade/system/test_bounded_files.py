"""Files from other hands: bounded, and plain where that is asked for."""

import errno
import os
from pathlib import Path

import pytest

from cascade.errors import InvalidRequest
from cascade.system.bounded_files import NotPlain, open_plain, read_bounded, read_setting


def test_a_file_of_the_bound_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    """The error is the system's own for a file that is too large."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes") as found:
        read_bounded(path, 4)
    assert found.value.errno == errno.EFBIG


def test_a_file_without_an_end_is_read_to_the_bound_only() -> None:
    """What its size is said to be counts for nothing."""
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_bounded(Path("/dev/zero"), 10)


def test_a_setting_is_named_in_the_error(tmp_path: Path) -> None:
    """Missing, or too long."""
    with pytest.raises(InvalidRequest, match=r"tls_key: .*No such file") as found:
        read_setting(tmp_path / "none", "tls_key", 5)
    assert found.value.field == "tls_key"
    (tmp_path / "long").write_bytes(b"123456")
    with pytest.raises(InvalidRequest, match=r"tls_key: .*more than 5 bytes"):
        read_setting(tmp_path / "long", "tls_key", 5)


def test_a_plain_file_is_opened(tmp_path: Path) -> None:
    """And is what is read."""
    (tmp_path / "file").write_bytes(b"data")
    with open_plain(tmp_path / "file") as file:
        assert file.read() == b"data"


def test_links_pipes_and_folders_are_not_opened(tmp_path: Path) -> None:
    """Nor a second name of a file; a pipe without a writer is not waited for."""
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError) as found:  # noqa: PT011  the number says which
        open_plain(tmp_path / "link")
    assert found.value.errno == errno.ELOOP
    with pytest.raises(NotPlain, match="pipe is not a plain file"):
        open_plain(tmp_path / "pipe")
    os.link(tmp_path / "file", tmp_path / "second")
    with pytest.raises(NotPlain, match="second is not a plain file"):
        open_plain(tmp_path / "second")
