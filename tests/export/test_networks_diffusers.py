"""Classes of diffusers stay right on every engine."""

import pytest

from tests.export.foreign_networks.chosen import chosen
from tests.export.foreign_networks.diffusers_networks import NETWORKS
from tests.export.foreign_networks.judge import judge
from tests.export.foreign_networks.network import Network

pytest.importorskip("diffusers", reason="diffusers IS MISSING: none of its networks was tried")


@pytest.mark.parametrize("network", chosen(NETWORKS), ids=lambda network: network.name)
def test_nothing_breaks_it(network: Network) -> None:
    """Passes, storage, forms for GPUs and int8: right or refused, and no pass is undone."""
    verdict = judge(network, eight_bits=True)
    assert (verdict.faults, verdict.undone) == ([], [])
