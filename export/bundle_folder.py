"""A bundle's folder, written at once or not at all: elsewhere an atomic replace."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cascade.bundle.manifest import Manifest, write_manifest
from cascade.bundle.wire_limits import check_wire_limits
from cascade.errors import InvalidRequest
from cascade.graph_spec import FileEntry

MANIFEST = "manifest.json"


def check_out(out: Path) -> None:
    """Refuse to take the place of what is no bundle: it would be deleted with all that it holds.

    Raises:
        InvalidRequest: a file, or a folder with something else in it.
    """
    if not out.name or (out.exists() and not out.is_dir()):
        raise InvalidRequest(f"out: {out} is no folder's name: name a new one", field="out")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise InvalidRequest(
            f"out: {out} holds something else than a bundle, which would be deleted: name a new "
            "folder",
            field="out",
        )


def write_bundle(out: Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> None:
    """Write the folder beside its place, then let it take the place of an older one.

    Args:
        out: the folder.
        manifest: lists the files.
        files: by name; of a path the file that lies there, whose own name has to go afterwards.

    Raises:
        InvalidRequest: something else than a bundle is there.
        ManifestError: the bundle could not be served; nothing was written.
    """
    check_out(out)
    check_wire_limits(manifest)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    fresh.chmod(0o755)
    for name, data in files.items():
        place_file(fresh / name, data)
    (fresh / MANIFEST).write_text(write_manifest(manifest))
    old = fresh.with_name(f"{fresh.name}-old")
    if out.exists():
        out.replace(old)
    fresh.replace(out)
    shutil.rmtree(old, ignore_errors=True)


def place_file(path: Path, data: bytes | Path) -> None:
    """Write a file, or have one that lies elsewhere here too.

    Gigabytes are not copied where the file system can have a second name for them; the first one is
    that of a folder which is deleted next, and bundles hold no file of two names.
    """
    if isinstance(data, bytes):
        path.write_bytes(data)
        return
    try:
        path.hardlink_to(data)
    except OSError:
        shutil.copyfile(data, path)


def file_entries(
    files: Mapping[str, bytes | Path], weights: Iterable[FileEntry] = ()
) -> tuple[FileEntry, ...]:
    """The manifest's list of files, by name.

    Args:
        files: those whose bytes are here are hashed.
        weights: entries of the others.
    """
    found = {entry.name: entry for entry in weights}
    for name, data in files.items():
        if isinstance(data, bytes):
            digest = hashlib.sha256(data).hexdigest()
            found[name] = FileEntry(name=name, sha256=digest, size_bytes=len(data))
    return tuple(found[name] for name in sorted(found))


@contextmanager
def weights_folder(out: Path) -> Iterator[Path]:
    """A folder beside a bundle's place for files of weights on their way into it; deleted after."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-weights-", dir=out.parent) as folder:
        yield Path(folder)
