"""The straight path of super-resolution, against the Gaussian posterior that it claims to be."""

import pytest
import torch
from torch import Tensor

from cascade.diffusion.schedule import ScheduleKind, make_schedule
from stages.networks.preconditioning import alpha_sigma, precondition

KINDS = pytest.mark.parametrize("kind", ["cosine", "linear"])
TIMES = torch.linspace(0.01, 0.99, 25, dtype=torch.float64)


def flat(weights: Tensor) -> Tensor:
    """`[B, 1, 1, 1] -> [B]`."""
    return weights[:, 0, 0, 0]


@KINDS
def test_scales_are_the_schedules(kind: ScheduleKind) -> None:
    """Signal and noise are those of the schedule: cosine exactly, linear within 1 %."""
    schedule = make_schedule(kind)
    alpha, sigma = alpha_sigma(kind, TIMES)
    tolerance = 1e-9 if kind == "cosine" else 1e-2
    for ours, theirs in ((alpha, schedule.alpha), (sigma, schedule.sigma)):
        expected = torch.from_numpy(theirs(TIMES.numpy()))
        torch.testing.assert_close(ours, expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))


@KINDS
@pytest.mark.parametrize("residual_std", [0.05, 0.1, 1.0])
def test_it_is_the_posterior_mean(kind: ScheduleKind, residual_std: float) -> None:
    """For `x_0 ~ N(low, s^2)` the estimate is `low + alpha s^2 / total (x_t - alpha low)`."""
    path = precondition(kind, residual_std, TIMES, torch.zeros_like(TIMES))
    alpha, sigma = alpha_sigma(kind, TIMES)
    generator = torch.Generator().manual_seed(0)
    low, x_t = (torch.randn(25, generator=generator, dtype=torch.float64) for _ in range(2))
    v = flat(path.from_x_t) * x_t + flat(path.from_low) * low
    total = alpha**2 * residual_std**2 + sigma**2
    expected = low + alpha * residual_std**2 / total * (x_t - alpha * low)
    torch.testing.assert_close(alpha * x_t - sigma * v, expected)


@KINDS
@pytest.mark.parametrize("level", [0.0, 0.1, 0.5])
def test_what_is_left_has_unit_variance(kind: ScheduleKind, level: float) -> None:
    """What the network sees and what it is asked for both have variance 1, at every time."""
    residual_std, count = 0.2, 10_000
    generator = torch.Generator().manual_seed(1)

    def normal() -> Tensor:
        return torch.randn(25, count, generator=generator, dtype=torch.float64)

    levels = torch.full_like(TIMES, level)
    path = precondition(kind, residual_std, TIMES, levels)
    alpha, sigma = (s[:, None] for s in alpha_sigma(kind, TIMES))
    aug_alpha, aug_sigma = (s[:, None] for s in alpha_sigma("cosine", levels))
    low = normal()
    x0, epsilon = low + residual_std * normal(), normal()
    shown = aug_alpha * low + aug_sigma * normal() if level else low
    x_t, v = alpha * x0 + sigma * epsilon, alpha * epsilon - sigma * x0
    clean = shown * path.low_scale[:, 0, 0]
    seen = (x_t - alpha * clean) * path.c_in[:, 0, 0]
    asked = v - path.from_x_t[:, 0, 0] * x_t - path.from_low[:, 0, 0] * clean
    asked = asked / path.from_network[:, 0, 0]
    # Five standard errors of the variance of that many normal values, and the pair is independent.
    bound = 5 * (2 / count) ** 0.5
    ones = torch.ones(25, dtype=torch.float64)
    torch.testing.assert_close(seen.var(1), ones, atol=bound, rtol=0)
    torch.testing.assert_close(asked.var(1), ones, atol=bound, rtol=0)
    torch.testing.assert_close((seen * asked).mean(1), 0 * ones, atol=bound, rtol=0)


def test_level_zero_means_untouched() -> None:
    """At level 0 the picture is taken as it is: the schedule's own floor of noise is left out."""
    path = precondition("cosine", 0.1, TIMES, torch.zeros_like(TIMES))
    assert (path.low_scale == 1).all()
