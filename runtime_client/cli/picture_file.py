"""The picture on disk: refused early, written whole or not at all.

Knows a path and bytes; not where the picture comes from.
"""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cascade.errors import InvalidRequest
from cascade.system.standard_streams import refuse_without_output
from runtime_client.cli.picture_format import STANDARD_OUTPUT, format_of

# O_EXCL follows no link: nobody can lay one under the name that is about to be written.
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
MODE = 0o666
"""Before the user's umask, as for any file that a program writes for its user."""


def check_target(path: Path) -> None:
    """Raise `InvalidRequest` unless a picture can be written there; leaves nothing behind."""
    format_of(path)
    if path == STANDARD_OUTPUT:
        refuse_without_output()
        return
    if path.is_dir():
        raise InvalidRequest(f"output: {path} is a folder; name a file", field="output")
    if not path.parent.is_dir():
        raise InvalidRequest(
            f"output: the folder {path.parent} does not exist; create it first", field="output"
        )
    check_writable(path.parent, "output")


def prepare_folder(folder: Path) -> None:
    """Create the folder for previews if it is missing.

    Raises:
        InvalidRequest: it cannot be created or written to.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as exc:
        raise InvalidRequest(f"preview: {folder}: {exc.strerror}", field="preview") from exc
    check_writable(folder, "preview")


def check_writable(folder: Path, field: str) -> None:
    """Raise `InvalidRequest` unless a file can be made in that folder."""
    try:
        with part_beside(folder / "probe"):
            pass
    except OSError as exc:
        raise InvalidRequest(
            f"{field}: cannot write to {folder}: {exc.strerror}", field=field
        ) from exc


def write_picture(path: Path, data: bytes) -> None:
    """Write a picture to its file, or to standard output.

    Raises:
        InvalidRequest: the system refused; what was there before is unharmed.
        OutputLost: standard output did not take it.
    """
    if path != STANDARD_OUTPUT:
        write_whole(path, data)
        return
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it.

    Raises:
        InvalidRequest: the system refused; what was there before is unharmed.
    """
    try:
        with part_beside(path) as (part, descriptor):
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(data)
                file.flush()
                # Before the rename: after a power cut a name that points to an empty file would be
                # worse than none.
                os.fsync(file.fileno())
            part.replace(path)
    except OSError as exc:
        raise InvalidRequest(
            f"output: cannot write {path}: {exc.strerror}", field="output"
        ) from exc


@contextmanager
def part_beside(path: Path) -> Iterator[tuple[Path, int]]:
    """A new file in the same folder, open for writing, removed at the end if it is still there."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, NEW_FILE, MODE)
    try:
        yield part, descriptor
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
