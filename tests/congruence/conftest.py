"""What the congruence tests share: tiny bundles, true servers, the true answers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from tests.congruence.children import LocalAnswers, serving
from tests.support.reserved_port import reserved_address
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("congruence") / "tiny")


@pytest.fixture(scope="session")
def slow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One whose remote stages last long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("congruence") / "slow"
    return write_tiny_bundle(folder, slow_layers=20, steps=60)


@pytest.fixture(scope="session")
def answers(bundle: Bundle) -> Iterator[LocalAnswers]:
    """Pictures of the tiny bundle made in this process alone."""
    local = LocalAnswers(bundle)
    yield local
    local.close()


@pytest.fixture(scope="session")
def unix_server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of every component on a Unix socket."""
    path: Path = tmp_path_factory.mktemp("s") / "s.sock"
    with serving(bundle, f"unix:{path}") as server:
        yield server.address


@pytest.fixture(scope="session")
def tcp_server(bundle: Bundle) -> Iterator[str]:
    """A server of every component on a loopback port."""
    with reserved_address() as address, serving(bundle, address) as server:
        yield server.address


@pytest.fixture(scope="session")
def addresses(unix_server: str, tcp_server: str) -> dict[str, str]:
    """Both, by transport."""
    return {"unix": unix_server, "tcp": tcp_server}
