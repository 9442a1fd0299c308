"""The network that this machine reaches a server through, by a name that changes with it.

Looks at the route alone and sends nothing. Two networks with one name only cost a first request
that is planned by the figures of the other.
"""

import socket
from collections.abc import Callable
from pathlib import Path

from cascade.addresses import UNIX_PREFIX, split_address
from cascade.errors import InvalidRequest
from runtime_client.config import is_on_this_machine

LOCAL, UNKNOWN = "this machine", "unknown"
PREFIX_V4, PREFIX_V6 = 3, 4
"""Groups of an address that name its network: a /24, a /64."""
ROUTES, NEIGHBOURS = Path("/proc/net/route"), Path("/proc/net/arp")


def network_of(address: str) -> str:
    """The network towards a server, such as `192.168.1 via 00:11:22:33:44:55`.

    Args:
        address: `host:port` or `unix:PATH`.
    """
    if is_on_this_machine(address) or address.startswith(UNIX_PREFIX):
        return LOCAL
    try:
        host, port = split_address(address, "server")
        own = own_address(host, port)
    except (OSError, InvalidRequest):
        return UNKNOWN
    gateway = gateway_name()
    return f"{prefix_of(own)} via {gateway}" if gateway else prefix_of(own)


def own_address(host: str, port: int) -> str:
    """This machine's address on the way to a host: a datagram socket is aimed, nothing is sent."""
    family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as aimed:
        aimed.connect(target)
        return str(aimed.getsockname()[0])


def prefix_of(address: str) -> str:
    """The part of an address that its network has in common."""
    if ":" in address:
        return ":".join(address.split(":")[:PREFIX_V6])
    return ".".join(address.split(".")[:PREFIX_V4])


def gateway_name(routes: Path = ROUTES, neighbours: Path = NEIGHBOURS) -> str:
    """The hardware address of the default gateway; empty where the system does not tell."""
    gateway = first_match(routes, lambda f: f[2] if f[1] == "00000000" else "")
    if not gateway:
        return ""
    try:
        octets = bytes.fromhex(gateway)[::-1]
    except ValueError:
        return ""
    dotted = ".".join(map(str, octets))
    return first_match(neighbours, lambda f: f[3] if f[0] == dotted else "")


def first_match(path: Path, pick: Callable[[list[str]], str]) -> str:
    """What the first line of a table yields that yields anything; its heading is left out."""
    try:
        lines = path.read_text().splitlines()[1:]
    except OSError:
        return ""
    rows = (line.split() for line in lines)
    return next((found for row in rows if len(row) > 3 and (found := pick(row))), "")
