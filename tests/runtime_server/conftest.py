"""Fixtures shared by the server's tests: bundles in miniature and a running server."""

from collections.abc import Iterator

import pytest

from cascade.bundle.bundle import Bundle
from tests.support.serving import Caller, RunningServer, connect, running
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle whose steps take under a millisecond."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def slow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same components with steps of super-resolution that last several milliseconds."""
    return write_tiny_bundle(tmp_path_factory.mktemp("slow") / "bundle", slow_layers=60, steps=40)


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[RunningServer]:
    """A server of the quick bundle, shared by a module's tests."""
    with running(bundle) as running_server:
        yield running_server


@pytest.fixture
def caller(server: RunningServer) -> Iterator[Caller]:
    """A connection of its own to the shared server."""
    with connect(server.address) as connected:
        yield connected
