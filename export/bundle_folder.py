"""A bundle's folder, written at once or not at all.

Knows a manifest and bytes; not what is in them.
"""

import shutil
import tempfile
from pathlib import Path

from cascade.manifest import Manifest, write_manifest
from cascade.wire_limits import check_wire_limits


def write_bundle(out: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write the folder beside its place, then let it take the place of an older one.

    Raises:
        ManifestError: the bundle could not be served; nothing was written.
    """
    check_wire_limits(manifest)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    fresh.chmod(0o755)
    for name, data in files.items():
        (fresh / name).write_bytes(data)
    (fresh / "manifest.json").write_text(write_manifest(manifest))
    old = fresh.with_name(f"{fresh.name}-old")
    if out.exists():
        out.replace(old)
    fresh.replace(out)
    shutil.rmtree(old, ignore_errors=True)
