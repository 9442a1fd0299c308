"""`cascade upgrade`: a bundle of the format before this one, made readable again.

Only `manifest.json` is written anew; the other files stay as they are. Clients and servers that
hold the bundle as it was still understand the one that comes out: it answers to both ids.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from cascade.bundle.bundle import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    SIGNATURE_NAME,
    Bundle,
    open_bundle,
    read_plain_file,
)
from cascade.bundle.format2 import OLD_FORMAT, upgraded
from cascade.bundle.manifest import FORMAT_VERSION, write_manifest
from cascade.errors import InvalidRequest, ManifestError


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    words = "convert a bundle of the format before this one"
    parser = subparsers.add_parser(
        "upgrade",
        help=words,
        description=f"Rewrite the manifest of a bundle of format {OLD_FORMAT} in format "
        f"{FORMAT_VERSION}. The other files stay as they are.",
    )
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert one bundle.

    Raises:
        InvalidRequest: it has the present format already.
        ManifestError: it is no bundle of the format before, or is not whole.
    """
    folder: Path = args.bundle
    data = read_plain_file(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ManifestError(f"{folder / MANIFEST_NAME} is not JSON: {exc}") from exc
    version = value.get("format_version") if isinstance(value, dict) else None
    if version == FORMAT_VERSION:
        raise InvalidRequest(f"bundle: {folder} has format {version} already", field="bundle")
    if version != OLD_FORMAT:
        raise ManifestError(
            f"manifest.format_version: expected {OLD_FORMAT}, got {str(version)[:20]}: export the "
            "bundle again",
            field="manifest.format_version",
        )
    manifest = upgraded(value)
    Bundle(folder, manifest).verify_files()
    replace_manifest(folder, write_manifest(manifest))
    unsigned = (folder / SIGNATURE_NAME).exists()
    if unsigned:
        # It was over the old manifest; a signature that fits nothing would look like an attack.
        (folder / SIGNATURE_NAME).unlink()
    open_bundle(folder)
    print(f"format    {OLD_FORMAT} -> {FORMAT_VERSION}")
    print(f"id        {manifest.ids[1]} -> {manifest.bundle_id}")
    if unsigned:
        print(f"signature {SIGNATURE_NAME} was removed: sign the bundle again with `cascade sign`")
    return 0


def replace_manifest(folder: Path, text: str) -> None:
    """Write the new manifest; at every moment the file is the old one or the new one, whole."""
    temporary = folder.parent / f".{folder.name}.manifest.{os.getpid()}"
    try:
        temporary.write_text(text)
        temporary.replace(folder / MANIFEST_NAME)
    except OSError as exc:
        raise InvalidRequest(f"bundle: cannot write into {folder}: {exc}", field="bundle") from exc
    finally:
        temporary.unlink(missing_ok=True)
