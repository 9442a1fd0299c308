"""A picture is written whole or not at all, and only where it can be."""

import stat
from pathlib import Path

import pytest

from cascade.errors import InvalidRequest
from runtime_client.cli.picture_file import check_target, part_beside, prepare_folder, write_whole


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    """The new content, nothing else in the folder, readable as any file."""
    path = tmp_path / "a.png"
    for data in (b"first", b"second"):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & stat.S_IRUSR


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """An interruption half-way keeps what was there and removes the part."""
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with part_beside(path) as (part, _):
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_target_that_is_a_folder_fails_typed(tmp_path: Path) -> None:
    """Even when it became one after the check."""
    path = tmp_path / "a.png"
    path.mkdir()
    with pytest.raises(InvalidRequest, match="cannot write"):
        write_whole(path, b"data")
    assert list(tmp_path.iterdir()) == [path]


def test_good_targets_pass(tmp_path: Path) -> None:
    """A new file in a folder that takes files; the check leaves nothing behind."""
    for name in ("a.PNG", "a.jpg", "a.JPEG", "a.webp", "a.avif"):
        check_target(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.gif", "must end in .png, .webp, .jpg, .jpeg, .avif, or be - for standard output"),
        ("a", "must end in .png"),
        ("missing/a.png", "does not exist"),
        ("folder.png", "is a folder"),
    ],
)
def test_bad_targets_are_refused(tmp_path: Path, name: str, words: str) -> None:
    """Before any work, with what to do."""
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InvalidRequest, match=words) as found:
        check_target(tmp_path / name)
    assert found.value.field == "output"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that takes no files")
def test_a_folder_that_takes_no_files_is_refused() -> None:
    """Found out by trying, because permissions do not say everything."""
    with pytest.raises(InvalidRequest, match="cannot write to /proc"):
        check_target(Path("/proc/a.png"))


def test_a_preview_folder_is_made(tmp_path: Path) -> None:
    """Once; a second run reuses it; a file in its place is refused."""
    folder = tmp_path / "previews"
    prepare_folder(folder)
    prepare_folder(folder)
    assert folder.is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidRequest) as found:
        prepare_folder(tmp_path / "file")
    assert found.value.field == "preview"
