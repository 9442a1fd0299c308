"""The released weights: averaged weights moved once to the grid that the bundle stores.

Everything after this, torch reference included, uses the released weights, so that storage costs no
parity, and the int8 variant of a graph multiplies by the very weights of its float32 form. What the
rounding itself costs against the trained weights is measured and reported.
"""

from enum import StrEnum
from typing import TypeVar

import torch
from torch import nn

from export.weights.weight_grid import choose_grid, find_grid

Network = TypeVar("Network", bound=nn.Module)
SMALL = 1024
"""Weights of fewer numbers keep half precision: they weigh nothing."""

EDGES = ("stem", "conv_out", "gate_out")
"""The first and last convolutions of `EfficientUNet`."""


class Storage(StrEnum):
    """How the large weights of a stage lie in its float32 file."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


def release(network: Network, storage: Storage) -> Network:
    """Move a network's parameters onto the grid of a storage format, in place; idempotent."""
    if storage is Storage.FLOAT32:
        return network
    large = large_weights(network) if storage is Storage.INT8 else {}
    for parameter in network.parameters():
        value = parameter.detach()
        if id(parameter) in large:
            axis, trained = large[id(parameter)], value.numpy()
            # find first: a grid chosen anew could differ from the one that the weights lie on, and
            # move them again.
            grid = find_grid(trained, axis) or choose_grid(trained, axis)
            parameter.data = torch.from_numpy(grid.value)
        else:
            # Back to float32: only the numbers are rounded, the arithmetic stays what was trained.
            parameter.data = value.half().float()
    return network


def large_weights(network: nn.Module) -> dict[int, int]:
    """Which weights take eight bits: object identity to the axis of the output channel.

    Left out, because rounding them shows in the pictures and they weigh little: the layers that
    touch pixels (`EDGES`) and 1x1 convolutions, which carry the residual stream past each block.
    """
    return {
        id(module.weight): 1 if isinstance(module, nn.ConvTranspose2d) else 0
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        and module.weight.numel() >= SMALL
        and name not in EDGES
        and not (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))
    }
