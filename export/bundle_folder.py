"""A bundle's folder, written at once or not at all: elsewhere an atomic replace."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
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


def write_bundle(out: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write the folder beside its place, then let it take the place of an older one.

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
        (fresh / name).write_bytes(data)
    (fresh / MANIFEST).write_text(write_manifest(manifest))
    old = fresh.with_name(f"{fresh.name}-old")
    if out.exists():
        out.replace(old)
    fresh.replace(out)
    shutil.rmtree(old, ignore_errors=True)


def file_entries(files: Mapping[str, bytes]) -> tuple[FileEntry, ...]:
    """The manifest's list of files, by name."""
    return tuple(
        FileEntry(name=name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        for name, data in sorted(files.items())
    )
