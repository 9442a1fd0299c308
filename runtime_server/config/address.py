"""Listening addresses as they are written: `host:port`, `[v6]:port` and `unix:PATH`.

Knows texts; no name is looked up and no socket opened.
"""

import ipaddress
from pathlib import Path

from cascade.errors import InvalidRequest

UNIX_PREFIX = "unix:"
MAX_SOCKET_PATH = 107
"""The kernel's limit on the path of a Unix socket, in bytes."""
MAX_PORT = 65535


def split_socket_path(listen: str) -> Path | None:
    """The path of `unix:PATH`, None for any other address.

    Raises:
        InvalidRequest: the path is none that a socket can have.
    """
    if not listen.startswith(UNIX_PREFIX):
        return None
    path = listen.removeprefix(UNIX_PREFIX)
    if not path or len(path.encode()) > MAX_SOCKET_PATH or "\0" in path:
        raise InvalidRequest(
            f"listen: the path of a Unix socket has 1 to {MAX_SOCKET_PATH} bytes, got "
            f"{path[:120]!r}",
            field="listen",
        )
    return Path(path)


def split_address(listen: str, field: str = "listen") -> tuple[str, int]:
    """`host:port` and `[v6]:port` as host and port.

    Args:
        listen: the address.
        field: whose it is, for the error.

    Raises:
        InvalidRequest: neither of the two forms.
    """
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    valid = colon and host and port.isascii() and port.isdigit() and int(port) <= MAX_PORT
    if not valid or (":" in host and not bracketed):
        raise InvalidRequest(
            f"{field}: expected host:port{' or unix:PATH' if field == 'listen' else ''}, got "
            f"{listen[:120]!r}",
            field=field,
        )
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost counts as remote."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # What a caller over IPv4 is called by a socket that takes both.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
