"""A bundle's files taken from elsewhere: some or all of them, checked as they come, resumed.

The source is not trusted: names, sizes and hashes are those of the manifest, whose id is the same
everywhere. What has come lies beside the destination until it is whole. Knows files and hashes; not
where a source has its bytes from.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from cascade.bundle.bundle import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MAX_SIGNATURE_BYTES,
    SIGNATURE_NAME,
    Bundle,
    check_entry,
    open_bundle,
    read_plain_file,
)
from cascade.bundle.growing_file import PIECE_BYTES, GrowingFile
from cascade.bundle.manifest import Manifest, read_manifest
from cascade.errors import InvalidRequest, ManifestError
from cascade.graph_spec import FileEntry
from cascade.system.bounded_files import NotPlain, open_plain

PARTIAL = ".partial"
"""Ends the name of the folder beside the destination where files lie until they are whole."""
WRITE_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

Wanted = Callable[[Manifest], Iterable[int] | None]
"""Positions of the components whose files are taken; None takes every file."""
Say = Callable[[str], None]


class BundleSource(Protocol):
    """Where a bundle's bytes come from; nothing that it gives is trusted."""

    def manifest(self) -> tuple[bytes, bytes]:
        """The bytes of the manifest and of its signature, which are empty where there is none."""
        ...

    def pieces(self, bundle_id: str, entry: FileEntry, offset: int) -> Iterator[bytes]:
        """The bytes of a file from an offset to its end.

        Args:
            bundle_id: of the bundle that the manifest is of.
            entry: the file.
            offset: bytes that are not needed, 0 to its size.
        """
        ...


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A bundle in a folder of this machine."""

    folder: Path

    def manifest(self) -> tuple[bytes, bytes]:
        """See `BundleSource`."""
        if not self.folder.is_dir():
            raise ManifestError(f"{self.folder} is not a folder: name the folder of a bundle")
        signature = self.folder / SIGNATURE_NAME
        return (
            read_plain_file(self.folder / MANIFEST_NAME, MAX_MANIFEST_BYTES),
            read_plain_file(signature, MAX_SIGNATURE_BYTES) if signature.exists() else b"",
        )

    def pieces(self, bundle_id: str, entry: FileEntry, offset: int) -> Iterator[bytes]:
        """See `BundleSource`."""
        del bundle_id
        yield from file_pieces(self.folder, entry, offset)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """What came of it."""

    bundle: Bundle
    files: tuple[str, ...]
    """The files that were wanted."""
    copied_bytes: int
    """Of them, those that came now; the others were there already."""


def file_pieces(folder: Path, entry: FileEntry, offset: int) -> Iterator[bytes]:
    """A listed file of a folder from an offset on, a piece at a time.

    Raises:
        ManifestError: missing, a link, not a plain file, or of another size.
    """
    try:
        with open_plain(folder / entry.name) as file:
            if os.fstat(file.fileno()).st_size != entry.size_bytes:
                raise ManifestError(f"{entry.name}: its size is not the {entry.size_bytes} listed")
            file.seek(offset)
            while piece := file.read(PIECE_BYTES):
                yield piece
    except NotPlain as exc:
        raise ManifestError(f"{exc}: links are refused") from exc
    except OSError as exc:
        raise ManifestError(f"{entry.name}: {exc.strerror}") from exc


def fetch_bundle(
    source: BundleSource,
    folder: Path,
    wanted: Wanted,
    signed_by: Path | None = None,
    say: Say = lambda _: None,
) -> Fetched:
    """Take files of a bundle from a source into a folder, which is a bundle then.

    Args:
        source: has the bundle.
        folder: the destination: new, or the same bundle with other files of it.
        wanted: which components' files are taken.
        signed_by: PEM file with the public key that must have signed it; None requires none.
        say: is given one line per file.

    Raises:
        ManifestError: what came is not what the manifest says; nothing of it was kept.
        InvalidRequest: the folder holds something else, or cannot be written.
        CascadeError: whatever the source raises; what came before is resumed the next time.
    """
    data, signature = source.manifest()
    manifest = checked_manifest(data, signature, signed_by)
    chosen = wanted(manifest)
    positions = None if chosen is None else tuple(chosen)
    names = Bundle(folder, manifest).files_of(positions)
    staged = Staged.beside(folder, data, manifest)
    came: dict[str, int] = {}
    try:
        for entry in manifest.files:
            if entry.name in names and not staged.has(entry):
                came[entry.name] = staged.take(source, entry)
                say(f"{entry.name}  {came[entry.name]:,} bytes")
        staged.finish(tuple(came), data, signature)
    except OSError as exc:
        raise refused(f"{folder}: {exc.strerror}") from exc
    bundle = open_bundle(folder, signed_by, runs=positions)
    return Fetched(bundle=bundle, files=tuple(names), copied_bytes=sum(came.values()))


def checked_manifest(data: bytes, signature: bytes, signed_by: Path | None) -> Manifest:
    """A manifest from elsewhere, every listed name and hash looked at.

    Raises:
        ManifestError: too long, not signed by the key, or unsafe in any field.
    """
    if len(data) > MAX_MANIFEST_BYTES or len(signature) > MAX_SIGNATURE_BYTES:
        raise ManifestError(f"the manifest is longer than the {MAX_MANIFEST_BYTES} bytes allowed")
    if signed_by is not None:
        # Only a caller that requires signatures needs the package that checks them.
        from cascade.bundle.signature import check_signature  # noqa: PLC0415

        check_signature(data, signature, signed_by)
    manifest = read_manifest(data)
    for entry in manifest.files:
        check_entry(entry)
    return manifest


@dataclass(frozen=True, slots=True)
class Staged:
    """A destination, and the folder beside it where files lie until they are whole."""

    folder: Path
    partial: Path
    manifest: Manifest

    @classmethod
    def beside(cls, folder: Path, data: bytes, manifest: Manifest) -> "Staged":
        """The staging of one bundle.

        Args:
            folder: the destination.
            data: bytes of the manifest.
            manifest: the same, read.

        Raises:
            InvalidRequest: the destination or what was begun there is of something else.
        """
        partial = folder.parent / f"{folder.name}{PARTIAL}"
        begun = partial / MANIFEST_NAME
        if folder.is_symlink() or partial.is_symlink():
            raise refused(f"{folder} or {partial.name} is a link: name a new folder")
        if folder.exists() and not (folder / MANIFEST_NAME).exists() and not is_empty(folder):
            raise refused(f"{folder} is there and no bundle: name a new folder")
        if other_bundle(folder, data):
            raise refused(f"{folder} holds another bundle: name a new folder")
        if other_bundle(partial, data):
            raise refused(f"{partial} was begun for another bundle: remove it")
        try:
            partial.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_plain(begun, data)
        except OSError as exc:
            raise refused(f"{partial}: {exc.strerror}") from exc
        return cls(folder, partial, manifest)

    def has(self, entry: FileEntry) -> bool:
        """Whether the destination has a file already: none was ever put there unchecked."""
        path = self.folder / entry.name
        return path.is_file() and not path.is_symlink() and path.stat().st_size == entry.size_bytes

    def take(self, source: BundleSource, entry: FileEntry) -> int:
        """Take one file, from where an earlier attempt ended; returns the bytes that came.

        Raises:
            ManifestError: it is not what the manifest says; the bytes that are wrong are dropped.
        """
        descriptor = os.open(self.partial / entry.name, WRITE_FLAGS, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            if os.fstat(descriptor).st_nlink > 1:
                raise ManifestError(f"{entry.name}: links are refused")
            growing = GrowingFile(file, entry)
            begun = growing.resume()
            pieces = source.pieces(self.manifest.bundle_id, entry, begun)
            with closing(cast(Any, pieces)):
                for piece in pieces:
                    growing.add(piece)
                    if growing.size == entry.size_bytes:
                        break
            growing.finish()
            return entry.size_bytes - begun

    def finish(self, names: Iterable[str], data: bytes, signature: bytes) -> None:
        """Put files that were taken into the destination.

        Args:
            names: of those files, each whole.
            data: of the manifest, which comes last: it makes a bundle of the folder.
            signature: of the signature; empty where there is none.
        """
        self.folder.mkdir(exist_ok=True)
        for name in names:
            (self.partial / name).replace(self.folder / name)
        for name, content in ((SIGNATURE_NAME, signature), (MANIFEST_NAME, data)):
            if content and not (self.folder / name).exists():
                write_plain(self.partial / name, content)
                (self.partial / name).replace(self.folder / name)
        (self.partial / MANIFEST_NAME).unlink(missing_ok=True)
        # What another choice of components began is still there to be resumed.
        if is_empty(self.partial):
            self.partial.rmdir()
        else:
            write_plain(self.partial / MANIFEST_NAME, data)


def write_plain(path: Path, data: bytes) -> None:
    """Write a file, through no link."""
    with os.fdopen(os.open(path, WRITE_FLAGS | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


def refused(words: str) -> InvalidRequest:
    """The error for a destination that cannot be one."""
    return InvalidRequest(f"destination: {words}", field="destination")


def is_empty(folder: Path) -> bool:
    """Whether a path is a folder with nothing in it."""
    return folder.is_dir() and not any(folder.iterdir())


def other_bundle(folder: Path, data: bytes) -> bool:
    """Whether a folder has a manifest, and not these bytes."""
    path = folder / MANIFEST_NAME
    return path.exists() and read_plain_file(path, MAX_MANIFEST_BYTES) != data
