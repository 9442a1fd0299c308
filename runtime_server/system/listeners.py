"""The addresses that a listening address means, every one of them free or a refusal that names it.

A name may have several addresses, and gRPC is content with one: it would serve `localhost` on ::1
while another program has 127.0.0.1. Knows sockets; not what is served on them.
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from cascade.errors import TransportError

LOOPBACK = ("127.0.0.1", "::1")
"""What `localhost` means here, whatever a resolver says: clients try both."""
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""This machine has no such address, or no such kind of address."""
ANY_PORT_TRIES = 20
"""A port that is free at one address may be taken at another."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to listen on."""

    host: str
    """A numeric address."""
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        """Of its sockets."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def __str__(self) -> str:
        """As `host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def find_endpoints(host: str, port: int) -> tuple[Endpoint, ...]:
    """Every address that `host` means on this machine, all free at one port.

    A free address may be taken before it is listened on; whoever listens fails then.

    Args:
        host: an address or a name.
        port: 0 takes one that is free at all of them; of a single address it stays 0.

    Raises:
        TransportError: one of them is taken, not ours or not permitted, or there is none.
    """
    hosts = tuple(resolve(host))
    if port == 0 and len(hosts) == 1:
        return (Endpoint(hosts[0], 0),)
    for _ in range(ANY_PORT_TRIES):
        try:
            return occupy(host, hosts, port)
        except TransportError:
            if port:
                raise
    raise TransportError(f"cannot listen on {host}: no port is free at all of its addresses")


def resolve(host: str) -> Iterator[str]:
    """The numeric addresses of a name, each once.

    Raises:
        TransportError: it has none.
    """
    if host == "localhost":
        yield from LOOPBACK
        return
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise TransportError(f"cannot listen on {host}: no such address: {exc}") from exc
    yield from dict.fromkeys(str(address[0]) for *_, address in found)


def occupy(name: str, hosts: tuple[str, ...], port: int) -> tuple[Endpoint, ...]:
    """Bind every address for a moment, all at the port of the first.

    Raises:
        TransportError: one cannot be bound; of `localhost` those that this machine lacks are left
            out, as long as there is one.
    """
    found: list[Endpoint] = []
    with ExitStack() as stack:
        for host in hosts:
            # The first address chooses the port; the others must have it too.
            endpoint = Endpoint(host, found[0].port if found else port)
            try:
                probe = stack.enter_context(socket.socket(endpoint.family, socket.SOCK_STREAM))
                bind(probe, endpoint)
            except OSError as exc:
                if name == "localhost" and exc.errno in ABSENT:
                    continue
                whose = "" if host == name else f" (one of {name})"
                cause = exc.strerror or str(exc)
                raise TransportError(f"cannot listen on {endpoint}{whose}: {cause}") from exc
            found.append(Endpoint(host, int(probe.getsockname()[1])))
    if not found:
        raise TransportError(f"cannot listen on {name}: this machine has no such address")
    return tuple(found)


def bind(listener: socket.socket, endpoint: Endpoint) -> None:
    """Bind a socket as servers here do: alone on its port, `::` for IPv4 too.

    Raises:
        OSError: the address is taken, not ours or not permitted.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if endpoint.family is socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(endpoint.host != "::"))
    address = socket.getaddrinfo(
        endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0][4]
    listener.bind(address)
