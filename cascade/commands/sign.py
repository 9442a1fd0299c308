"""`cascade sign`: put a signature beside a bundle's manifest, or make the key for it.

The bundle is checked as a whole first: what is signed is what was read. Knows bundles and files.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from cascade.bundle.bundle import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    SIGNATURE_NAME,
    open_bundle,
    read_plain_file,
)
from cascade.bundle.manifest import read_manifest
from cascade.errors import InvalidRequest, ManifestError


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "sign",
        help="sign a bundle, or make the key for it",
        description="Write manifest.sig, an Ed25519 signature over the bytes of manifest.json, "
        "which holds the hash of every other file.",
    )
    parser.add_argument("bundle", nargs="?", type=Path, help="folder of the bundle")
    parser.add_argument("--key", type=Path, metavar="FILE", help="PEM file with the private key")
    parser.add_argument(
        "--make-key", type=Path, metavar="FILE",
        help="write a new private key there, and its public key to FILE.pub",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make a key, sign, or both.

    Raises:
        InvalidRequest: neither was asked for, or a key is no good.
        ManifestError: the bundle is not whole.
    """
    if args.key is not None and args.make_key is not None:
        raise InvalidRequest("key: sign with --key or with a new --make-key, not both", field="key")
    if args.make_key is not None:
        write_key_pair(args.make_key)
        if args.bundle is None:
            return 0
    key = args.key or args.make_key
    if args.bundle is None or key is None:
        raise InvalidRequest("give a bundle and --key FILE, or --make-key FILE", field="key")
    sign_bundle(args.bundle, key)
    return 0


def write_key_pair(path: Path) -> None:
    """A new private key, and its public key beside it."""
    from cascade.bundle.signature import make_key

    public = path.with_name(path.name + ".pub")
    public.write_bytes(make_key(path))
    sys.stdout.write(f"{path}: the private key, keep it to yourself\n")
    sys.stdout.write(f"{public}: the public key, for --require-signature\n")


def sign_bundle(folder: Path, key: Path) -> None:
    """Check a bundle and sign its manifest."""
    from cascade.bundle.signature import sign

    # A sparse bundle's manifest is that of the whole one, and so is its signature.
    bundle = open_bundle(folder, runs=())
    bundle.verify_present()
    data = read_plain_file(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES)
    if read_manifest(data) != bundle.manifest:
        raise ManifestError(f"{folder}: the manifest changed while the bundle was checked")
    signature = sign(data, key)
    # Whole or not at all, and not through a link that somebody left there.
    staged = folder.with_name(folder.name + "." + SIGNATURE_NAME)
    staged.write_bytes(signature)
    staged.replace(folder / SIGNATURE_NAME)
    sys.stdout.write(f"{folder / SIGNATURE_NAME}: signs {MANIFEST_NAME} of {bundle.bundle_id}\n")
    if absent := bundle.missing():
        sys.stdout.write(f"not here, so not checked: {', '.join(absent)}\n")
