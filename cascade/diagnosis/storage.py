"""The user's cache folder and the bundle on disk: whether they are there, whole and writable.

Leaves nothing behind. Knows files; not engines.
"""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cascade.bundle.bundle import SIGNATURE_NAME, Bundle, open_bundle
from cascade.bundle.default_bundle import DISTRIBUTION, LocatedBundle, Origin
from cascade.bundle.wire_limits import check_wire_limits
from cascade.diagnosis.findings import Finding, Topic
from cascade.diagnosis.shell import quoted
from cascade.diagnosis.software import pip
from cascade.errors import CascadeError, InvalidRequest

CACHE, BUNDLE = Topic("cache"), Topic("bundle")
LEAST_FREE = 256 << 20
"""Engines compiled for a bundle of 43 MB take up to about as many bytes per engine."""
MOST_FILES = 10_000
"""Counted in the cache; a folder that is not ours must not cost minutes."""
UNKEPT = "what is measured or compiled is not kept"


def cache_findings(folder: Path | None) -> Iterator[Finding]:
    """Where it lies, whether it can be written, how large it is, and what room there is.

    Args:
        folder: the user's; None where there is none.
    """
    if folder is None:
        yield CACHE.warning(
            "folder", f"this user has no home folder: {UNKEPT}",
            "export XDG_CACHE_HOME=/var/tmp/cache", path=None,
        )  # fmt: skip
        return
    problem = why_unwritable(folder)
    if problem:
        yield CACHE.warning(
            "folder", f"{folder} cannot be written: {problem}; {UNKEPT}",
            remedy_for(folder), path=str(folder), writable=False,
        )  # fmt: skip
    else:
        state = "is writable" if folder.is_dir() else "will be made when something is kept"
        yield CACHE.ok("folder", f"{folder} {state}", path=str(folder), writable=True)
    sizes = {name: folder_size(folder / name) for name in ("engines", "tuning")}
    words = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in sizes.items())
    yield CACHE.ok("size", words, **sizes)
    yield of_room(folder)


def why_unwritable(folder: Path) -> str:
    """Why no file can be made in a folder, or in the nearest that is there; empty if one can."""
    there = nearest(folder)
    if not there.is_dir():
        return f"{there} is no folder"
    if there != folder:
        # Nothing is left in a folder of others.
        return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} is read-only for this user"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as exc:
        return str(exc.strerror)


def nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def remedy_for(folder: Path) -> str:
    """What makes a cache writable, or has another one used."""
    if folder.is_dir() and folder.stat().st_uid == os.geteuid():
        return f"chmod u+rwx {quoted(folder)}"
    return "export XDG_CACHE_HOME=/var/tmp/cache"


def folder_size(folder: Path) -> int:
    """Bytes of the files below a folder; 0 where there is none."""
    total = 0
    for number, path in enumerate(folder.rglob("*")):
        if number >= MOST_FILES:
            break
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def of_room(folder: Path) -> Finding:
    """Free space of the file system."""
    place = nearest(folder)
    free = shutil.disk_usage(place).free
    words = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE:
        words = f"{words}; what engines compiled is made again when it is needed"
        return CACHE.warning("room", words, f"rm -r {quoted(folder / 'engines')}", free=free)
    return CACHE.ok("room", words, free=free)


def bundle_findings(
    located: LocatedBundle, signed_by: Path | None
) -> tuple[Bundle | None, list[Finding]]:
    """Whether a bundle is whole; the bundle, where it can be used.

    Args:
        located: where it lies, and why that one is meant.
        signed_by: PEM file with the public key that must have signed it; None requires none.
    """
    found = [BUNDLE.ok("folder", f"{located.folder} ({located.origin})", path=str(located.folder))]
    try:
        bundle = open_bundle(located.folder, signed_by, runs=())
    except CascadeError as exc:
        # A key that is no key is no fault of the bundle.
        named = isinstance(exc, InvalidRequest)
        remedy = "cascade doctor --require-signature KEY.pem.pub" if named else ""
        return None, [*found, BUNDLE.error("manifest", str(exc), remedy or mending(located, exc))]
    manifest = bundle.manifest
    found.append(
        BUNDLE.ok(
            "manifest",
            f"{manifest.name}, id {bundle.bundle_id[:12]}, {len(manifest.components)} components",
            name=manifest.name,
            id=bundle.bundle_id,
        )
    )
    try:
        bundle.verify_present()
        check_wire_limits(manifest)
    except CascadeError as exc:
        return None, [*found, BUNDLE.error("files", str(exc), mending(located, exc))]
    found.append(of_files(bundle))
    found.append(of_signature(bundle, signed_by))
    return bundle, found


def of_files(bundle: Bundle) -> Finding:
    """Which files are here, all of them checked, and which components they are enough for."""
    manifest, absent = bundle.manifest, bundle.missing()
    present = [entry for entry in manifest.files if entry.name not in absent]
    size = sum(entry.size_bytes for entry in present)
    facts = {"count": len(present), "bytes": size, "missing": absent}
    if not absent:
        words = f"{len(present)} files, {size / 1e6:.1f} MB, every hash is right"
        return BUNDLE.ok("files", words, **facts)
    here = bundle.here()
    able = ", ".join(manifest.components[at].name for at in here) or "none"
    others = ", ".join(spec.name for at, spec in enumerate(manifest.components) if at not in here)
    words = (
        f"{len(present)} of {len(manifest.files)} files, {size / 1e6:.1f} MB, every hash is right; "
        f"components that can run here: {able}; elsewhere: {others or 'none'}"
    )
    return BUNDLE.ok("files", words, **facts)


def of_signature(bundle: Bundle, signed_by: Path | None) -> Finding:
    """Whether it is signed, and whether that was checked."""
    if signed_by is not None:
        return BUNDLE.ok("signature", f"that of {signed_by}", signed=True, checked=True)
    if (bundle.folder / SIGNATURE_NAME).exists():
        words = "there is one; --require-signature KEY checks it"
        return BUNDLE.ok("signature", words, signed=True, checked=False)
    return BUNDLE.ok("signature", "none, and none is required", signed=False, checked=False)


def mending(located: LocatedBundle, error: CascadeError) -> str:
    """What makes a bundle whole again."""
    folder = quoted(located.folder)
    if "cascade upgrade" in str(error):
        return f"cascade upgrade {folder}"
    if located.origin is Origin.PACKAGE:
        return f"{pip()} install --force-reinstall --no-deps {DISTRIBUTION}"
    if (located.folder.absolute().parents[1] / ".git").exists():
        parent = shlex.quote(str(located.folder.absolute().parents[1]))
        return f"git -C {parent} checkout -- {shlex.quote('/'.join(located.folder.parts[-2:]))}"
    return f"# copy the bundle anew from where it came from, into {folder}"
