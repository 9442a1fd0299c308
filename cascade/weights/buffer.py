"""A component's weights in memory: read and hashed chunk by chunk, once, for all who need them.

What is hashed is memory that nobody can change between the check and its use: this process's own,
or on Linux one copy for all processes of a user, sealed, which each of them hashes for itself.
Chunks that nobody asked for are never read and take no memory; those that nobody holds any longer
give theirs back. Knows files and hashes; not what computes with the tensors.
"""

import hashlib
import mmap
import os
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary, finalize

import numpy as np

from cascade.errors import ManifestError
from cascade.graph_spec import CHUNK_BYTES, FileEntry
from cascade.system.bounded_files import NotPlain, open_plain
from cascade.system.sealed_memory import (
    CAN_SHARE,
    LEAST_SHARED,
    alone,
    find_sealed,
    read_sealed,
    show_sealed,
)
from cascade.types import Array
from cascade.weights.header import DTYPES, StoredTensor, header_bytes, read_header

HASHERS = 2
"""Threads that hash while the next chunk is read."""


class WeightBuffer:
    """One file of weights, as far as it was asked for. Safe to use from several threads."""

    def __init__(self, path: Path, entry: FileEntry) -> None:
        """Reserve addresses for a file; nothing is read.

        Args:
            path: where it lies.
            entry: what the manifest says of it, chunks included.
        """
        self._path, self.entry = path, entry
        self._lock = threading.Lock()
        self._memory = private_memory(entry.size_bytes)
        self.checked: set[int] = set()
        """Chunks that are what the manifest says, wherever they came from."""
        self.read: set[int] = set()
        """Those of them that were read from the file."""
        self._header: dict[str, StoredTensor] | None = None
        self._holds_header = False
        self._held: Counter[int] = Counter()
        self._shares = CAN_SHARE and entry.size_bytes >= LEAST_SHARED
        self._sealed: dict[int, int] = {}
        # Views of the memory may outlive this: the memory stays, and is found no longer.
        finalize(self, close_all, self._sealed)

    @property
    def tensors(self) -> dict[str, StoredTensor]:
        """Every tensor of the file by name, from its checked header.

        Raises:
            ManifestError: the file is not what the manifest says, or its header is malformed.
        """
        with self._lock:
            if self._header is None:
                size, name = self.entry.size_bytes, self.entry.name
                self._load([0])
                # Held until the first lease: what is let go here is read and hashed once more.
                length = header_bytes(self._memory[:8], size, name)
                self._header = read_header(self._memory[:length], size, name)
                self._holds_header = True
            return self._header

    def lease(self, names: Iterable[str]) -> "Lease":
        """Some of the tensors, in memory until the lease is released.

        Raises:
            ManifestError: the file is not what the manifest says.
        """
        stored = {name: self.tensors[name] for name in names}
        with self._lock:
            self._load(chunks_of(stored.values()))
            if self._holds_header:
                self._holds_header = False
                self._drop([0])
        return Lease(self, stored)

    @property
    def found_bytes(self) -> int:
        """Bytes of the file that are in memory here or elsewhere, and need no more to be leased."""
        found = find_sealed(set(self.entry.chunks)) if self._shares else {}
        size = sum(os.fstat(descriptor).st_size for descriptor in found.values())
        close_all(found)
        return size

    def view(self, tensor: StoredTensor) -> Array:
        """One tensor over this memory, of its own shape and dtype, not to be written to."""
        kind = DTYPES[tensor.dtype]
        count = tensor.size_bytes // kind.itemsize
        flat = (
            np.frombuffer(self._memory, kind, count, tensor.place[0])
            if count
            else np.empty(0, kind)
        )
        flat.flags.writeable = False
        return flat.reshape(tensor.shape)

    def give_back(self, chunks: Iterable[int]) -> None:
        """Count some holds less; see `Lease`."""
        with self._lock:
            self._drop(chunks)

    def _load(self, chunks: Iterable[int]) -> None:
        """Hold chunks, reading those that nobody holds yet; all or none.

        Raises:
            ManifestError: a chunk is not what the manifest says.
        """
        wanted = list(chunks)
        missing = [chunk for chunk in wanted if not self._held[chunk]]
        if missing:
            try:
                self._read(missing)
            except ManifestError:
                self._forget(missing)
                raise
        self._held.update(wanted)

    def _read(self, chunks: list[int]) -> None:
        """Fill the places of chunks while those before them are hashed."""
        name, size = self.entry.name, self.entry.size_bytes
        hashes = []
        read: set[int] = set()
        try:
            with open_plain(self._path) as file, ThreadPoolExecutor(HASHERS) as pool:
                check_size(file, size, name)
                with self._shared(file, chunks) as found:
                    for chunk in chunks:
                        part = memoryview(self._memory)[slice(*span(chunk, size))]
                        if not self._show(chunk, file, found, read):
                            read_into(part, file, chunk, name)
                            read.add(chunk)
                        hashes.append(pool.submit(hash_of, part))
        except NotPlain as exc:
            raise ManifestError(f"{exc}: links are refused") from exc
        except OSError as exc:
            raise ManifestError(f"{name}: {exc.strerror}") from exc
        for chunk, hashed in zip(chunks, hashes, strict=True):
            check_chunk(self.entry, chunk, hashed.result())
        self.checked.update(chunks)
        self.read |= read

    @contextmanager
    def _shared(self, file: BinaryIO, chunks: list[int]) -> Iterator[dict[str, int]]:
        """Descriptors of the chunks that other processes have, by hash; alone in making more."""
        if not self._shares:
            yield {}
            return
        with alone(file):
            found = find_sealed({self.entry.chunks[chunk] for chunk in chunks})
            try:
                yield found
            finally:
                close_all(found)

    def _show(self, chunk: int, file: BinaryIO, found: dict[str, int], read: set[int]) -> bool:
        """Put the copy of all processes in a chunk's place, made if there is none; or say no.

        Args:
            chunk: which.
            file: that it is read from.
            found: see `_shared`; what is used is taken out of it.
            read: gets the chunk if it is read from the file.
        """
        if not self._shares:
            return False
        begin, end = span(chunk, self.entry.size_bytes)
        name = self.entry.chunks[chunk]
        try:
            if name not in found:
                file.seek(begin)
                found[name] = read_sealed(name, file, end - begin)
                read.add(chunk)
            self._sealed[chunk] = found.pop(name)
            show_sealed(self._memory, begin, end - begin, self._sealed[chunk])
        except OSError:
            # Too many open files, most likely: memory of its own does as well.
            self._forget([chunk])
            return False
        return True

    def _drop(self, chunks: Iterable[int]) -> None:
        """Count holds; what nobody holds gives its memory back."""
        gone = []
        for chunk in chunks:
            self._held[chunk] -= 1
            if not self._held[chunk]:
                gone.append(chunk)
        self._forget(gone)

    def _forget(self, chunks: Iterable[int]) -> None:
        """Give memory back; the addresses stay."""
        if not hasattr(self._memory, "madvise"):
            return
        for chunk in chunks:
            begin, end = span(chunk, self.entry.size_bytes)
            if chunk in self._sealed:
                show_sealed(self._memory, begin, end - begin, -1)
                os.close(self._sealed.pop(chunk))
            self._memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)


