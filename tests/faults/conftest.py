"""Victims shared by the tests of faults, and the rule that every test leaves them empty."""

from collections.abc import Iterator

import pytest

from cascade.bundle.bundle import Bundle
from tests.support.server_process import ALIVE, BRIEFLY, Victim, victim
from tests.support.serving import Caller, connect
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle whose steps take under a millisecond."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def slow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same components with steps of super-resolution that last several milliseconds."""
    return write_tiny_bundle(tmp_path_factory.mktemp("slow") / "bundle", slow_layers=60, steps=40)


@pytest.fixture(scope="session")
def quick(bundle: Bundle) -> Iterator[Victim]:
    """A server process of the quick bundle, shared by all tests of faults.

    It waits for readers as long as tests wait for results: on a busy machine a test that does not
    read until another request is through can take more than the default minute.
    """
    with victim(bundle, *BRIEFLY, "--reader-patience-s", "300") as server:
        yield server


@pytest.fixture(scope="session")
def slow(slow_bundle: Bundle) -> Iterator[Victim]:
    """One of the slow bundle with two waiting places per component, where nobody overtakes.

    What would be late is let in, so that deadlines pass inside; other tests see it refused.
    """
    options = ("--max-queued-per-stage", "2", "--max-running", "1", "--no-refuse-late", *BRIEFLY)
    with victim(slow_bundle, *options) as server:
        yield server


@pytest.fixture(scope="session")
def shared(slow_bundle: Bundle) -> Iterator[Victim]:
    """One of the slow bundle where up to four requests share each run."""
    with victim(slow_bundle, "--max-batch-rows", "4", *BRIEFLY) as server:
        yield server


@pytest.fixture
def shared_caller(shared: Victim) -> Iterator[Caller]:
    """A connection of its own to the one where requests share runs."""
    with connect(shared.address) as caller:
        yield caller


@pytest.fixture
def quick_caller(quick: Victim) -> Iterator[Caller]:
    """A connection of its own to the quick one."""
    with connect(quick.address) as caller:
        yield caller


@pytest.fixture
def slow_caller(slow: Victim) -> Iterator[Caller]:
    """A connection of its own to the slow one."""
    with connect(slow.address) as caller:
        yield caller


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """24. After every test: in flight, queues, kept results, slots and registries at zero."""
    yield
    for server in ALIVE:
        assert server.process.poll() is None, f"the server died: {server.lines[-5:]}"
        server.wait_until_empty()
