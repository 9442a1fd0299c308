"""What every test of networks shares: one thread, so that results do not depend on the machine."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Sums in one order, and no contention."""
    torch.set_num_threads(1)


def pytest_itemcollected(item: pytest.Item) -> None:
    """All of these need torch."""
    item.add_marker("torch")
