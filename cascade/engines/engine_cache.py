"""Built engines on disk: under a key that names all they depend on, or not at all.

An engine is native code for one graph, library, processor and set of options. Its file is named by
the hash of that key and carries the key and a checksum before the engine; a file that is truncated,
altered, made for another key, a link, or somebody else's is never handed out: it is built again.
The checksum finds accidents and mix-ups. It is no signature: who can write into the folder can
write a file that passes, so the folder must be its owner's alone, and engines are never accepted
from elsewhere. Knows bytes and files; not what builds or runs an engine.
"""

import fcntl
import hashlib
import json
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cascade.codecs.strict_json import canonical_json
from cascade.errors import EngineError
from cascade.precision import Precision
from cascade.system.bounded_files import NotPlain, open_plain

LOGGER = logging.getLogger(__name__)
"""Unless somebody listens, a warning is one line on standard error."""

CACHE_FOLDER = "tensorrt"
"""Folder of engines in a cache folder that other engines share."""

MAGIC = b"edge-cascade engine 1\n"
LENGTH_BYTES = 8
MAX_HEADER_BYTES = 1 << 20
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
"""Refuse links, do not wait for the writer of a named pipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheKey:
    """All that an engine depends on: when one of these changes, so does the file's name."""

    graph_sha256: str
    """Of the very bytes that the parser reads."""
    library: str
    """`tensorrt` or `tensorrt_rtx`."""
    library_version: str
    target: str
    """Compute capabilities that it is built for, or the processor it was built on."""
    profile: str
    """Ranges of the free axes."""
    precision: Precision
    flags: tuple[str, ...]
    """Every other option of the builder, as `name=value`."""

    @property
    def digest(self) -> str:
        """Sha256 over the canonical key."""
        return hashlib.sha256(canonical_json(asdict(self))).hexdigest()


@dataclass(frozen=True, slots=True)
class Made:
    """What a builder hands over.

    Attributes:
        payload: the serialised engine.
        facts: what is worth knowing of it without reading it: plain JSON values.
    """

    payload: bytes
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An engine that fits its key.

    Attributes:
        payload: the serialised engine.
        facts: what its builder noted.
        built: False when it came from the folder.
        why: why it had to be built, empty when it had not.
        unkept: why it does not lie in the folder now, empty when it does.
    """

    payload: bytes
    facts: dict[str, Any]
    built: bool
    why: str
    unkept: str = ""


class Unfit(Exception):
    """A file in the cache is not what its name promises; the message says in which way."""


class EngineCache:
    """One folder of engines. Any number of processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        """Open the folder; make it if it is not there.

        Raises:
            EngineError: others than the owner could put engines there.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder = folder.resolve(strict=True)
            require_private(self.folder)
        except OSError as exc:
            raise EngineError(f"cache: {folder}: {exc.strerror}", field="cache") from exc

    def path(self, key: CacheKey) -> Path:
        """Where the engine of a key lies or would lie."""
        return self.folder / f"{key.digest}.engine"

    def get_or_build(self, key: CacheKey, build: Callable[[], Made]) -> CachedEngine:
        """The engine of a key, built now if the folder holds none that fits.

        Builders of one key wait for each other; the second finds the work of the first. A folder
        that cannot be written costs that alone: the engine is built, and `unkept` says why it will
        be built again.
        """
        # Without the lock first: the usual case waits for nobody.
        try:
            return self.read(key)
        except Unfit:
            pass
        with ExitStack() as stack:
            unkept = ""
            try:
                stack.enter_context(self.alone(key))
            except EngineError as exc:
                unkept = str(exc)
            # Again under the lock: another process may have built it while this one waited.
            try:
                return self.read(key)
            except Unfit as exc:
                why = str(exc)
            made = build()
            unkept = unkept or self.keep(key, made)
        if unkept:
            LOGGER.warning("%s; the engine will be built again", unkept)
        return CachedEngine(made.payload, made.facts, built=True, why=why, unkept=unkept)

    def keep(self, key: CacheKey, made: Made) -> str:
        """Put an engine in place; returns why that failed, empty when it did not."""
        try:
            self.write(key, made)
        except EngineError as exc:
            return str(exc)
        return ""

    def read(self, key: CacheKey) -> CachedEngine:
        """The engine of a key from the folder.

        Raises:
            Unfit: there is none, or the file is not whole, not ours or not of this key.
        """
        payload, facts = unseal(read_own_file(self.path(key)), key)
        return CachedEngine(payload, facts, built=False, why="")

    def write(self, key: CacheKey, made: Made) -> None:
        """Put an engine in place: at every moment the file is the old one or the new one, whole."""
        path = self.path(key)
        # Beside the target, for a rename is atomic only within a file system.
        temporary = self.folder / f".{key.digest}.{os.getpid()}.{secrets.token_hex(4)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(seal(key, made))
                file.flush()
                # Contents before the name: after a loss of power it must not name an empty file.
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(self.folder)
        except OSError as exc:
            raise EngineError(f"cache: cannot write {path}: {exc.strerror}", field="cache") from exc
        finally:
            # On a file system that can only be read there is nothing to remove, and it says so.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextmanager
    def alone(self, key: CacheKey) -> Iterator[None]:
        """Hold the lock of a key; it ends with this process, however that ends."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self.folder / f"{key.digest}.lock", flags, 0o600)
        except OSError as exc:
            raise EngineError(f"cache: cannot lock: {exc.strerror}", field="cache") from exc
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as exc:
                raise EngineError(f"cache: cannot lock: {exc.strerror}", field="cache") from exc
            yield
        # Closing gives the lock back. The file stays: removing it would let two hold two locks.
        finally:
            os.close(descriptor)


