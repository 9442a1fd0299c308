"""Files of a bundle from a source that is not trusted: whole and right, or nothing is kept."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.growing_file import GrowingFile
from cascade.bundle.signature import make_key
from cascade.bundle.transfer import PARTIAL, FolderSource, fetch_bundle
from cascade.errors import CascadeError, ManifestError
from cascade.graph_spec import FileEntry
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Where files come from."""
    return write_tiny_bundle(tmp_path_factory.mktemp("transfer") / "tiny")


Lie = Callable[[bytes], Iterator[bytes]]


def names_in(folder: Path) -> list[str]:
    """What lies in a folder."""
    return [path.name for path in folder.iterdir()]


class Source:
    """A folder as a source that counts, breaks off or lies, as a test wants."""

    def __init__(self, bundle: Bundle, alter: Lie | None = None) -> None:
        self._whole = FolderSource(bundle.folder)
        self._alter = alter
        self.offsets: dict[str, int] = {}

    def manifest(self) -> tuple[bytes, bytes]:
        """The true one."""
        return self._whole.manifest()

    def pieces(self, bundle_id: str, entry: FileEntry, offset: int) -> Iterator[bytes]:
        """The true bytes, altered."""
        self.offsets[entry.name] = offset
        data = b"".join(self._whole.pieces(bundle_id, entry, offset))
        yield from [data] if self._alter is None else self._alter(data)


def endless(data: bytes) -> Iterator[bytes]:
    """A stream without an end."""
    while True:
        yield data


def nothing(data: bytes) -> Iterator[bytes]:
    """A stream of empty pieces without an end."""
    del data
    while True:
        yield b""


LIES: dict[str, Lie] = {
    "another byte": lambda data: iter([bytes([data[0] ^ 1]) + data[1:]]),
    "one byte more": lambda data: iter([data + b"x"]),
    "endless": lambda data: endless(data[:-1] or b"x"),
    "endless and empty": nothing,
    "broken off": lambda data: iter([data[:-1]]),
}


def test_a_side_takes_the_files_of_what_it_runs(bundle: Bundle, tmp_path: Path) -> None:
    """The id is that of the whole bundle; other files can be added, and come once."""
    source, folder = Source(bundle), tmp_path / "a" / "b"
    first = fetch_bundle(source, folder, lambda _: [1])
    assert first.bundle.bundle_id == bundle.bundle_id
    assert set(names_in(folder)) == {"manifest.json", *bundle.files_of([1])}
    source.offsets.clear()
    assert fetch_bundle(source, folder, lambda _: None).copied_bytes > 0
    assert set(source.offsets) == set(bundle.files_of()) - set(bundle.files_of([1]))
    open_bundle(folder).verify_files()
    assert names_in(folder.parent) == ["b"]


@pytest.mark.parametrize("lie", LIES)
def test_what_a_source_lies_about_is_not_kept(bundle: Bundle, tmp_path: Path, lie: str) -> None:
    """No bundle appears; and a true source makes one of what is left."""
    folder = tmp_path / "b"
    with pytest.raises(ManifestError):
        fetch_bundle(Source(bundle, LIES[lie]), folder, lambda _: [1])
    assert not folder.exists()
    sizes = {entry.name: entry.size_bytes for entry in bundle.manifest.files}
    for left in (tmp_path / f"b{PARTIAL}").iterdir():
        assert left.stat().st_size < sizes.get(left.name, 1 << 20)
    fetch_bundle(Source(bundle), folder, lambda _: [1]).bundle.verify_files([1])


def test_a_file_that_broke_off_goes_on_where_it_stopped(bundle: Bundle, tmp_path: Path) -> None:
    """And is begun anew where what is left is not right."""
    folder, partial = tmp_path / "b", tmp_path / f"b{PARTIAL}"
    with pytest.raises(ManifestError, match="run the command again"):
        fetch_bundle(Source(bundle, LIES["broken off"]), folder, lambda _: [1])
    (name,) = bundle.files_of([1])
    begun = (partial / name).stat().st_size
    source = Source(bundle)
    assert fetch_bundle(source, folder, lambda _: [1]).copied_bytes == 1
    assert source.offsets == {name: begun}
    (folder / name).replace(tmp_path / "kept")
    partial.mkdir()
    (partial / name).write_bytes(bytes(begun + 1))
    fetch_bundle(source, folder, lambda _: [1])
    assert source.offsets == {name: 0}


