"""One TLS handshake with a server, for `cascade doctor`: what gRPC does not tell of a failed one.

By Python's own ssl, with the files that gRPC would be given. Knows sockets and certificates; no
call is made.
"""

import contextlib
import socket
import ssl
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cascade.addresses import UNIX_PREFIX, split_address
from runtime_client.config import ClientConfig

PROTOCOLS = ["h2"]
GREETING_S = 2.0
"""An HTTP/2 server sends its settings at once; one that misses a certificate says that instead."""


class Trouble(StrEnum):
    """Why there is no TLS connection."""

    NONE = ""
    PLAINTEXT = "the server does not speak TLS"
    UNTRUSTED = "its certificate comes from no authority that is trusted here"
    WRONG_NAME = "its certificate is for another name"
    EXPIRED = "its certificate is not valid at this time"
    CLIENT_CERTIFICATE = "the server takes only clients with a certificate that it trusts"
    FILES = "the certificate files given here cannot be used"
    OTHER = "the handshake failed"


@dataclass(frozen=True, slots=True)
class Handshake:
    """What came of it.

    Attributes:
        trouble: why it failed.
        detail: the library's words for that.
        version: of TLS, such as `TLSv1.3`.
        names: that the certificate is for.
        expires_at: seconds since 1970 at which the certificate ends; 0 where it was not checked.
    """

    trouble: Trouble = Trouble.NONE
    detail: str = ""
    version: str = ""
    names: tuple[str, ...] = ()
    expires_at: float = 0.0


def connected(address: str, timeout_s: float) -> socket.socket:
    """A socket connected to a server.

    Args:
        address: `host:port` or `unix:PATH`.
        timeout_s: longest time for that, and later for each read.

    Raises:
        OSError: there is no such name, nothing listens, or nothing answers.
    """
    if address.startswith(UNIX_PREFIX):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(address.removeprefix(UNIX_PREFIX).replace("//", "/", 1))
        except OSError:
            connection.close()
            raise
        return connection
    return socket.create_connection(split_address(address, "server"), timeout_s)


def shake_hands(config: ClientConfig) -> Handshake:
    """Try one handshake, with the authorities and the client certificate of a configuration."""
    try:
        context = context_of(config)
    except (OSError, ValueError) as exc:  # an SSLError is an OSError
        return Handshake(Trouble.FILES, str(exc) if isinstance(exc, ValueError) else detail_of(exc))
    return attempt(config, context)


def speaks_tls(config: ClientConfig) -> bool:
    """Whether a server that was not asked for TLS would speak it; nothing is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    found = attempt(config, context)
    return found.trouble in (Trouble.NONE, Trouble.CLIENT_CERTIFICATE)


def context_of(config: ClientConfig) -> ssl.SSLContext:
    """What the handshake is made with.

    Raises:
        OSError: a file holds no certificate or key, or the two do not belong together.
    """
    context = ssl.create_default_context(cafile=config.ca_file)
    if config.client_cert is not None:
        context.load_cert_chain(config.client_cert, config.client_key)
    return context


def attempt(config: ClientConfig, context: ssl.SSLContext) -> Handshake:
    """One handshake with one context."""
    address = config.server or ""
    name = "localhost" if address.startswith(UNIX_PREFIX) else split_address(address, "server")[0]
    context.set_alpn_protocols(PROTOCOLS)
    try:
        with (
            connected(address, config.timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            certificate = secure.getpeercert() or {}
            version = secure.version() or ""
            secure.settimeout(GREETING_S)
            with contextlib.suppress(TimeoutError):
                # In TLS 1.3 the server refuses a client after the handshake, or just hangs up.
                if not secure.recv(1):
                    return Handshake(Trouble.CLIENT_CERTIFICATE)
    except OSError as exc:
        return Handshake(trouble_of(exc), detail_of(exc))
    ends = certificate.get("notAfter")
    expires_at = float(ssl.cert_time_to_seconds(str(ends))) if ends else 0.0
    return Handshake(version=version, names=names_of(certificate), expires_at=expires_at)


def trouble_of(error: OSError) -> Trouble:
    """What a failed handshake means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = error.verify_message.lower()
        if "hostname" in words or "ip address" in words:
            return Trouble.WRONG_NAME
        return Trouble.EXPIRED if "expired" in words or "not yet" in words else Trouble.UNTRUSTED
    reason = str(getattr(error, "reason", "") or "")
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return Trouble.CLIENT_CERTIFICATE
    silent = isinstance(error, ConnectionError | ssl.SSLEOFError | TimeoutError)
    plain = reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE") or "HTTP" in reason
    return Trouble.PLAINTEXT if plain or silent else Trouble.OTHER


def detail_of(error: OSError) -> str:
    """The library's words for a failure, without the name of its source file."""
    reason = str(getattr(error, "reason", "") or "").replace("_", " ").lower()
    return str(getattr(error, "verify_message", "") or reason or error.strerror or error)


def names_of(certificate: Any) -> tuple[str, ...]:
    """The names and addresses that a certificate is for."""
    return tuple(str(value) for _, value in certificate.get("subjectAltName", ()))
