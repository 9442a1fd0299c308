"""The limits on files, names, tokens and settings, on both halves."""

# ruff: noqa: ARG005  every probe is given the ground, and few need it

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cascade.addresses import MAX_PORT
from cascade.bundle.bundle import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MAX_SIGNATURE_BYTES,
    SIGNATURE_NAME,
    check_entry,
    open_bundle,
)
from cascade.bundle.signature import MAX_KEY_BYTES, make_key
from cascade.codecs.strict_json import MAX_FREE_DEPTH
from cascade.graph_spec import FileEntry
from cascade.weights.header import MAX_HEADER_BYTES, header_bytes
from runtime_client.config import MAX_THREADS, ClientConfig
from runtime_client.credentials import BearerToken
from runtime_server.auth.authenticator import find_token, name_in
from runtime_server.auth.jwt_tokens import (
    LEEWAY_S,
    MIN_SECRET_BYTES,
    JwtRules,
    read_jwt_keys,
    read_subject,
)
from runtime_server.auth.static_keys import MAX_KEYS, check_name, read_keys
from runtime_server.auth.watched_file import MAX_WATCHED_BYTES, read_setting
from runtime_server.config.config import MAX_SOCKET_PATH, ServerConfig
from runtime_server.config.config_file import MAX_CONFIG_BYTES, read_config_file
from tests.attacks.limits import Ground, Limit, raised_by
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tokens import AUDIENCE, SECRET, Issuer
from wire.limits import MAX_TOKEN_CHARACTERS

KEYS, JWT = "runtime_server/auth/static_keys.py", "runtime_server/auth/jwt_tokens.py"
ISSUER = Issuer()
RULES = JwtRules(keys=read_jwt_keys(SECRET, "HS256"), audience=AUDIENCE)


def of_size(call: Callable[[Path], object], head: bytes, filler: bytes = b" ") -> Any:
    """A probe of a file that begins with some bytes and is filled up to a size."""

    def probe(ground: Ground, size: int) -> str:
        path = ground.folder / "file"
        path.write_bytes(head + filler * (size - len(head)))
        return raised_by(lambda: call(path))

    return probe


def manifest_of(ground: Ground, size: int) -> str:
    """A bundle whose manifest is filled up with spaces."""
    bundle = write_tiny_bundle(ground.folder / "bundle")
    path = bundle.folder / MANIFEST_NAME
    path.write_bytes(path.read_bytes().ljust(size))
    return raised_by(lambda: open_bundle(bundle.folder))


def provenance_of(ground: Ground, levels: int) -> str:
    """A bundle whose provenance holds lists in lists, so many levels."""
    bundle = write_tiny_bundle(ground.folder / "bundle")
    path = bundle.folder / MANIFEST_NAME
    manifest = json.loads(path.read_bytes())
    nested: Any = "innermost"
    for _ in range(levels):
        nested = [nested]
    manifest["provenance"]["nested"] = nested
    path.write_text(json.dumps(manifest))
    return raised_by(lambda: open_bundle(bundle.folder)).partition("[")[0]


def signature_of(ground: Ground, size: int) -> str:
    """A signature of so many bytes; with 64 it is another one's, with more it is not even read."""
    bundle = write_tiny_bundle(ground.folder / "bundle")
    public = ground.folder / "public.pem"
    public.write_bytes(make_key(ground.folder / "private.pem"))
    (bundle.folder / SIGNATURE_NAME).write_bytes(bytes(size))
    try:
        open_bundle(bundle.folder, public)
    except Exception as exc:  # noqa: BLE001 - told apart by its words
        return "not read" if "longer than" in str(exc) else "wrong length"
    return "accepted"


def key_of(ground: Ground, size: int) -> str:
    """A public key filled up with line ends."""
    bundle = write_tiny_bundle(ground.folder / "bundle")
    public = ground.folder / "public.pem"
    public.write_bytes(make_key(ground.folder / "private.pem").ljust(size, b"\n"))
    (bundle.folder / SIGNATURE_NAME).write_bytes(bytes(64))
    return raised_by(lambda: open_bundle(bundle.folder, public))


def listed(ground: Ground, length: int) -> str:
    """A name of a file in a manifest."""
    del ground
    digest = hashlib.sha256(b"").hexdigest()
    entry = FileEntry(name="x" * length, sha256=digest, size_bytes=0)
    return raised_by(lambda: check_entry(entry))


def keys_of(ground: Ground, count: int) -> str:
    """A file of so many keys."""
    del ground
    lines = "\n".join(f'n{number} = "{number:064x}"' for number in range(count))
    return raised_by(lambda: read_keys(lines.encode()))


