"""The released weights: averaged weights moved once to the grid that the bundle stores.

Everything after this, torch reference included, uses the released weights, so that storage costs no
parity. What the rounding itself costs against the trained weights is measured and reported.
"""

from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def release_half_precision(network: Network) -> Network:
    """Round every parameter to the nearest half-precision number, in place."""
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    return network
