"""Files from other hands: read up to a bound, and where it matters only plain ones.

Knows paths and bytes; not what is in them.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from cascade.errors import InvalidRequest

READ_FLAGS = os.O_RDONLY | sum(
    getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")
)
"""Refuse links, do not wait for the writer of a named pipe, leave line ends alone."""


class NotPlain(Exception):
    """A link, a device, a pipe, or a file with a second name."""


def read_bounded(path: Path, limit: int) -> bytes:
    """All bytes of a file, read no further than a bound.

    Args:
        path: links are followed.
        limit: bytes; a longer file is an error, whatever its size was said to be.

    Raises:
        OSError: it cannot be read, or is longer (EFBIG).
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"more than {limit} bytes", str(path))
    return data


def read_setting(path: Path, field: str, limit: int) -> bytes:
    """All bytes of a file that a setting names.

    Args:
        path: links are followed.
        field: the setting, for the error.
        limit: bytes.

    Raises:
        InvalidRequest: it cannot be read or is longer.
    """
    try:
        return read_bounded(path, limit)
    except OSError as exc:
        raise InvalidRequest(f"{field}: {path}: {exc.strerror}", field=field) from exc


def open_plain(path: Path) -> BinaryIO:
    """A file opened for reading that is no link and has no second name.

    What was opened is what was checked: the descriptor is, not the path.

    Raises:
        NotPlain: it is something else.
        OSError: it cannot be opened; a link is ELOOP.
    """
    file = os.fdopen(os.open(path, READ_FLAGS), "rb")
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        file.close()
        raise NotPlain(f"{path.name} is not a plain file of its own")
    return file
