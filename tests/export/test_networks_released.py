"""Networks of released models stay right on every engine; minutes, so outside CI."""

import os

import pytest

from cascade.errors import CascadeError
from tests.export.foreign_networks.chosen import ALL
from tests.export.foreign_networks.judge import judge
from tests.export.foreign_networks.network import Network
from tests.export.foreign_networks.released import RELEASED
from tests.export.foreign_networks.released_autoencoders import AUTOENCODERS, BY_SHAPE
from tests.export.foreign_networks.released_transformers import PIXART_NETWORKS, TRANSFORMERS

pytest.importorskip("diffusers", reason="diffusers IS MISSING: none of its networks was tried")


SLOW = pytest.mark.skipif(not os.environ.get(ALL), reason="ten seconds each: run `make networks`")
RIGHT = [*RELEASED, *TRANSFORMERS, *AUTOENCODERS]
REFUSED = [*PIXART_NETWORKS, *BY_SHAPE]


@SLOW
@pytest.mark.parametrize("network", RIGHT, ids=lambda network: network.name)
def test_nothing_breaks_it(network: Network) -> None:
    """Passes, storage, forms for GPUs and int8: right or refused, and no pass is undone."""
    verdict = judge(network, eight_bits=True)
    assert (verdict.faults, verdict.undone) == ([], [])


@SLOW
@pytest.mark.parametrize("network", REFUSED, ids=lambda network: network.name)
def test_what_cannot_be_exported_is_refused_by_name(network: Network) -> None:
    """One line, with the module that torch cannot trace or the node that does not load."""
    with pytest.raises(CascadeError, match=r"^[^\n]*(model\.\w+|node_\w+)[^\n]*$"):
        judge(network, eight_bits=False)
