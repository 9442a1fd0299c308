"""Signed bundles: an Ed25519 signature beside the manifest, over its exact bytes.

The manifest holds the hash of every other file, so signing it signs the bundle. The signature is
the bare 64 bytes, which OpenSSL makes and checks as well. The only file that imports cryptography;
knows keys and bytes, not bundles.
"""

import os
from pathlib import Path

from cascade.errors import InvalidRequest, ManifestError, MissingExtra
from cascade.system.bounded_files import read_setting

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
except ImportError as exc:
    raise MissingExtra(
        "signatures need the package cryptography: pip install 'edge-cascade[sign]'"
    ) from exc

SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 1 << 14


def sign(data: bytes, key: Path) -> bytes:
    """The signature of some bytes.

    Args:
        data: what is signed.
        key: PEM file with an unencrypted Ed25519 private key.

    Raises:
        InvalidRequest: the file is not such a key.
    """
    try:
        private = serialization.load_pem_private_key(
            read_setting(key, "key", MAX_KEY_BYTES), password=None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise InvalidRequest(
            f"key: {key} is not an unencrypted private key in PEM", field="key"
        ) from exc
    if not isinstance(private, Ed25519PrivateKey):
        raise InvalidRequest(f"key: {key} is not an Ed25519 key", field="key")
    return private.sign(data)


def check_signature(data: bytes, signature: bytes, public_key: Path) -> None:
    """Raise unless the signature is that of the key's owner over these very bytes.

    Args:
        data: what was signed.
        signature: 64 bytes.
        public_key: PEM file with an Ed25519 public key.

    Raises:
        InvalidRequest: the file is not such a key.
        ManifestError: the signature is another one's, or of other bytes.
    """
    try:
        public = serialization.load_pem_public_key(read_setting(public_key, "key", MAX_KEY_BYTES))
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise InvalidRequest(
            f"require_signature: {public_key} is not a public key in PEM", field="require_signature"
        ) from exc
    if not isinstance(public, Ed25519PublicKey):
        raise InvalidRequest(
            f"require_signature: {public_key} is not an Ed25519 key", field="require_signature"
        )
    # Told apart from a wrong one: a file that was cut short is an accident and says so.
    if len(signature) != SIGNATURE_BYTES:
        raise ManifestError(
            f"the signature has {len(signature)} bytes instead of {SIGNATURE_BYTES}: the bundle "
            "cannot be trusted"
        )
    try:
        public.verify(signature, data)
    except InvalidSignature as exc:
        raise ManifestError(
            f"the signature is not that of {public_key} over this manifest: the bundle was altered "
            "or signed by somebody else"
        ) from exc


def make_key(path: Path) -> bytes:
    """Write a new private key, for its owner's eyes alone, and return its public key in PEM.

    Raises:
        InvalidRequest: the file exists or cannot be written.
    """
    private = Ed25519PrivateKey.generate()
    data = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        # The mode at the creation: with a chmod afterwards others could open it in between.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as exc:
        raise InvalidRequest(f"make-key: {path}: {exc.strerror}", field="make-key") from exc
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