def open_cache(folder: Path | None) -> EngineCache | None:
    """The cache in a folder, for whom it is only a saving of time.

    None where nothing is to be kept, the folder cannot be made, or others could write into it.
    """
    if folder is None:
        return None
    try:
        return EngineCache(folder)
    except EngineError as exc:
        LOGGER.warning("%s; engines will be built again", exc)
        return None


def built_targets(folder: Path) -> Iterator[str]:
    """What the engines in a folder were built for, one for each; see `CacheKey.target`.

    Reads headers alone and trusts nothing: what cannot be read is passed over.
    """
    start = len(MAGIC) + LENGTH_BYTES
    for path in sorted(folder.glob("*.engine")):
        try:
            with open_plain(path) as file:
                head = file.read(start)
                length = int.from_bytes(head[len(MAGIC) :], "little")
                if not head.startswith(MAGIC) or length > MAX_HEADER_BYTES:
                    continue
                yield str(json.loads(file.read(length))["key"]["target"])
        except (OSError, NotPlain, ValueError, KeyError, TypeError):
            continue


def seal(key: CacheKey, made: Made) -> bytes:
    """The bytes of a cache file: magic, length of the header, header, engine."""
    facts = canonical_json(made.facts)
    header = canonical_json(
        {
            "key": asdict(key),
            "facts": facts.decode(),
            "size_bytes": len(made.payload),
            "sha256": checksum(facts, made.payload),
        }
    )
    return MAGIC + len(header).to_bytes(LENGTH_BYTES, "little") + header + made.payload


def unseal(data: bytes, key: CacheKey) -> tuple[bytes, dict[str, Any]]:
    """Engine and facts of a cache file.

    Raises:
        Unfit: not such a file, of another key, truncated or altered.
    """
    start = len(MAGIC) + LENGTH_BYTES
    if not data.startswith(MAGIC) or len(data) < start:
        raise Unfit("the file is not one of this cache")
    length = int.from_bytes(data[len(MAGIC) : start], "little")
    # The length comes from the file: nothing is parsed that was not bounded.
    if length > MAX_HEADER_BYTES or len(data) < start + length:
        raise Unfit("the file is truncated")
    try:
        header = json.loads(data[start : start + length])
        same_key = canonical_json(header["key"]) == canonical_json(asdict(key))
        facts, size, sha256 = header["facts"], header["size_bytes"], header["sha256"]
        payload = data[start + length :]
        whole = len(payload) == size and checksum(facts.encode(), payload) == sha256
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Unfit("the header cannot be read") from exc
    if not same_key:
        raise Unfit("the file was made for another key")
    if not whole:
        raise Unfit("the engine is truncated or altered")
    noted: dict[str, Any] = json.loads(facts)
    return payload, noted


def checksum(facts: bytes, payload: bytes) -> str:
    """Sha256 over both."""
    digest = hashlib.sha256(facts)
    digest.update(payload)
    return digest.hexdigest()


def read_own_file(path: Path) -> bytes:
    """The bytes of a plain file that its owner, who must be this user, alone may write.

    Raises:
        Unfit: missing, a link, not a plain file, or open to others.
    """
    try:
        file = open_plain(path)
    except FileNotFoundError as exc:
        raise Unfit("not built yet") from exc
    except NotPlain as exc:
        raise Unfit("not a plain file of its own") from exc
    except OSError as exc:
        raise Unfit(f"the file cannot be opened: {exc.strerror}") from exc
    with file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & OTHERS_MAY_WRITE:
            raise Unfit("others than this user could have written the file")
        try:
            return file.read()
        except OSError as exc:
            raise Unfit(f"the file cannot be read: {exc.strerror}") from exc


def require_private(folder: Path) -> None:
    """Raise unless only this user (and root) can change what lies in a folder, or swap the folder.

    Args:
        folder: absolute, without links.

    Raises:
        EngineError: naming the folder that is open to others and how to close it.
    """
    user = os.geteuid()
    status = folder.stat()
    if status.st_uid != user or status.st_mode & OTHERS_MAY_WRITE:
        raise EngineError(
            f"cache: {folder} can be written by others, and engines are native code: "
            f"chmod 700 it, or give a folder of your own",
            field="cache",
        )
    for parent in folder.parents:
        status = parent.stat()
        # In a sticky folder (/tmp) others can add names but not take away ours.
        loose = status.st_mode & OTHERS_MAY_WRITE and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, user) or loose:
            raise EngineError(
                f"cache: {parent}, above {folder}, can be written by others: give a cache folder "
                f"that only you can move",
                field="cache",
            )


def sync_folder(folder: Path) -> None:
    """Make a rename last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