class Lease:
    """Tensors of a buffer that stay in memory until they are let go."""

    def __init__(self, buffer: WeightBuffer, stored: Mapping[str, StoredTensor]) -> None:
        self._buffer, self._stored = buffer, dict(stored)
        self.sha256 = buffer.entry.sha256
        """Of the whole file, as the manifest has it."""

    @property
    def tensors(self) -> dict[str, Array]:
        """Every tensor by name, of its own shape and dtype, over the buffer's memory; read only."""
        return {name: self._buffer.view(tensor) for name, tensor in self._stored.items()}

    @property
    def size_bytes(self) -> int:
        """Of all tensors together."""
        return sum(tensor.size_bytes for tensor in self._stored.values())

    def keep(self, names: Iterable[str]) -> None:
        """Let all go but some; what the others alone held gives its memory back.

        Nobody may read the others any longer.
        """
        before = chunks_of(self._stored.values())
        self._stored = {name: self._stored[name] for name in names if name in self._stored}
        self._buffer.give_back(before - chunks_of(self._stored.values()))

    def release(self) -> None:
        """Let all go; a second call is harmless."""
        self.keep(())


class WeightBuffers:
    """The buffers of a bundle's files: one per file for as long as somebody holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buffers: WeakValueDictionary[str, WeightBuffer] = WeakValueDictionary()

    def of(self, path: Path, entry: FileEntry) -> WeightBuffer:
        """The buffer of a file."""
        with self._lock:
            found = self._buffers.get(entry.name)
            if found is None:
                found = self._buffers[entry.name] = WeightBuffer(path, entry)
            return found


def private_memory(size_bytes: int) -> mmap.mmap:
    """Memory of this process alone, from the system, which has it back with the last reference."""
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return mmap.mmap(-1, max(1, size_bytes), **flags)


def close_all(descriptors: dict[Any, int]) -> None:
    """Close what is in a table, and empty it."""
    while descriptors:
        os.close(descriptors.popitem()[1])


def read_into(part: memoryview, file: BinaryIO, chunk: int, name: str) -> None:
    """Read a chunk of a file into its place.

    Raises:
        ManifestError: the file ends before.
    """
    file.seek(chunk * CHUNK_BYTES)
    if file.readinto(part) != len(part):  # type: ignore[attr-defined]
        raise ManifestError(f"{name}: truncated while it was read")


def hash_of(data: memoryview) -> str:
    """The sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def chunks_of(tensors: Iterable[StoredTensor]) -> set[int]:
    """The chunks of a file that hold some tensors."""
    found: set[int] = set()
    for tensor in tensors:
        begin, end = tensor.place
        if end > begin:
            found.update(range(begin // CHUNK_BYTES, (end - 1) // CHUNK_BYTES + 1))
    return found


def span(chunk: int, size_bytes: int) -> tuple[int, int]:
    """First byte of a chunk, and the first one behind it."""
    begin = chunk * CHUNK_BYTES
    return begin, min(begin + CHUNK_BYTES, size_bytes)


def check_size(file: BinaryIO, size_bytes: int, name: str) -> None:
    """Refuse an open file of another size than listed.

    Raises:
        ManifestError: with both sizes.
    """
    found = file.seek(0, 2)
    if found != size_bytes:
        raise ManifestError(f"{name}: the manifest says {size_bytes} bytes, the file has {found}")


def check_chunk(entry: FileEntry, chunk: int, found: str) -> None:
    """Refuse a chunk of another hash than listed.

    Raises:
        ManifestError: naming the file, the chunk and both hashes.
    """
    if found != entry.chunks[chunk]:
        raise ManifestError(
            f"{entry.name}: sha256 of chunk {chunk} is {found}, the manifest says "
            f"{entry.chunks[chunk]}"
        )


def verify_chunks(path: Path, entry: FileEntry, besides: Collection[int] = ()) -> None:
    """Check a whole file against its listed hashes, holding one chunk of it.

    Args:
        path: where it lies.
        entry: what the manifest says of it.
        besides: chunks that are left out, and with them the hash of the whole file.

    Raises:
        ManifestError: a link, or of another size or hash than listed.
    """
    wanted = [chunk for chunk in range(len(entry.chunks)) if chunk not in besides]
    if not wanted:
        return
    whole = hashlib.sha256()
    try:
        with open_plain(path) as file:
            check_size(file, entry.size_bytes, entry.name)
            for chunk in wanted:
                file.seek(chunk * CHUNK_BYTES)
                data = file.read(CHUNK_BYTES)
                whole.update(data)
                check_chunk(entry, chunk, hashlib.sha256(data).hexdigest())
    except NotPlain as exc:
        raise ManifestError(f"{exc}: links are refused") from exc
    except OSError as exc:
        raise ManifestError(f"{entry.name}: {exc.strerror}") from exc
    if not besides and whole.hexdigest() != entry.sha256:
        raise ManifestError(
            f"{entry.name}: sha256 is {whole.hexdigest()}, the manifest says {entry.sha256}"
        )
