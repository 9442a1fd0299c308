"""TLS: who reaches whom, one test per cell, and certificates that change under a running server."""

import logging
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import TransportError
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.remote.transport import Security, Transport
from tests.support.certificates import Authority, Pair
from tests.support.serving import (
    PROMPT,
    Caller,
    RunningServer,
    request_message,
    results_of,
    running,
)
from tests.support.tiny_bundle import write_tiny_bundle
from wire.server_info import decode_info, encode_info_request
from wire.service import GET_SERVER_INFO

Served = Callable[[str], RunningServer]


@dataclass(frozen=True)
class World:
    """Two authorities and what they signed."""

    ours: Authority
    theirs: Authority
    server: Pair
    expired: Pair
    elsewhere: Pair
    client: Pair
    stranger: Pair
    lapsed: Pair


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """All certificates of these tests."""
    folder = tmp_path_factory.mktemp("certificates")
    ours, theirs = Authority(folder / "a", "ours"), Authority(folder / "b", "theirs")
    return World(
        ours=ours,
        theirs=theirs,
        server=ours.issue("server"),
        expired=ours.issue("expired", days_left=-1),
        elsewhere=ours.issue("elsewhere", hosts=("10.9.8.7", "example.org")),
        client=ours.issue("client", hosts=("phone-7.example.org",)),
        stranger=theirs.issue("stranger", hosts=("phone-7.example.org",)),
        lapsed=ours.issue("lapsed", hosts=("phone-7.example.org",), days_left=-1),
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="module")
def served(world: World, bundle: Bundle) -> Iterator[Served]:
    """One running server per kind of port, started by the first test that wants it."""
    pairs = {"tls": world.server, "mtls": world.server, "expired": world.expired,
             "elsewhere": world.elsewhere}  # fmt: skip
    found: dict[str, RunningServer] = {}
    with ExitStack() as stack:

        def get(port: str) -> RunningServer:
            if port not in found:
                pair = pairs.get(port)
                settings: dict[str, Any] = {}
                if pair is not None:
                    settings = {"tls_cert": pair.certificate, "tls_key": pair.key}
                if port == "mtls":
                    settings["tls_client_ca"] = world.ours.certificate
                found[port] = stack.enter_context(running(bundle, **settings))
            return found[port]

        yield get


@dataclass(frozen=True)
class Cell:
    """One caller at one port."""

    name: str
    port: str
    """Which server."""
    caller: str
    """How the caller connects, in words for the table."""
    trusts: str = ""
    """`ours` or `theirs`; empty for plaintext."""
    shows: str = ""
    """The pair of a client certificate; empty for none."""
    reached: bool = False


CELLS = [
    Cell("plaintext-to-plaintext", "plaintext", "plaintext", reached=True),
    Cell("tls-to-plaintext", "plaintext", "TLS", trusts="ours"),
    Cell("plaintext-to-tls", "tls", "plaintext"),
    Cell("good", "tls", "TLS", trusts="ours", reached=True),
    Cell("wrong-authority", "tls", "TLS, trusting another authority", trusts="theirs"),
    Cell("expired", "expired", "TLS", trusts="ours"),
    Cell("wrong-host", "elsewhere", "TLS", trusts="ours"),
    Cell("unasked-certificate", "tls", "TLS with a client certificate that is not asked for",
         trusts="ours", shows="client", reached=True),
    Cell("plaintext-to-mtls", "mtls", "plaintext"),
    Cell("no-certificate", "mtls", "TLS without a client certificate", trusts="ours"),
    Cell("certificate-of-another-authority", "mtls", "TLS, client certificate of another authority",
         trusts="ours", shows="stranger"),
    Cell("expired-certificate", "mtls", "TLS, client certificate that has expired",
         trusts="ours", shows="lapsed"),
    Cell("good-certificate", "mtls", "TLS with a good client certificate",
         trusts="ours", shows="client", reached=True),
]  # fmt: skip

PORTS = {
    "plaintext": "plaintext (loopback)",
    "tls": "TLS",
    "expired": "TLS, its certificate has expired",
    "elsewhere": "TLS, its certificate names another host",
    "mtls": "TLS that requires client certificates",
}


def security_of(cell: Cell, world: World) -> Security:
    """How the client of a cell connects."""
    pair: Pair | None = getattr(world, cell.shows) if cell.shows else None
    return Security(
        tls=bool(cell.trusts),
        ca_file=getattr(world, cell.trusts).certificate if cell.trusts else None,
        client_cert=pair and pair.certificate,
        client_key=pair and pair.key,
    )


def ask(address: str, security: Security) -> str:
    """The bundle id that a server tells over a connection of its own."""
    transport = Transport(address, security)
    try:
        reply = transport.unary(GET_SERVER_INFO, encode_info_request(), timeout_s=60)
    finally:
        transport.close()
    return decode_info(reply).bundle_id


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_who_reaches_whom(cell: Cell, world: World, served: Served, bundle: Bundle) -> None:
    """The true server through the true client: an answer, or a typed error and no answer."""
    server = served(cell.port)
    security = security_of(cell, world)
    if cell.reached:
        assert ask(server.address, security) == bundle.bundle_id
    else:
        with pytest.raises(TransportError):
            ask(server.address, security)


