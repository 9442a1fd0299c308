"""Which networks a test run tries: all that broke once, and a third of the quick ones that did not.

Exporting all of them takes ten minutes of one core; `make networks` does, by the variable below.
Knows names; not what the networks are.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from tests.export.foreign_networks.network import Network

ALL = "ALL_NETWORKS"
"""An environment variable; with anything in it every network is tried."""

BROKE_ONCE = frozenset(Path(__file__).with_name("broke_once.txt").read_text().split())
"""Those that the first version of the graph passes broke."""

SLOW = frozenset({"unet2d_free", "unet2d_scale_shift", "unet_condition_free"})
"""Never broken, and a minute of a core each: torch reasons about free sizes through a whole U-Net.

The networks of `joined_maps` enlarge, join and normalise maps of free sizes in ten lines each.
"""

SHARE = 3


def chosen(networks: Sequence[Network]) -> list[Network]:
    """Those to try, in their order."""
    if os.environ.get(ALL):
        return list(networks)
    left_out = BROKE_ONCE | SLOW
    never = [network.name for network in networks if network.name not in left_out]
    tried = BROKE_ONCE.union(never[::SHARE])
    return [network for network in networks if network.name in tried]
