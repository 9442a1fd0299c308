"""Products, stored weights and paths past the network stay right on every engine."""

import pytest

from tests.export.foreign_networks.chosen import chosen
from tests.export.foreign_networks.judge import judge
from tests.export.foreign_networks.network import Network
from tests.export.foreign_networks.products import NETWORKS


@pytest.mark.parametrize("network", chosen(NETWORKS), ids=lambda network: network.name)
def test_nothing_breaks_it(network: Network) -> None:
    """Passes, storage, forms for GPUs and int8: right or refused, and no pass is undone."""
    verdict = judge(network, eight_bits=True)
    assert (verdict.faults, verdict.undone) == ([], [])
