"""Memory that processes of one machine share and nobody can change, found by its name.

Files of Linux that lie in memory alone: one that was sealed stays as it is for all, so who has
checked it may rely on it. It is found among the open files of running processes, and gone with the
last that has it. Elsewhere nothing is shared. Does not know what the bytes are.

References:
    memfd_create(2); fcntl(2), "File Sealing"; proc_pid_fd(5).
"""

import contextlib
import ctypes
import errno
import glob
import hashlib
import mmap
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from weakref import finalize

if sys.platform == "linux":
    import fcntl
    import resource

CAN_SHARE = sys.platform == "linux" and sys.maxsize > 1 << 32
LEAST_SHARED = 16 << 20
"""Bytes; to look for less costs as much as it saves."""
PREFIX = "edge-cascade-"
SEALS = 0b1111
"""No more seals, no shrinking, no growing, no writing."""
MAP_FIXED = 0x10
WAIT_S = 60.0
"""For a process that makes the memory that this one wants; it may have been stopped."""
LOOK_AGAIN_S = 0.01


@contextmanager
def alone(file: BinaryIO) -> Iterator[None]:
    """Exclude other processes that would make the same memory; not for ever, nor at any cost.

    Args:
        file: open; what the memory is made of.
    """
    until = time.monotonic() + WAIT_S
    # Some file systems lock nothing: then two may make it, and each has its own.
    with contextlib.suppress(OSError):
        while time.monotonic() < until:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOOK_AGAIN_S)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def find_sealed(wanted: Collection[str]) -> dict[str, int]:
    """Open descriptors of memory that a process of this user has, sealed, by name.

    Args:
        wanted: names.
    """
    links = {f"/memfd:{PREFIX}{name} (deleted)": name for name in wanted}
    found: dict[str, int] = {}
    # Not pathlib's, which a process that ends meanwhile stops.
    for path in glob.iglob("/proc/[0-9]*/fd/*"):  # noqa: PTH207
        with contextlib.suppress(OSError):
            name = links.get(os.readlink(path), "")  # noqa: PTH115
            if name and name not in found:
                found[name] = checked(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    return found


def read_sealed(name: str, file: BinaryIO | BytesIO, size_bytes: int) -> int:
    """Make such memory of the next bytes of a file; the open descriptor.

    Args:
        name: that others find it by.
        file: is read from where it stands.
        size_bytes: how many; of a file that ends before, the rest is zeros.

    Raises:
        OSError: there are too few descriptors left, or the file cannot be read.
    """
    descriptor = os.memfd_create(PREFIX + name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, size_bytes)
        with mmap.mmap(descriptor, size_bytes) as memory, memoryview(memory) as part:
            file.readinto(part)  # type: ignore[union-attr]
        # Refused while anybody may write to it: the mapping is gone by now.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    return checked(descriptor)


def checked(descriptor: int) -> int:
    """A descriptor, or its end where it is not sealed or one too many.

    Raises:
        OSError: the file's bytes or size can change, it is another user's, or half of this
            process's descriptors are taken.
    """
    sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
    # The lowest free number is given out: this many are taken.
    is_spare = descriptor < resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    if sealed and is_spare and os.fstat(descriptor).st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EPERM, "not sealed, or too many open files")


class SharedCopy:
    """Some bytes in memory that all processes share which have such a copy; as long as it lives."""

    def __init__(self, data: bytes, made_of: Path) -> None:
        """Find another process's copy, or make one.

        Args:
            data: the bytes.
            made_of: the file that they are of.

        Raises:
            OSError: nothing can be shared here.
        """
        if not CAN_SHARE or len(data) < LEAST_SHARED:
            raise OSError(errno.ENOTSUP, "not shared")
        name = hashlib.sha256(data).hexdigest()
        with made_of.open("rb") as file, alone(file):
            found = find_sealed({name}) or {name: read_sealed(name, BytesIO(data), len(data))}
        finalize(self, os.close, found[name])
        self.memory = mmap.mmap(-1, len(data), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        """The bytes."""
        show_sealed(self.memory, 0, len(data), found[name])
        # Another made it: its name is no proof.
        if hashlib.sha256(self.memory).hexdigest() != name:
            raise OSError(errno.EBADMSG, "another's copy differs")


def show_sealed(memory: mmap.mmap, begin: int, size_bytes: int, descriptor: int) -> None:
    """Put such memory in the place of a part of a mapping, or zeros again.

    Args:
        memory: of this process.
        begin: of the part, a multiple of a page.
        size_bytes: of the part.
        descriptor: of memory of that size; -1 for zeros, which take none until written to.

    Raises:
        OSError: the system has no room for another mapping.
    """
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + begin
    access = mmap.PROT_READ | mmap.PROT_WRITE
    # Private: who writes there has a copy of that page, as of any memory of a process.
    flags = mmap.MAP_PRIVATE | MAP_FIXED | (mmap.MAP_ANONYMOUS if descriptor < 0 else 0)
    if c_mmap()(address, size_bytes, access, flags, descriptor, 0) != address:
        raise OSError(ctypes.get_errno(), "mmap failed")


@cache
def c_mmap() -> Any:
    """The C library's `mmap`: Python's takes no address."""
    function = ctypes.CDLL(None, use_errno=True).mmap
    numbers = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *numbers)
    function.restype = ctypes.c_void_p
    return function