def subject_of(ground: Ground, length: int) -> str:
    """A JWT whose subject has so many characters."""
    del ground
    token = ISSUER.token(kid=None, key="s", sub="x" * length)
    return raised_by(lambda: read_subject(RULES, token))


def expired(ground: Ground, seconds: float) -> str:
    """A JWT that expired so long ago."""
    del ground
    token = ISSUER.token(kid=None, key="s", exp=time.time() - seconds)
    return raised_by(lambda: read_subject(RULES, token))


def server(ground: Ground, **settings: Any) -> str:
    """A configuration of a server."""
    return raised_by(lambda: ServerConfig(bundle=ground.folder, **settings))


def client(ground: Ground, **choices: Any) -> str:
    """A configuration of a client."""
    del ground
    return raised_by(lambda: ClientConfig(server="127.0.0.1:1", **choices))


FILES = [
    Limit(
        name="manifest-bytes", what="manifest of a bundle", bound=f"{MAX_MANIFEST_BYTES >> 20} MiB",
        set_by=("cascade/bundle/bundle.py:MAX_MANIFEST_BYTES",), probe=manifest_of,
        within=MAX_MANIFEST_BYTES, beyond=MAX_MANIFEST_BYTES + 1, refused="MANIFEST_ERROR",
    ),
    Limit(
        name="provenance-levels",
        what="lists and objects in each other under a key of a bundle's provenance",
        bound=f"{MAX_FREE_DEPTH} levels",
        set_by=("cascade/codecs/strict_json.py:MAX_FREE_DEPTH",), probe=provenance_of,
        within=MAX_FREE_DEPTH, beyond=MAX_FREE_DEPTH + 1,
        refused="MANIFEST_ERROR manifest.provenance.nested",
    ),
    Limit(
        name="file-name", what="name of a file in a bundle",
        bound="1 to 100 of `[A-Za-z0-9._-]`, not beginning with a mark",
        set_by=("cascade/bundle/bundle.py:SAFE_NAME",), probe=listed, within=100, beyond=101,
        refused="MANIFEST_ERROR",
    ),
    Limit(
        name="weights-header", what="header of a file of weights",
        bound=f"{MAX_HEADER_BYTES >> 20} MiB",
        set_by=("cascade/weights/header.py:MAX_HEADER_BYTES",),
        probe=lambda g, n: raised_by(lambda: header_bytes(n.to_bytes(8, "little"), 1 << 40, "w")),
        within=MAX_HEADER_BYTES, beyond=MAX_HEADER_BYTES + 1, refused="MANIFEST_ERROR",
    ),
    Limit(
        name="signature-bytes", what="signature of a bundle",
        bound=f"exactly 64 bytes; over {MAX_SIGNATURE_BYTES} nothing is read",
        set_by=("cascade/bundle/bundle.py:MAX_SIGNATURE_BYTES",), probe=signature_of,
        within=MAX_SIGNATURE_BYTES, beyond=MAX_SIGNATURE_BYTES + 1,
        passes="wrong length", refused="not read",
    ),
    Limit(
        name="signing-key-bytes", what="file of a signing key", bound=f"{MAX_KEY_BYTES >> 10} KiB",
        set_by=("cascade/bundle/signature.py:MAX_KEY_BYTES",), probe=key_of,
        within=MAX_KEY_BYTES, beyond=MAX_KEY_BYTES + 1,
        passes="MANIFEST_ERROR", refused="INVALID_REQUEST key",
    ),
    Limit(
        name="config-bytes", what="configuration of a server",
        bound=f"{MAX_CONFIG_BYTES >> 20} MiB",
        set_by=("runtime_server/config/config_file.py:MAX_CONFIG_BYTES",),
        probe=of_size(read_config_file, b"cut = 0\n"),
        within=MAX_CONFIG_BYTES, beyond=MAX_CONFIG_BYTES + 1, refused="INVALID_REQUEST config",
    ),
    Limit(
        name="key-file-bytes", what="file of certificates or keys",
        bound=f"{MAX_WATCHED_BYTES >> 20} MiB",
        set_by=("runtime_server/auth/watched_file.py:MAX_WATCHED_BYTES",),
        probe=of_size(lambda path: read_setting(path, "tls_cert"), b""),
        within=MAX_WATCHED_BYTES, beyond=MAX_WATCHED_BYTES + 1, refused="INVALID_REQUEST tls_cert",
    ),
    Limit(
        name="token-keys", what="static keys", bound=f"{MAX_KEYS:,}", set_by=(f"{KEYS}:MAX_KEYS",),
        probe=keys_of, within=MAX_KEYS, beyond=MAX_KEYS + 1, refused="INVALID_REQUEST token_keys",
    ),
    Limit(
        name="key-name", what="name of a static key", bound="1 to 64 of `[A-Za-z0-9._@-]`",
        set_by=(f"{KEYS}:NAME",), probe=lambda g, n: raised_by(lambda: check_name("x" * n)),
        within=64, beyond=65, refused="INVALID_REQUEST name",
    ),
    Limit(
        name="token-characters", what="bearer token, as the server takes it",
        bound=f"1 to {MAX_TOKEN_CHARACTERS:,} characters",
        set_by=("wire/limits.py:MAX_TOKEN_CHARACTERS",),
        probe=lambda g, n: raised_by(lambda: find_token([("authorization", "Bearer " + "x" * n)])),
        within=MAX_TOKEN_CHARACTERS, beyond=MAX_TOKEN_CHARACTERS + 1,
        refused="UNAUTHENTICATED authorization",
    ),
    Limit(
        name="token-sent", what="bearer token, as the client sends it",
        bound=f"1 to {MAX_TOKEN_CHARACTERS:,} characters",
        set_by=("wire/limits.py:MAX_TOKEN_CHARACTERS",),
        probe=lambda g, n: client(g, token="x" * n),
        within=MAX_TOKEN_CHARACTERS, beyond=MAX_TOKEN_CHARACTERS + 1,
        refused="INVALID_REQUEST token",
    ),
    Limit(
        name="token-file", what="file of a token",
        bound=f"1 to {MAX_TOKEN_CHARACTERS:,} characters",
        set_by=("wire/limits.py:MAX_TOKEN_CHARACTERS",),
        probe=of_size(lambda path: BearerToken(file=path).metadata(), b"", b"x"),
        within=MAX_TOKEN_CHARACTERS, beyond=MAX_TOKEN_CHARACTERS + 1,
        refused="INVALID_REQUEST token_file",
    ),
    Limit(
        name="jwt-subject", what="`sub` of a JWT", bound="1 to 128 printable characters",
        set_by=(f"{JWT}:SUBJECT",), probe=subject_of, within=128, beyond=129,
        refused="UNAUTHENTICATED authorization",
    ),
    Limit(
        name="jwt-leeway", what="difference between clocks", bound=f"{LEEWAY_S:g} s",
        set_by=(f"{JWT}:LEEWAY_S",), probe=expired, within=LEEWAY_S - 5, beyond=LEEWAY_S + 1,
        refused="UNAUTHENTICATED authorization",
    ),
    Limit(
        name="jwt-secret", what="secret of HS256 and its kin",
        bound=f"at least {MIN_SECRET_BYTES} bytes", set_by=(f"{JWT}:MIN_SECRET_BYTES",),
        probe=lambda g, n: raised_by(lambda: read_jwt_keys(b"x" * n, "HS256")),
        within=MIN_SECRET_BYTES, beyond=MIN_SECRET_BYTES - 1, refused="INVALID_REQUEST jwt_keys",
    ),
    Limit(
        name="certificate-name", what="name in a client certificate",
        bound="1 to 128 printable characters",
        set_by=("runtime_server/auth/authenticator.py:CERTIFICATE_NAME",),
        probe=lambda g, n: raised_by(lambda: name_in({"x509_common_name": [b"x" * n]})),
        within=128, beyond=129, refused="PERMISSION_DENIED certificate",
    ),
    Limit(
        name="socket-path", what="path of a Unix socket", bound=f"1 to {MAX_SOCKET_PATH} bytes",
        set_by=("runtime_server/config/config.py:MAX_SOCKET_PATH",),
        probe=lambda g, n: server(g, listen="unix:" + "x" * n),
        within=MAX_SOCKET_PATH, beyond=MAX_SOCKET_PATH + 1, refused="INVALID_REQUEST listen",
    ),
    Limit(
        name="port", what="port", bound=f"0 to {MAX_PORT}",
        set_by=("cascade/addresses.py:MAX_PORT",),
        probe=lambda g, n: server(g, listen=f"127.0.0.1:{n}"),
        within=MAX_PORT, beyond=MAX_PORT + 1, refused="INVALID_REQUEST listen",
    ),
    Limit(
        name="client-threads", what="threads of an engine on the client",
        bound=f"0 to {MAX_THREADS:,}", set_by=("runtime_client/config.py:MAX_THREADS",),
        probe=lambda g, n: client(g, threads=n),
        within=MAX_THREADS, beyond=MAX_THREADS + 1, refused="INVALID_REQUEST threads",
    ),
]  # fmt: skip
