"""Layers whose every number float32 holds, so that all engines find the same bits.

Activations are integers between fixed bounds, weights are multiples of 2^-9, biases are integers
plus half of that. A sum of such products is a multiple of 2^-10; as long as its size stays below
2^14, float32 holds it and every partial sum of it, in whatever order they are added. `Round` and
`Clip` behind each layer make it an integer again. `bound` is that condition, `project` keeps it
while training. Knows layers; not what they are made into.

References:
    Balle et al. 2019, "Integer Networks for Data Compression with Latent-Variable Models" (ICLR),
    for networks whose probabilities must be the same on sender and receiver.
"""

import copy
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade.errors import UnsupportedModel

Network = TypeVar("Network", bound=nn.Module)
GRID = 512
"""Weights are multiples of 1 / GRID."""
HALF_STEP = 0.5 / GRID
"""Added to every integer bias: sums never lie half way between two integers, so that kernels that
err by less than that (Winograd's) still round as the others do."""
MANTISSA = 2**24
"""Float32 holds every integer up to this size."""
LIMIT = MANTISSA / (2 * GRID)
"""Sums of multiples of `HALF_STEP` are exact below this."""
ROOM = 0.95
"""Training keeps sums below this share of `LIMIT`: rounding to the grid may add some."""
BIAS_UNIT = 32.0
"""Activations of about this size count as one: a bias is so many times what its optimizer sees."""
STREAM = 255
"""Largest size of an activation."""


class RoundedAndClipped(torch.autograd.Function):
    """`clip(round(x), low, high)`; its gradient is that of the clipping alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        """Half to even, then into the range."""
        ctx.save_for_backward((x > low) & (x < high))
        return torch.round(x).clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient where nothing was clipped."""
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


@dataclass(frozen=True, slots=True)
class Range:
    """Where a layer's results lie, and whether they are rounded.

    Attributes:
        low: smallest result.
        high: largest result.
        exact: False leaves numbers as they come: the float network for comparison.
    """

    low: float
    high: float
    exact: bool = True

    def held(self, x: Tensor, *, training: bool) -> Tensor:
        """`x` of any shape, rounded and clipped; while training the gradient passes through."""
        if not self.exact:
            return x.clamp(self.low, self.high)
        if training:
            held: Tensor = RoundedAndClipped.apply(x, self.low, self.high)
            return held
        return torch.round(x).clamp(self.low, self.high)


def on_grid(x: Tensor, steps: float) -> Tensor:
    """The nearest multiples of 1 / `steps`; the gradient passes through."""
    return x + (torch.round(x * steps) / steps - x).detach()


class ExactLayer(nn.Module):
    """A convolution (kernel 1 or 3, zeros around) or a linear layer, then `Round` and `Clip`.

    Weights are kept as they are trained and put on the grid at every use; `frozen` has them there
    for good.
    """

    def __init__(  # noqa: PLR0913  the shape of a layer
        self,
        wide_in: int,
        wide_out: int,
        results: Range,
        *,
        largest: float = STREAM,
        added: float = 0.0,
        kernel: int | None = None,
        gain: float = 1.0,
    ) -> None:
        """A layer.

        Args:
            wide_in: channels it reads.
            wide_out: channels it makes.
            results: where they lie.
            largest: size of the largest number that it reads.
            added: size of the largest sum of what `forward` is given to add before rounding.
            kernel: 1 or 3 for a convolution; None for a linear layer over the last axis.
            gain: of the initial weights; 0 starts at nothing.
        """
        super().__init__()
        self.results, self.largest, self.added, self.kernel = results, largest, added, kernel
        area = (kernel or 1) ** 2
        shape = (wide_out, wide_in) + ((kernel, kernel) if kernel else ())
        size = gain * (2.0 / (wide_in * area)) ** 0.5
        self.weight = nn.Parameter(size * torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(wide_out))

    def parameters_on_grid(self) -> tuple[Tensor, Tensor]:
        """Weight and bias as they are used."""
        bias = self.bias * BIAS_UNIT
        if not self.results.exact:
            return self.weight, bias
        return on_grid(self.weight, GRID), on_grid(bias, 1) + HALF_STEP

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        """The layer of `x` plus `more`, rounded and clipped.

        Args:
            x: `[B, C, H, W]` for a convolution, else `[..., C]`.
            more: integers that broadcast against the result.
        """
        return self.held(self.sums(x, *more))

    def sums(self, x: Tensor, *more: Tensor) -> Tensor:
        """As `forward`, before rounding."""
        weight, bias = self.parameters_on_grid()
        return applied(x, weight, bias, self.kernel, more)

    def held(self, sums: Tensor) -> Tensor:
        """Sums of any shape, rounded and clipped."""
        return self.results.held(sums, training=self.training)

    def frozen(self) -> "FrozenLayer":
        """The layer with its weights on the grid for good."""
        weight, bias = self.parameters_on_grid()
        return FrozenLayer(weight.detach(), bias.detach(), self)

    @torch.no_grad()
    def size_of_sums(self) -> Tensor:
        """Largest size of each output's sum, as trained, `[out]`."""
        weights = self.weight.abs().flatten(1).sum(1) * self.largest
        return weights + self.bias.abs() * BIAS_UNIT + self.added

    @torch.no_grad()
    def project(self) -> None:
        """Shrink the weights of outputs whose sums could leave what float32 holds."""
        fixed = self.bias.abs() * BIAS_UNIT + self.added
        room = (ROOM * LIMIT - fixed).clamp(min=0)
        sums = self.weight.abs().flatten(1).sum(1) * self.largest
        shrink = (room / sums.clamp(min=1e-9)).clamp(max=1)
        self.weight.mul_(shrink.view(-1, *[1] * (self.weight.ndim - 1)))


