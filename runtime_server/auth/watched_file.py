"""Files that may be replaced while the server runs: read again when they changed.

What was read last and was good stays in use while the new content is bad, and the log says so once.
Knows files and a function that reads them; not what is in them.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from cascade.errors import CascadeError
from cascade.system import bounded_files
from runtime_server.telemetry.logs import log_event

T = TypeVar("T")

Signature = tuple[tuple[int, int, int], ...]
"""Of each file: when it was changed, how long it is, which file it is."""

MAX_WATCHED_BYTES = 1 << 20
"""Certificates, keys and lists of keys are far shorter."""


class WatchedFiles(Generic[T]):
    """The value read from some files, as new as the files; safe to use from several threads."""

    def __init__(self, what: str, paths: tuple[Path, ...], read: Callable[[], T]) -> None:
        """Read the files.

        Args:
            what: their name in the log.
            paths: all of them; the value is read again when one changes.
            read: makes the value; raises `CascadeError` when the files are no good.

        Raises:
            CascadeError: whatever `read` raises.
        """
        self._what = what
        self._paths = paths
        self._read = read
        self._lock = threading.Lock()
        self._seen = self._signature()
        self._value = read()

    def current(self) -> T:
        """The newest good value."""
        with self._lock:
            signature = self._signature()
            if signature != self._seen:
                # Before reading: a file that is bad is read once, and again when it changes.
                self._seen = signature
                self._read_again()
            return self._value

    def _read_again(self) -> None:
        """Take the new value, or keep the old one."""
        try:
            self._value = self._read()
        except CascadeError as exc:
            log_event("reload_refused", level="error", what=self._what, cause=str(exc))
        else:
            log_event("reloaded", what=self._what)

    def _signature(self) -> Signature:
        """What tells a file from its successor; a missing file has a signature too."""
        return tuple(signature_of(path) for path in self._paths)


def signature_of(path: Path) -> tuple[int, int, int]:
    """Time of the last change in nanoseconds, size in bytes and number of a file."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def read_setting(path: Path, field: str) -> bytes:
    """The bytes of a file that a setting names.

    Raises:
        InvalidRequest: it cannot be read or is longer than any such file.
    """
    return bounded_files.read_setting(path, field, MAX_WATCHED_BYTES)
