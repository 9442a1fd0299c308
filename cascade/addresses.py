"""Addresses of servers as text: `host:port`, `[v6]:port`, `unix:PATH`.

Knows how they are written; opens no socket.
"""

import ipaddress

from cascade.errors import InvalidRequest

UNIX_PREFIX = "unix:"
ANY_FORM = "host:port or unix:PATH"
MAX_PORT = 65535


def split_address(address: str, field: str, forms: str = "host:port") -> tuple[str, int]:
    """`host:port` and `[v6]:port` as host, without brackets, and port.

    Args:
        address: the address.
        field: whose it is, for the error.
        forms: what that field takes, for the error.

    Raises:
        InvalidRequest: neither of the two forms.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    valid = colon and host and port.isascii() and port.isdigit() and int(port) <= MAX_PORT
    if not valid or "/" in host or (":" in host and not bracketed):
        raise InvalidRequest(f"{field}: expected {forms}, got {address[:120]!r}", field=field)
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
