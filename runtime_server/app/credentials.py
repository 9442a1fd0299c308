"""A server's TLS as gRPC wants it: asked for before every handshake, answered from watched files.

So a new certificate serves the next connection, and the open ones go on.
"""

from typing import Any

from runtime_server.app.grpc_aio import tls_configuration, tls_credentials
from runtime_server.auth.tls import TlsFiles, watch_tls_files
from runtime_server.config.config import ServerConfig


def server_credentials(config: ServerConfig) -> Any:
    """TLS credentials that follow their files, None for plaintext.

    With `tls_client_ca`, a connection without a certificate of that authority ends in the
    handshake.

    Raises:
        InvalidRequest: a file cannot be read, or the files do not belong together.
    """
    watched = watch_tls_files(config)
    if watched is None:
        return None
    last = watched.current()
    first = configuration_of(last)

    def fetch() -> Any:
        nonlocal last
        new = watched.current()
        # The same object for as long as the files are unchanged; None keeps what gRPC has.
        if new is last:
            return None
        last = new
        return configuration_of(new)

    return tls_credentials(
        first, fetch, requires_client_certificate=config.tls_client_ca is not None
    )


def configuration_of(files: TlsFiles) -> Any:
    """Certificate, key and authorities as gRPC takes them."""
    return tls_configuration(files.key, files.certificate, files.authorities)
