"""A network that nobody wrote for this exporter: a name, its inputs, layers and what it computes.

Families list them as data, so that one judge can try all of them the same way. Knows torch modules;
not graphs or engines.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from export.weights.weight_grid import choose_grid

Shape = tuple[int | str, ...]

FREE: Shape = ("batch", 8, "height", "width")
MAP: Shape = ("batch", 8, 16, 16)
TOKENS: Shape = ("batch", 16, 32)
VECTOR: Shape = ("batch", 6)

LARGE = 256
"""Weights of at least so many numbers lie on a storage grid in two networks of three."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """One network to try."""

    name: str
    inputs: Mapping[str, Shape]
    """Named axes are free: `batch`, `tokens`, and `height` and `width` in multiples of 32."""
    build: Callable[[], nn.Module]
    ids: tuple[str, ...] = ()
    """Inputs that are whole numbers below 20."""
    mixes_rows: bool = False
    """Whether rows of one batch change one another on purpose."""

    def module(self) -> nn.Module:
        """The network with random weights, the same ones every time."""
        seed = zlib.crc32(self.name.encode())
        torch.manual_seed(seed)
        module = self.build().eval().requires_grad_(requires_grad=False)
        for value in module.parameters():
            if value.ndim == 1:
                value.add_(torch.randn_like(value), alpha=0.2)
            elif value.numel() >= LARGE and seed % 3 == 0:
                value.copy_(torch.from_numpy(choose_grid(value.numpy(), 0).value))
            elif value.numel() >= LARGE and seed % 3 == 1:
                value.copy_(value.half().float())
        return module


def net(
    name: str,
    inputs: Mapping[str, Shape],
    forward: Callable[..., Any],
    layers: Callable[[], Mapping[str, Any]] = dict,
    **more: Any,
) -> Network:
    """A network written as a function.

    Args:
        name: unique.
        inputs: as in `Network`.
        forward: takes the module and the inputs by name.
        layers: makes modules and parameters; plain tensors become buffers.
        more: other fields of `Network`.
    """

    def build() -> nn.Module:
        module: nn.Module = type(name, (nn.Module,), {"forward": forward})()
        for key, layer in layers().items():
            if isinstance(layer, Tensor) and not isinstance(layer, nn.Parameter):
                module.register_buffer(key, layer)
            else:
                setattr(module, key, layer)
        return module

    return Network(name=name, inputs=inputs, build=build, **more)


def conv(there: int, here: int, kernel: int = 3, **more: Any) -> nn.Conv2d:
    """A convolution that keeps the size unless told otherwise."""
    return nn.Conv2d(there, here, kernel, **{"padding": kernel // 2, **more})


def weight(*shape: int) -> nn.Parameter:
    """A parameter of random numbers."""
    return nn.Parameter(torch.randn(*shape) * 0.5)
