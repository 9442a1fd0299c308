"""Muon: momentum whose update of every matrix is made orthogonal, AdamW for the rest.

Every direction of a weight matrix learns at the same pace, so that a network needs fewer samples
for the same loss: where pictures are few and cores fewer, that is the whole budget. Knows
parameters and gradients; not what they belong to.

References:
    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", for the
    Newton-Schulz iteration and its coefficients; Liu et al. 2025 (arXiv 2502.16982), section 2.2,
    for the scale that gives its updates the root mean square of AdamW's, so that one learning rate
    serves both halves.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients that carry singular values from (0, 1] to around 1 in five rounds."""
ROUNDS = 5
MATRIX_SIDE = 16
"""Weights with a shorter side than this are left to AdamW."""
LARGEST_SIDE = 400
"""Matrices whose shorter side is longer are left to AdamW too: products of their sides would cost
more than all samples of a step."""
LARGE_SHARE = 0.1
"""Learning rate of these beside the other ones'."""
ADAMW_RMS = 0.2
"""Root mean square of a typical AdamW update, in learning rates."""
EPSILON = 1e-8
SMALLEST = torch.finfo(torch.float32).tiny
"""Largest values below this are taken for a gradient of zero."""


def orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, roughly: singular values 0.7 to 1.2.

    Args:
        matrix: `[M, N]`.
        dtype: of the products; bfloat16 moves the singular values by a few hundredths more.
    """
    a, b, c = NEWTON_SCHULZ
    # First by the largest value: squares of values below 1e-23 vanish, and with them the norm.
    matrix = matrix / matrix.abs().max().clamp(min=SMALLEST)
    # Frobenius norm: at least the largest singular value, so that all of them begin in (0, 1].
    x = (matrix / matrix.norm().clamp(min=SMALLEST)).to(dtype)
    tall = x.shape[0] > x.shape[1]
    # The product is of the shorter side: a tall matrix would cost the square of the longer one.
    x = x.T if tall else x
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


def is_matrix(parameter: Tensor) -> bool:
    """True for weights that Muon takes: convolutions count as `[out, in * kernel]`."""
    return parameter.ndim >= 2 and MATRIX_SIDE <= shorter_side(parameter) <= LARGEST_SIDE


def is_large(parameter: Tensor) -> bool:
    """True for matrices that are too large for Muon."""
    return parameter.ndim >= 2 and shorter_side(parameter) > LARGEST_SIDE


def shorter_side(parameter: Tensor) -> int:
    """Of a weight as a matrix."""
    return min(parameter.shape[0], parameter[0].numel())


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolutions, AdamW for vectors and narrow layers."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """An optimizer.

        Args:
            parameters: all of the network's; sorted here into the two kinds.
            lr: learning rate of both kinds.
            momentum: decay of Muon's moving average.
            betas: decays of AdamW's two moving averages.
            weight_decay: decoupled, of both kinds.
            dtype: of the matrix products; bfloat16 where the processor multiplies it faster.
        """
        self.dtype = dtype
        kept = list(parameters)
        others = [p for p in kept if not is_matrix(p) and not is_large(p)]
        large = [p for p in kept if is_large(p)]
        groups = [
            {"params": [p for p in kept if is_matrix(p)], "orthogonal": True, "share": 1.0},
            {"params": others, "orthogonal": False, "share": 1.0},
        ]
        if large:
            groups.append({"params": large, "orthogonal": False, "share": LARGE_SHARE})
        super().__init__(
            groups,
            {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no line searches here
        """One update from the gradients."""
        del closure
        for group in self.param_groups:
            update = self._matrix if group["orthogonal"] else self._vector
            for parameter in group["params"]:
                if parameter.grad is not None:
                    # Decoupled, before the update, as AdamW has it: decay is not orthogonalised.
                    parameter.mul_(1 - group["lr"] * group["share"] * group["weight_decay"])
                    update(parameter, parameter.grad, group)

    def _matrix(self, parameter: Tensor, gradient: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["m"] = torch.zeros_like(parameter)
        state["m"].lerp_(gradient, 1 - group["momentum"])
        if not gradient.any():
            # A layer that nothing reaches: what is left of the momentum has no size that counts
            # here, so it would move the layer at full pace for thousands of steps.
            return
        # Nesterov: the direction is where the average will be after the next gradient like this
        # one.
        ahead = gradient.lerp(state["m"], group["momentum"])
        direction = orthogonal(ahead.flatten(1), self.dtype).view_as(parameter)
        # An orthonormal matrix has root mean square 1 / sqrt(longer side): this undoes it (section
        # 2.2).
        size = ADAMW_RMS * max(parameter.shape[0], parameter[0].numel()) ** 0.5
        parameter.add_(direction, alpha=-group["lr"] * size)

    def _vector(self, parameter: Tensor, gradient: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["m"], state["v"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["n"] = torch.zeros(())
        first, second = group["betas"]
        state["n"] += 1
        state["m"].lerp_(gradient, 1 - first)
        state["v"].lerp_(gradient.square(), 1 - second)
        mean = state["m"] / (1 - first ** state["n"])
        root = (state["v"] / (1 - second ** state["n"])).sqrt()
        parameter.addcdiv_(mean, root + EPSILON, value=-group["lr"] * group["share"])
