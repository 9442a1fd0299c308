"""Networks of released models stay right on every engine; minutes, so outside CI."""

import os

import pytest

from tests.export.foreign_networks.chosen import ALL
from tests.export.foreign_networks.judge import judge
from tests.export.foreign_networks.network import Network
from tests.export.foreign_networks.released import RELEASED

pytest.importorskip("diffusers", reason="diffusers IS MISSING: none of its networks was tried")


@pytest.mark.skipif(not os.environ.get(ALL), reason="ten seconds each: run `make networks`")
@pytest.mark.parametrize("network", RELEASED, ids=lambda network: network.name)
def test_nothing_breaks_it(network: Network) -> None:
    """Passes, storage, forms for GPUs and int8: right or refused, and no pass is undone."""
    verdict = judge(network, eight_bits=True)
    assert (verdict.faults, verdict.undone) == ([], [])
