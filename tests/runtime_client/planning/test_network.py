"""The name of a network: by the route, without sending anything."""

import socket
from pathlib import Path

import pytest

from runtime_client.planning.network import (
    LOCAL,
    UNKNOWN,
    gateway_name,
    network_of,
    own_address,
    prefix_of,
)

ROUTES = (
    "Iface\tDestination\tGateway\tFlags\n"
    "eth0\t0000A8C0\t00000000\t0001\n"
    "eth0\t00000000\t0101A8C0\t0003\n"
)
NEIGHBOURS = (
    "IP address HW type Flags HW address Mask Device\n"
    "192.168.1.9 0x1 0x2 aa:aa:aa:aa:aa:aa * eth0\n"
    "192.168.1.1 0x1 0x2 00:11:22:33:44:55 * eth0\n"
)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/tmp/a"])
def test_a_server_on_this_machine_is_on_no_network(address: str) -> None:
    """Whatever the way to it is called."""
    assert network_of(address) == LOCAL


def test_a_name_that_nobody_knows_is_an_unknown_network() -> None:
    """The request meets the same and says so; here it is no error."""
    assert network_of("no-such-host.invalid:1") == UNKNOWN


def test_prefixes() -> None:
    """A /24 of version 4, a /64 of version 6."""
    assert prefix_of("192.168.1.77") == "192.168.1"
    assert prefix_of("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2"


def test_the_gateway_is_known_by_its_hardware_address(tmp_path: Path) -> None:
    """Two networks of one prefix have two gateways; where the system tells nothing, none."""
    routes, neighbours = tmp_path / "route", tmp_path / "arp"
    routes.write_text(ROUTES)
    neighbours.write_text(NEIGHBOURS)
    assert gateway_name(routes, neighbours) == "00:11:22:33:44:55"
    assert gateway_name(tmp_path / "none", neighbours) == ""
    neighbours.write_text("")
    assert gateway_name(routes, neighbours) == ""
    routes.write_text(ROUTES.replace("0101A8C0", "nothing"))
    assert gateway_name(routes, neighbours) == ""


def test_the_own_address_is_looked_up_and_nothing_is_sent() -> None:
    """A listener gets no datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)  # noqa: FBT003
        assert own_address("127.0.0.1", listener.getsockname()[1]) == "127.0.0.1"
        with pytest.raises(BlockingIOError):
            listener.recv(1)
