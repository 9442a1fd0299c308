"""A file as its bytes come from elsewhere, hashed on the way: by chunks where the manifest has any.

What an earlier attempt left is taken over as far as it is right. Knows an open file and its entry;
not where bytes come from.
"""

import hashlib
import os
from typing import BinaryIO

from cascade.errors import ManifestError
from cascade.graph_spec import CHUNK_BYTES, FileEntry

PIECE_BYTES = 1 << 20
"""Of a file that is read or written at a time."""


class GrowingFile:
    """A file as its bytes come: never longer than listed, every chunk checked when it is whole."""

    def __init__(self, file: BinaryIO, entry: FileEntry, chunk_bytes: int = CHUNK_BYTES) -> None:
        """A file of which nothing is known yet.

        Args:
            file: opened to be read and written.
            entry: what the manifest says of it.
            chunk_bytes: size of the chunks that the manifest has hashes of.
        """
        self._chunk_bytes = chunk_bytes
        self._file = file
        self._entry = entry
        self._whole, self._chunk = hashlib.sha256(), hashlib.sha256()
        self._checked = 0
        """Bytes in chunks that were found right."""
        self.size = 0

    def resume(self) -> int:
        """Take over what is there, as far as it is right; returns how many bytes that are."""
        try:
            self._count_file()
        except ManifestError:
            self._keep(self._checked)
            self._count_file()
        if self.size == self._entry.size_bytes and not self._is_right():
            self._keep(0)
        self._file.seek(self.size)
        return self.size

    def add(self, piece: bytes) -> None:
        """Append bytes that came.

        Raises:
            ManifestError: none, more than listed, or of another hash; chunks that are right stay.
        """
        try:
            if not piece:
                raise ManifestError(f"{self._entry.name}: a piece without bytes came")
            # Counted first: what is too long never reaches the disk.
            self._count(piece)
        except ManifestError:
            self._keep(self._checked)
            raise
        self._file.write(piece)

    def finish(self) -> None:
        """Check the whole.

        Raises:
            ManifestError: it ended early, or its hash is another one.
        """
        entry = self._entry
        if self.size != entry.size_bytes:
            raise ManifestError(
                f"{entry.name}: the manifest says {entry.size_bytes} bytes, {self.size} came: "
                "run the command again to go on"
            )
        if not self._is_right():
            self._keep(0)
            raise ManifestError(
                f"{entry.name}: its sha256 is not the one of the manifest; nothing of it was kept"
            )
        self._file.flush()
        os.fsync(self._file.fileno())

    def _count_file(self) -> None:
        """Count what the file holds."""
        self._file.seek(0)
        while piece := self._file.read(PIECE_BYTES):
            self._count(piece)

    def _is_right(self) -> bool:
        """Whether the hash of all bytes is the listed one."""
        return self._whole.hexdigest() == self._entry.sha256

    def _count(self, piece: bytes) -> None:
        """Hash bytes, and compare the hash of each chunk that they complete."""
        entry = self._entry
        if self.size + len(piece) > entry.size_bytes:
            raise ManifestError(
                f"{entry.name}: more than the {entry.size_bytes} bytes of the manifest came"
            )
        self._whole.update(piece)
        view = memoryview(piece)
        while entry.chunks and view:
            number, within = divmod(self.size, self._chunk_bytes)
            part = view[: self._chunk_bytes - within]
            self._chunk.update(part)
            self.size += len(part)
            view = view[len(part) :]
            if self.size % self._chunk_bytes and self.size != entry.size_bytes:
                continue
            if self._chunk.hexdigest() != entry.chunks[number]:
                raise ManifestError(f"{entry.name}: chunk {number} is not the one of the manifest")
            self._chunk = hashlib.sha256()
            self._checked = self.size
        self.size += len(view)

    def _keep(self, size: int) -> None:
        """Remove all but the first bytes, and forget what was counted."""
        self._whole, self._chunk = hashlib.sha256(), hashlib.sha256()
        self.size = self._checked = 0
        self._file.flush()
        self._file.truncate(size)