def test_chunks_that_are_right_are_kept(tmp_path: Path) -> None:
    """A wrong one is named, and only the file from there on comes again."""
    data = bytes(range(25))
    chunks = tuple(hashlib.sha256(data[at : at + 10]).hexdigest() for at in (0, 10, 20))
    whole = hashlib.sha256(data).hexdigest()
    entry = FileEntry(name="w", sha256=whole, size_bytes=25, chunks=chunks)
    path = tmp_path / "w"
    with path.open("w+b") as file:
        growing = GrowingFile(file, entry, chunk_bytes=10)
        growing.add(data[:7])
        growing.add(data[7:16])
        with pytest.raises(ManifestError, match="chunk 1"):
            growing.add(b"wrong bytes"[:9])
    assert path.read_bytes() == data[:10]
    path.write_bytes(data[:10] + b"x" * 12)
    with path.open("r+b") as file:
        growing = GrowingFile(file, entry, chunk_bytes=10)
        assert growing.resume() == 10
        growing.add(data[10:])
        growing.finish()
    assert path.read_bytes() == data


def link_at_destination(folder: Path, partial: Path) -> None:
    """A link to a folder of somebody else."""
    (folder.parent / "other").mkdir()
    folder.symlink_to(folder.parent / "other")


def link_at_partial(folder: Path, partial: Path) -> None:
    """The same beside it."""
    (folder.parent / "other").mkdir()
    partial.symlink_to(folder.parent / "other")


def link_in_partial(folder: Path, partial: Path) -> None:
    """A file to be written is a link out of the folder."""
    partial.mkdir()
    for name in ("base.onnx", "manifest.json"):
        (partial / name).symlink_to(folder.parent / "victim")


def other_files(folder: Path, partial: Path) -> None:
    """A folder that is no bundle."""
    folder.mkdir()
    (folder / "photo.jpg").touch()


def other_bundle(folder: Path, partial: Path) -> None:
    """A folder that is another bundle."""
    write_tiny_bundle(folder, steps=7)


@pytest.mark.parametrize(
    "trap", [link_at_destination, link_at_partial, link_in_partial, other_files, other_bundle]
)
def test_nothing_else_is_written_to(
    bundle: Bundle, tmp_path: Path, trap: Callable[[Path, Path], None]
) -> None:
    """No link is followed, and no folder of something else is mixed with a bundle."""
    folder = tmp_path / "b"
    trap(folder, tmp_path / f"b{PARTIAL}")
    with pytest.raises(CascadeError):
        fetch_bundle(Source(bundle), folder, lambda _: [1])
    assert not (tmp_path / "victim").exists()
    assert not (tmp_path / "other").exists() or not names_in(tmp_path / "other")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", ".hidden", "a/b", "manifest.json"])
def test_a_listed_name_that_leads_elsewhere_is_refused(
    bundle: Bundle, tmp_path: Path, name: str
) -> None:
    """Before anything is written."""
    data = FolderSource(bundle.folder).manifest()[0].replace(b'"base.onnx"', f'"{name}"'.encode())

    class Evil(Source):
        def manifest(self) -> tuple[bytes, bytes]:
            return data, b""

    with pytest.raises(ManifestError, match="not a plain file name"):
        fetch_bundle(Evil(bundle), tmp_path / "b", lambda _: None)
    assert not names_in(tmp_path)


def test_a_signature_is_checked_before_the_manifest_is_read(bundle: Bundle, tmp_path: Path) -> None:
    """A bundle that is not signed is refused where a signature is wanted."""
    public = tmp_path / "key.pub"
    public.write_bytes(make_key(tmp_path / "key"))
    with pytest.raises(ManifestError):
        fetch_bundle(Source(bundle), tmp_path / "b", lambda _: None, signed_by=public)
    assert not (tmp_path / "b").exists()
