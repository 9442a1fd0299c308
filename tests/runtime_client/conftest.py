"""What the client's tests share: one tiny bundle per session."""

import pytest

from cascade.bundle.bundle import Bundle
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("client") / "tiny")


@pytest.fixture(scope="session")
def slow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One whose stages take seconds, for tests that interrupt them."""
    return write_tiny_bundle(tmp_path_factory.mktemp("client") / "slow", slow_layers=20, steps=1000)
