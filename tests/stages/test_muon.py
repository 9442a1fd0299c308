"""Muon: updates are orthogonal, of AdamW's size, and narrow layers are left to AdamW."""

import pytest
import torch
from torch import nn

from stages.training.muon import (
    ADAMW_RMS,
    LARGE_SHARE,
    LARGEST_SIDE,
    Muon,
    is_large,
    is_matrix,
    orthogonal,
)


def spread(rows: int, columns: int, condition: float) -> torch.Tensor:
    """A matrix whose singular values fall evenly in the logarithm from 1 to 1 / condition."""
    generator = torch.Generator().manual_seed(rows)
    short = min(rows, columns)
    left, _ = torch.linalg.qr(torch.randn(rows, short, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, short, generator=generator))
    return left @ torch.diag(torch.logspace(0, -torch.tensor(condition).log10(), short)) @ right.T


@pytest.mark.parametrize("shape", [(16, 16), (24, 90), (90, 24)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    """Singular values a factor of 30 apart all end between 0.6 and 1.25."""
    values = torch.linalg.svdvals(orthogonal(spread(*shape, condition=30.0)))
    assert values.min() > 0.6
    assert values.max() < 1.25


@pytest.mark.parametrize("shape", [(16, 16), (24, 90), (90, 24)])
def test_half_precision_comes_near_one_too(shape: tuple[int, int]) -> None:
    """Products in bfloat16 widen the range by a tenth and no more."""
    values = torch.linalg.svdvals(orthogonal(spread(*shape, condition=30.0), torch.bfloat16))
    assert values.min() > 0.5
    assert values.max() < 1.35


def test_singular_directions_stay() -> None:
    """Only singular values change: the answer has the matrix's own left and right vectors."""
    matrix = spread(20, 50, condition=8.0)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ orthogonal(matrix) @ right.T
    torch.testing.assert_close(inside, torch.diag(inside.diagonal()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_size_of_the_gradient_does_not_count(scale: float) -> None:
    """An update is a direction: the same for a gradient a million times larger."""
    matrix = spread(16, 40, condition=4.0)
    torch.testing.assert_close(orthogonal(matrix * scale), orthogonal(matrix), atol=1e-2, rtol=0)


@pytest.mark.parametrize("exponent", [-100, -80, -60, 100])
def test_directions_of_any_size_are_the_same_to_the_bit(exponent: int) -> None:
    """Powers of two round nothing, though squares of such values vanish or overflow."""
    matrix = spread(16, 40, condition=4.0)
    assert torch.equal(orthogonal(matrix * 2.0**exponent), orthogonal(matrix))


def test_a_direction_of_zero_is_zero() -> None:
    """And not a quotient of nothing by nothing."""
    assert not orthogonal(torch.zeros(16, 40)).any()


def test_a_layer_without_gradient_stays_finite_and_only_decays() -> None:
    """Its momentum falls to the smallest numbers within 2,000 steps, its weights by decay alone."""
    layer = nn.Linear(16, 16, bias=False)
    optimizer = Muon(layer.parameters(), lr=0.01)
    layer.weight.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    start = layer.weight.detach().clone()
    layer.weight.grad.zero_()
    for _ in range(2000):
        optimizer.step()
    torch.testing.assert_close(layer.weight, start * (1 - 0.01 * 0.01) ** 2000, rtol=1e-3, atol=0)


def test_who_takes_what() -> None:
    """Convolutions and matrices with two sides of 16 are Muon's; the rest is AdamW's."""
    assert is_matrix(nn.Conv2d(16, 32, 3).weight)
    assert is_matrix(nn.Conv2d(3, 16, 3).weight)  # 16 by 27
    assert not is_matrix(nn.Conv2d(32, 3, 3).weight)
    assert not is_matrix(nn.Linear(64, 1).weight)
    assert not is_matrix(nn.Linear(64, 64).bias)
    assert not is_matrix(torch.zeros(1, 1, 64))


@pytest.mark.parametrize("shape", [(32, 64), (64, 16, 3, 3)])
def test_one_step_has_the_size_of_an_adamw_step(shape: tuple[int, ...]) -> None:
    """The root mean square of a matrix's first update is 0.2 learning rates, within a third."""
    generator = torch.Generator().manual_seed(3)
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape, generator=generator)
    Muon([weight], lr=0.5, weight_decay=0.0).step()
    size = weight.detach().square().mean().sqrt().item()
    assert size == pytest.approx(0.5 * ADAMW_RMS, rel=0.34)


def test_vectors_move_as_in_torchs_adamw() -> None:
    """For a bias it is AdamW, step by step."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(12, generator=generator)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = Muon([mine], lr=0.1, betas=(0.9, 0.99), weight_decay=0.05)
    reference = torch.optim.AdamW([theirs], lr=0.1, betas=(0.9, 0.99), weight_decay=0.05)
    for _ in range(5):
        gradient = torch.randn(12, generator=generator)
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        reference.step()
        torch.testing.assert_close(mine, theirs)


def test_a_zero_gradient_moves_nothing() -> None:
    """No direction is made up where there is none."""
    assert torch.equal(orthogonal(torch.zeros(16, 20)), torch.zeros(16, 20))


def test_it_solves_a_stretched_quadratic() -> None:
    """With curvatures a thousandfold apart the loss falls fiftyfold in 200 steps."""
    curvature = torch.logspace(0, -3, 32)[:, None]
    target = torch.randn(32, 32, generator=torch.Generator().manual_seed(2))
    weight = nn.Parameter(torch.zeros(32, 32))
    optimizer = Muon([weight], lr=0.05, weight_decay=0.0)
    losses = []
    for step in range(200):
        optimizer.param_groups[0]["lr"] *= 1.0 if step < 150 else 0.92
        optimizer.zero_grad()
        loss = (curvature * (weight - target).square()).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]


def test_very_large_matrices_move_by_adamw_and_slowly() -> None:
    """The first step of AdamW is the learning rate times its share, either way, everywhere."""
    side = LARGEST_SIDE + 1
    parameter = nn.Parameter(torch.zeros(side, side))
    assert is_large(parameter)
    assert not is_matrix(parameter)
    assert is_matrix(torch.zeros(LARGEST_SIDE, side))
    optimizer = Muon([parameter], lr=0.5)
    parameter.grad = torch.where(torch.rand(side, side) < 0.5, -3.0, 3.0)
    optimizer.step()
    assert torch.allclose(parameter, -parameter.grad.sign() * 0.5 * LARGE_SHARE)
