"""Addresses to listen on: all that a name means, or a refusal that names the one at fault."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cascade.addresses import is_loopback
from cascade.bundle.bundle import Bundle
from cascade.errors import TransportError
from runtime_server.app.server import CascadeServer
from runtime_server.config.config import ServerConfig
from runtime_server.core import Core, load_core
from runtime_server.lifecycle.admin import AdminHandlers, AdminServer
from runtime_server.lifecycle.reload import ReloadAnswer
from runtime_server.system.listeners import Endpoint, find_endpoints
from tests.support.server_process import Victim
from tests.support.serving import ask, connect, running

IPV6 = socket.has_ipv6 and bool(socket.getaddrinfo("::1", 0, flags=socket.AI_NUMERICHOST))
PANEL = AdminHandlers(
    is_alive=lambda: True,
    is_ready=lambda: True,
    metrics=lambda: b"",
    metrics_type="text/plain",
    reload=lambda: ReloadAnswer(outcome="unchanged", bundle_id="", message=""),
)
TAKEN = ["127.0.0.1"] + (["::1"] if IPV6 else [])


@contextmanager
def taken(host: str, port: int = 0, *, shared: bool = False) -> Iterator[int]:
    """A port that another program listens on at one address; with IPv6, there alone."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as other:
        if family is socket.AF_INET6:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((host, port))
        other.listen()
        yield int(other.getsockname()[1])


@pytest.fixture(scope="module")
def core(bundle: Bundle) -> Iterator[Core]:
    """What all servers here serve."""
    loaded = load_core(ServerConfig(bundle=bundle.folder, threads=1, warm_up=False))
    yield loaded
    loaded.close()


def listen(core: Core, address: str) -> str:
    """Start a server at an address and stop it; the address it had."""

    async def scenario() -> str:
        server = CascadeServer(
            ServerConfig(
                bundle=core.config.bundle, listen=address, insecure=True, anonymous="allow"
            ),
            core,
        )
        await server.start()
        await server.stop(0)
        return server.address

    return asyncio.run(scenario())


def watch(core: Core, address: str) -> str:
    """The same of the operator's port."""
    del core
    server = AdminServer(address, PANEL)
    server.close()
    return server.address


BOTH = pytest.mark.parametrize("start", [listen, watch])


@BOTH
@pytest.mark.parametrize("host", TAKEN)
def test_a_name_is_refused_where_one_of_its_addresses_is_taken(
    core: Core, start: Any, host: str
) -> None:
    """Whichever it is; the refusal names it, and nothing is left behind."""
    with taken(host) as port:
        with pytest.raises(TransportError, match="in use") as refused:
            start(core, f"localhost:{port}")
        assert str(Endpoint(host, port)) in str(refused.value)
    assert start(core, f"localhost:{port}") == f"localhost:{port}"


@BOTH
@pytest.mark.parametrize("shared", [False, True])
def test_a_taken_port_is_not_shared(core: Core, start: Any, *, shared: bool) -> None:
    """Also where the other program would share it (SO_REUSEPORT), and for every wildcard."""
    with taken("127.0.0.1", shared=shared) as port:
        for host in ("127.0.0.1", "0.0.0.0", *(["[::]"] if IPV6 else [])):  # noqa: S104
            with pytest.raises(TransportError, match="in use"):
                start(core, f"{host}:{port}")


@pytest.mark.skipif(not IPV6, reason="IPv6 is not tested here: this machine has none")
@BOTH
def test_every_address_is_not_only_some(core: Core, start: Any) -> None:
    """`[::]` is refused where IPv6 is another's, though IPv4 would be free."""
    with taken("::") as port:
        with pytest.raises(TransportError, match=r"\[::\]:"):
            start(core, f"[::]:{port}")
        if start is watch:
            assert start(core, f"0.0.0.0:{port}") == f"0.0.0.0:{port}"


@BOTH
def test_addresses_that_are_none_are_named(core: Core, start: Any) -> None:
    """A name without an address; an address of another machine."""
    with pytest.raises(TransportError, match=r"no-such-host\.invalid"):
        start(core, "no-such-host.invalid:7860")
    with pytest.raises(TransportError, match=r"192\.0\.2\.1:7860"):
        start(core, "192.0.2.1:7860")


def test_localhost_is_served_at_every_loopback_address(bundle: Bundle) -> None:
    """At one free port, for both ways in; gRPC and the operator's port alike."""
    port_server = AdminServer("localhost:0", PANEL)
    try:
        with running(bundle, listen="localhost:0") as server:
            for host in TAKEN:
                where = str(Endpoint(host, int(server.address.rpartition(":")[2])))
                with connect(where) as caller:
                    assert caller.server_info().bundle_id == bundle.bundle_id
                where = str(Endpoint(host, int(port_server.address.rpartition(":")[2])))
                assert ask(where, "/livez")[0] == 200
                assert ask(where, "/reload", "POST")[0] == 200
    finally:
        port_server.close()


@pytest.mark.skipif(not IPV6, reason="IPv6 is not tested here: this machine has none")
def test_a_wildcard_takes_both_kinds_of_callers() -> None:
    """And a caller from this machine is one however its address is written."""
    server = AdminServer("[::]:0", PANEL)
    try:
        for host in TAKEN:
            where = str(Endpoint(host, int(server.address.rpartition(":")[2])))
            assert ask(where, "/reload", "POST")[0] == 200
    finally:
        server.close()
    assert is_loopback("::ffff:127.0.0.1")
    assert not is_loopback("::ffff:192.0.2.1")


def test_a_single_address_leaves_its_free_port_to_the_listener() -> None:
    """Between finding a port and taking it another could take it."""
    assert find_endpoints("127.0.0.1", 0) == (Endpoint("127.0.0.1", 0),)


def test_a_process_that_cannot_have_every_address_ends(bundle: Bundle) -> None:
    """Exit code 2 and one line with the address, before anybody is served."""
    with taken("127.0.0.1") as port:
        child = Victim(bundle, "--listen", f"localhost:{port}")
        try:
            assert child.wait(600) == 2
        finally:
            child.kill()
    (line,) = (line for line in child.lines if not line.startswith("{"))
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{port} (one of localhost)")
