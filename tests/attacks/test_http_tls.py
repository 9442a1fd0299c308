"""TLS of the HTTP door: who reaches it, under which name, and certificates that change."""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from cascade.bundle.bundle import Bundle
from runtime_server.requests.idempotency_index import RequestKey
from tests.support.certificates import Authority, Pair
from tests.support.http_calls import GENERATIONS, words
from tests.support.serving import RunningServer, running
from tests.support.tiny_bundle import write_tiny_bundle

BROKEN = (OSError, http.client.HTTPException)
"""What the standard library makes of a handshake that fails, or fails after its own end of it."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("http-tls") / "bundle")


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    """The authority that both sides trust."""
    return Authority(tmp_path, "ours")


def trusting(authority: Authority, client: Pair | None = None) -> ssl.SSLContext:
    """A caller's context."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


def status(server: RunningServer, context: ssl.SSLContext, key: str = "tls-1") -> int:
    """Of a request for a picture over TLS."""
    connection = http.client.HTTPSConnection(server.http, timeout=60, context=context)
    try:
        body = json.dumps(words())
        connection.request("POST", GENERATIONS, body, {"Idempotency-Key": key})
        return connection.getresponse().status
    finally:
        connection.close()


def served(bundle: Bundle, pair: Pair, **settings: Any) -> Any:
    """A server with TLS and a door."""
    return running(
        bundle,
        http="127.0.0.1:0",
        tls_cert=pair.certificate,
        tls_key=pair.key,
        anonymous="auto",
        **settings,
    )


def test_who_trusts_the_certificate_is_served(
    bundle: Bundle, ours: Authority, tmp_path: Path
) -> None:
    """Others end in the handshake, as plaintext does; a new certificate serves new connections."""
    pair = ours.issue("server")
    theirs = Authority(tmp_path / "theirs", "theirs")
    with served(bundle, pair) as server:
        assert status(server, trusting(ours)) == 200
        with pytest.raises(ssl.SSLError):
            status(server, trusting(theirs))
        plain = http.client.HTTPConnection(server.http, timeout=60)
        plain.request("GET", "/v1/models")
        with pytest.raises(BROKEN):
            plain.getresponse()
        plain.close()
        pair.replace_by(theirs.issue("renewed"))
        assert status(server, trusting(theirs)) == 200
        with pytest.raises(ssl.SSLError):
            status(server, trusting(ours))


def test_a_certificate_of_a_client_is_its_name(
    bundle: Bundle, ours: Authority, tmp_path: Path
) -> None:
    """The same as behind gRPC's door; without one nobody is served."""
    theirs = Authority(tmp_path / "theirs", "theirs")
    with served(bundle, ours.issue("server"), tls_client_ca=ours.certificate) as server:
        alice = ours.issue("alice", hosts=("alice.example",))
        by_name = ours.issue("bob", hosts=())
        assert status(server, trusting(ours, alice), "tls-a") == 200
        assert status(server, trusting(ours, by_name), "tls-b") == 200
        known = server.requests.index.knows
        assert known(RequestKey("cert:alice.example", "tls-a"))
        assert known(RequestKey("cert:bob", "tls-b"))
        for context in (trusting(ours), trusting(ours, theirs.issue("eve"))):
            with pytest.raises(BROKEN):
                status(server, context)