class FrozenLayer(nn.Module):
    """An `ExactLayer` as it is exported: its weights are the grid's, nothing is left to learn."""

    def __init__(self, weight: Tensor, bias: Tensor, layer: ExactLayer) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.clone(), requires_grad=False)
        self.results, self.largest, self.added = layer.results, layer.largest, layer.added
        self.kernel = layer.kernel

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        """As `ExactLayer.forward`."""
        return self.held(self.sums(x, *more))

    def sums(self, x: Tensor, *more: Tensor) -> Tensor:
        """As `forward`, before rounding."""
        return applied(x, self.weight, self.bias, self.kernel, more)

    def held(self, sums: Tensor) -> Tensor:
        """Sums of any shape, rounded and clipped."""
        return self.results.held(sums, training=False)

    def size_of_sums(self) -> Tensor:
        """Largest size of each output's sum, `[out]`."""
        weights = self.weight.double().abs().flatten(1).sum(1) * self.largest
        return weights + self.bias.double().abs() + self.added


def applied(
    x: Tensor, weight: Tensor, bias: Tensor, kernel: int | None, more: tuple[Tensor, ...]
) -> Tensor:
    """A convolution or a linear layer and what is added to it, not rounded."""
    if kernel is None:
        found = functional.linear(x, weight, bias)
    else:
        found = functional.conv2d(x, weight, bias, padding=kernel // 2)
    for part in more:
        found = found + part
    return found


class ExactTable(nn.Module):
    """A row of integers per number: what stands for a pass or for a symbol."""

    def __init__(
        self, rows: int, width: int, *, exact: bool = True, largest: float = STREAM
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, width))
        self.results = Range(-largest, largest, exact)

    def forward(self, number: Tensor) -> Tensor:
        """`[...]` int64 to `[..., width]`."""
        rows = functional.embedding(number, self.weight) * BIAS_UNIT
        return self.results.held(rows, training=self.training)

    def frozen(self) -> nn.Module:
        """The table with its integers in place."""
        found = copy.deepcopy(self).requires_grad_(requires_grad=False)
        found.weight.copy_(self.results.held(self.weight * BIAS_UNIT, training=False) / BIAS_UNIT)
        return found


def project(network: nn.Module) -> None:
    """Keep every layer of a network in training within what float32 holds; see `bound`."""
    for module in network.modules():
        if isinstance(module, ExactLayer) and module.results.exact:
            module.project()


def frozen(network: Network) -> Network:
    """A copy in evaluation mode whose weights are those of the grid, for export and sampling.

    Raises:
        UnsupportedModel: the sums of a layer could leave what float32 holds.
    """
    found = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    for name, module in list(found.named_modules()):
        if isinstance(module, (ExactLayer, ExactTable)):
            parent = found.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.frozen())
    check_bound(found)
    return found


def bound(layer: FrozenLayer) -> float:
    """The largest sum of a layer as a share of what float32 holds exactly; below 1 is exact.

    `(sum |w| * max |a| + |b| + added) * 2^10 / 2^24`, worst over its outputs; the unit is 2^-10
    because biases lie half a step of the weights' 2^-9 off the grid.
    """
    return float(layer.size_of_sums().max()) / LIMIT


def check_bound(network: nn.Module) -> float:
    """The worst `bound` of a frozen network's layers.

    Raises:
        UnsupportedModel: a layer's is not below 1, or its numbers are not on the grid.
    """
    worst = 0.0
    for name, module in network.named_modules():
        if not isinstance(module, FrozenLayer) or not module.results.exact:
            continue
        scaled = module.weight.double() * GRID, module.bias.double() * 2 * GRID
        if any(bool((part != part.round()).any()) for part in scaled):
            raise UnsupportedModel(
                f"{name}: weights are no multiples of 1/{GRID}: freeze the network first",
                field=name,
            )
        share = bound(module)
        if not share < 1:
            raise UnsupportedModel(
                f"{name}: a sum can reach {share:.2f} times what float32 holds exactly: its bits "
                "would depend on the engine; train with `project`, or make the weights smaller",
                field=name,
            )
        worst = max(worst, share)
    return worst
