"""The server's side of TLS: certificate, key and client authorities, read again when they change.

gRPC asks for the files' content before every handshake, so a new certificate serves the next
connection and the open ones go on. A pair that does not fit together is never given to gRPC. Knows
files and gRPC's credentials; not who calls.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from cascade.errors import InvalidRequest
from runtime_server.auth.watched_file import WatchedFiles, read_setting
from runtime_server.config.config import ServerConfig


def read_credentials(config: ServerConfig) -> Any:
    """TLS credentials that follow their files, None for plaintext.

    With `tls_client_ca`, a connection without a certificate of that authority ends in the
    handshake. (Asking for a certificate without requiring one is not something that gRPC offers to
    Python.)

    Raises:
        InvalidRequest: a file cannot be read, or the files do not belong together.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    paths = [config.tls_cert, config.tls_key]
    if config.tls_client_ca is not None:
        paths.append(config.tls_client_ca)
    watched = WatchedFiles("tls", tuple(paths), configuration_reader(config))
    last = first = watched.current()

    def fetch() -> Any:
        nonlocal last
        new = watched.current()
        if new is last:
            return None
        last = new
        return new

    return grpc.dynamic_ssl_server_credentials(
        first, fetch, require_client_authentication=config.tls_client_ca is not None
    )


def configuration_reader(config: ServerConfig) -> Callable[[], Any]:
    """A function that reads and checks the files of a configuration with TLS."""
    certificate, key, authority = config.tls_cert, config.tls_key, config.tls_client_ca
    if certificate is None or key is None:
        raise InvalidRequest("TLS needs both --tls-cert and --tls-key", field="tls_cert")

    def read() -> Any:
        pair = (read_setting(key, "tls_key"), read_setting(certificate, "tls_cert"))
        check_pair(certificate, key)
        if pair != (read_setting(key, "tls_key"), read_setting(certificate, "tls_cert")):
            raise InvalidRequest("tls_cert: it changed while it was read", field="tls_cert")
        roots = None
        if authority is not None:
            roots = read_setting(authority, "tls_client_ca")
            check_authorities(roots, authority)
        return grpc.ssl_server_certificate_configuration([pair], roots)

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
