"""The server's side of TLS: certificate, key and client authorities, read again when they change.

Files that do not belong together are never taken over. Knows files; neither gRPC nor who calls.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cascade.errors import InvalidRequest
from runtime_server.auth.watched_file import WatchedFiles, read_setting
from runtime_server.config.config import ServerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """The files of a server with TLS at one moment, all PEM."""

    key: bytes
    certificate: bytes
    authorities: bytes | None
    """Of client certificates, which are then required; None requires none."""


def watch_tls_files(config: ServerConfig) -> WatchedFiles[TlsFiles] | None:
    """The files that a configuration names, as new as they are; None for plaintext.

    Raises:
        InvalidRequest: a file cannot be read, or the files do not belong together.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    paths = [config.tls_cert, config.tls_key]
    if config.tls_client_ca is not None:
        paths.append(config.tls_client_ca)
    read = files_reader(config.tls_cert, config.tls_key, config.tls_client_ca)
    return WatchedFiles("tls", tuple(paths), read)


def files_reader(certificate: Path, key: Path, authority: Path | None) -> Callable[[], TlsFiles]:
    """A function that reads and checks the files."""

    def read() -> TlsFiles:
        pair = (read_setting(key, "tls_key"), read_setting(certificate, "tls_cert"))
        check_pair(certificate, key)
        if pair != (read_setting(key, "tls_key"), read_setting(certificate, "tls_cert")):
            raise InvalidRequest("tls_cert: it changed while it was read", field="tls_cert")
        roots = None
        if authority is not None:
            roots = read_setting(authority, "tls_client_ca")
            check_authorities(roots, authority)
        return TlsFiles(key=pair[0], certificate=pair[1], authorities=roots)

    return read


def check_pair(certificate: Path, key: Path) -> None:
    """Raise `InvalidRequest` unless both are PEM files and the key is the certificate's."""
    try:
        # The password makes OpenSSL fail on an encrypted key, rather than ask on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as exc:
        raise InvalidRequest(
            f"tls_cert: {certificate} and {key} are not an unencrypted PEM certificate and its "
            "private key: they do not belong together",
            field="tls_cert",
        ) from exc


def check_authorities(data: bytes, path: Path) -> None:
    """Raise `InvalidRequest` unless the bytes are PEM certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cadata=data.decode("ascii"))
    except (OSError, ValueError) as exc:
        raise InvalidRequest(
            f"tls_client_ca: {path} holds no PEM certificates", field="tls_client_ca"
        ) from exc
