"""TLS over a shaped link: the proxy passes bytes on, and certificates are those of the server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.systems.cascade_system import host_of
from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from tests.support.certificates import Authority
from tests.support.serving import running
from tests.support.tiny_bundle import write_tiny_bundle

RTT_S = 0.08


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tls") / "tiny", steps=1)


@pytest.fixture(scope="module")
def served(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The words that name a server whose certificate is for `localhost`, and nothing else."""
    authority = Authority(tmp_path_factory.mktemp("authority"), "ours")
    pair = authority.issue("server", hosts=("localhost",))
    with running(bundle, tls_cert=pair.certificate, tls_key=pair.key) as server:
        port = server.address.rpartition(":")[2]
        yield ["--server", f"localhost:{port}", "--tls", "--ca", str(authority.certificate)]


def measured(bundle: Bundle, served: list[str], path: Path) -> Any:
    """The record of two requests over a link, the first of a client that has no connection yet."""
    words = ["bench", "run", "--bundle", str(bundle.folder), "-o", str(path), "-q", *served]
    words += ["--rtt", f"{1000 * RTT_S:g}ms", "--requests", "1", "--warm-up", "0", "--repeats", "0"]
    assert main([*words, "--threads", "1", "--engine", "ort"]) == 0
    return json.loads(path.read_text())


def test_the_handshake_is_a_hop(bundle: Bundle, served: list[str], tmp_path: Path) -> None:
    """TCP, TLS, HTTP/2's first settings, a question: four round trips before a request's own.

    What of them passes while stages load is no waiting, so a busy machine waits less for them. The
    picture is that of the local run, and the client has checked the name of the server.
    """
    record = measured(bundle, served, tmp_path / "record.json")
    (cold,) = record["phases"]["cold"]
    assert cold["hops"]["connect"] > 0
    assert cold["with_opening_s"] >= 5 * RTT_S
    assert record["phases"]["measured"]["pictures"] == {"equal": 3, "different": 0, "unchecked": 0}
    assert record["system"]["tls_name"] == "localhost"


def test_another_hosts_certificate_is_refused(
    bundle: Bundle, served: list[str], tmp_path: Path
) -> None:
    """The proxy's own address is none that the certificate names, and that does not help."""
    path = tmp_path / "record.json"
    port = served[1].rpartition(":")[2]
    words = ["--server", f"127.0.0.1:{port}", *served[2:], "--wait", "0", "--timeout", "20"]
    record = measured(bundle, words, path)
    assert record["phases"]["measured"]["errors"] == {"TRANSPORT_ERROR": 1}


@pytest.mark.parametrize(
    ("address", "host"),
    [("gpu.example:7860", "gpu.example"), ("[::1]:1", "::1"), ("unix:/a", "localhost")],
)
def test_a_certificate_names_the_servers_host(address: str, host: str) -> None:
    """Without brackets; a socket of this machine is `localhost` for gRPC."""
    assert host_of(address) == host
