"""Networks as every converter bears them: the same numbers, spelt so that none is lost on the way.

A group norm becomes a layer norm over groups of constant length. Converters and runtimes take the
sum of squares for the variance otherwise, or keep it in half precision, and lose three digits at a
mean of thirty deviations. Knows torch modules; no converter.
"""

import copy
from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

Network = TypeVar("Network", bound=nn.Module)


class LayerNormGroups(nn.Module):
    """A `GroupNorm` of the same weights by `layer_norm` over `[batch, groups, values]`."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.epsilon = norm.num_groups, norm.eps
        shape = (norm.num_channels, 1, 1)
        self.weight = nn.Parameter(norm.weight.detach().reshape(shape), requires_grad=False)
        self.bias = nn.Parameter(norm.bias.detach().reshape(shape), requires_grad=False)

    def forward(self, h: Tensor) -> Tensor:
        """`[B, C, H, W]` to the same shape; sizes are constants of the traced program."""
        batch, channels, height, width = (int(size) for size in h.shape)
        length = channels // self.groups * height * width
        rows = h.reshape(batch, self.groups, length)
        normed = functional.layer_norm(rows, (length,), eps=self.epsilon)
        return normed.reshape(batch, channels, height, width) * self.weight + self.bias


class Positional(nn.Module):
    """A network that takes inputs in order and answers with a tuple: runtimes number both."""

    def __init__(self, network: nn.Module, inputs: Sequence[str]) -> None:
        super().__init__()
        self.network, self.inputs = network, tuple(inputs)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Inputs in the order of their names, of any shapes."""
        found = self.network(**dict(zip(self.inputs, values, strict=True)))
        return found if isinstance(found, tuple) else (found,)


def phone_spelling(network: Network) -> Network:
    """A copy in evaluation mode without group norms."""
    found = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    for name, module in list(found.named_modules()):
        if isinstance(module, nn.GroupNorm):
            parent = found.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], LayerNormGroups(module))
    return found