@pytest.mark.parametrize(
    ("version", "spoken"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_old_versions_are_not_spoken(
    version: ssl.TLSVersion, world: World, served: Served, *, spoken: bool
) -> None:
    """A handshake of TLS 1.1 fails at the server, later ones do not."""
    context = ssl.create_default_context(cafile=world.ours.certificate)
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    # Python's own refusal of old versions must not answer for the server.
    context.set_ciphers("ALL:@SECLEVEL=0")
    host, _, port = served("tls").address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=120) as plain:
        if spoken:
            with context.wrap_socket(plain, server_hostname=host) as encrypted:
                assert encrypted.selected_alpn_protocol() == "h2"
        else:
            with pytest.raises(ssl.SSLError, match=r"UNEXPECTED_EOF|ALERT_PROTOCOL_VERSION"):
                context.wrap_socket(plain, server_hostname=host)


@pytest.mark.parametrize(
    ("hosts", "common_name", "identity"),
    [
        (("phone-7.example.org", "other.example.org"), "cn", "cert:phone-7.example.org"),
        ((), "gateway-3", "cert:gateway-3"),
    ],
)
def test_the_certificates_name_is_the_callers(
    hosts: tuple[str, ...],
    common_name: str,
    identity: str,
    world: World,
    served: Served,
    bundle: Bundle,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its first alternative name, else its common name."""
    pair = world.ours.issue("named", hosts=hosts, common_name=common_name)
    message = request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT))
    with (
        caplog.at_level(logging.INFO, "runtime_server"),
        channel(served("mtls").address, world.ours, pair) as caller,
    ):
        assert set(results_of(caller.generate(message))) >= {"sr32"}
    lines = [getattr(r, "fields", {}) for r in caplog.records if r.getMessage() == "generate"]
    assert [line["identity"] for line in lines] == [identity]


@pytest.mark.parametrize("common_name", ["", "two words", "é"])
def test_a_certificate_without_a_usable_name_is_refused(
    common_name: str, world: World, served: Served
) -> None:
    """It is of the right authority, and still nobody."""
    pair = world.ours.issue("nameless", hosts=(), common_name=common_name)
    with (
        channel(served("mtls").address, world.ours, pair) as caller,
        pytest.raises(grpc.RpcError) as refused,
    ):
        caller.server_info()
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


class channel:  # noqa: N801  used as a function
    """A channel that trusts one authority and may show a certificate, in a `with` block."""

    def __init__(self, address: str, trusted: Authority, pair: Pair | None = None) -> None:
        files = (trusted.certificate, pair and pair.key, pair and pair.certificate)
        credentials = grpc.ssl_channel_credentials(*(f and f.read_bytes() for f in files))
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._channel = grpc.secure_channel(address, credentials, options)

    def __enter__(self) -> Caller:
        return Caller(self._channel)

    def __exit__(self, *error: object) -> None:
        self._channel.close()


def copied(pair: Pair, folder: Path) -> Pair:
    """The pair's content in files that a test may replace."""
    folder.mkdir()
    mine = Pair(folder / "cert.pem", folder / "key.pem")
    mine.replace_by(pair)
    return mine


def test_rotation_drops_no_stream(world: World, tmp_path: Path) -> None:
    """New connections get the new certificate while a picture on the old one is finished."""
    slow = write_tiny_bundle(tmp_path / "slow", slow_layers=60, steps=40)
    files = copied(world.server, tmp_path / "tls")
    message = request_message(slow, prompt=pb.PromptStart(prompt=PROMPT))
    with (
        running(slow, tls_cert=files.certificate, tls_key=files.key) as server,
        channel(server.address, world.ours) as old,
    ):
        stream = old.generate(message, timeout_s=60)
        assert next(stream).WhichOneof("event") == "accepted"
        files.replace_by(world.theirs.issue("renewed"))
        with channel(server.address, world.theirs) as new:
            assert new.server_info().bundle_id == slow.bundle_id
        with channel(server.address, world.ours) as late, pytest.raises(grpc.RpcError):
            late.server_info(timeout_s=60)
        assert "sr32" in results_of(stream)
        assert old.server_info().bundle_id == slow.bundle_id


def test_a_broken_new_certificate_keeps_the_old_one(
    world: World, bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A key of another pair, then garbage, then nothing; the log says so once each; then a good."""
    files = copied(world.server, tmp_path / "tls")
    with running(bundle, tls_cert=files.certificate, tls_key=files.key) as server:

        def refusals() -> int:
            return [r.getMessage() for r in caplog.records].count("reload_refused")

        with caplog.at_level(logging.INFO, "runtime_server"):
            breaking: list[Callable[[], object]] = [
                lambda: files.key.write_bytes(world.client.key.read_bytes()),
                lambda: files.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\nAA\n"),
                files.certificate.unlink,
            ]
            for number, spoil in enumerate(breaking, start=1):
                spoil()
                for _ in range(2):
                    with channel(server.address, world.ours) as caller:
                        assert caller.server_info().bundle_id == bundle.bundle_id
                assert refusals() == number
            files.replace_by(world.theirs.issue("renewed"))
            with channel(server.address, world.theirs) as caller:
                assert caller.server_info().bundle_id == bundle.bundle_id


def test_the_authority_of_clients_can_be_replaced(
    world: World, bundle: Bundle, tmp_path: Path
) -> None:
    """Clients of the old one are refused from then on."""
    authority = tmp_path / "authority.pem"
    authority.write_bytes(world.ours.certificate.read_bytes())
    settings = {"tls_cert": world.server.certificate, "tls_key": world.server.key}
    with running(bundle, tls_client_ca=authority, **settings) as server:
        with channel(server.address, world.ours, world.client) as caller:
            assert caller.server_info().components
        authority.write_bytes(world.theirs.certificate.read_bytes())
        with channel(server.address, world.ours, world.stranger) as caller:
            assert caller.server_info().components
        with (
            channel(server.address, world.ours, world.client) as caller,
            pytest.raises(grpc.RpcError) as refused,
        ):
            caller.server_info(timeout_s=60)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
