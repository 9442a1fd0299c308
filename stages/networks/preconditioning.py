"""Preconditioning of super-resolution (EDM's c_in, c_skip, c_out): what is known of v beforehand.

A super-resolution stage starts from a picture that is already nearly right. With the enlarged
picture `low` and a residual `x_0 - low` of standard deviation `s`, the best linear guess of v from
`x_t` and `low` is in closed form; a network adds to it a term of unit variance. An untrained stage
therefore returns the enlarged picture, and training spends nothing on learning to copy.

A released network stretches its estimates a little, `x_0 -> s x_0`, before the sampler clips them:
what lay within a few levels of white or black ends there. On v that is `s v - (s - 1) alpha / sigma
x_t`, one more weight of the same pictures.

References:
    Karras et al. 2022 (arXiv 2206.00364), section 5: the same preconditioning, there with mean zero
    and in the variance-exploding form; here for v (arXiv 2202.00512) and mean `low`.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cascade.diffusion.schedule import LOG_SNR_LIMIT, LinearSchedule, ScheduleKind

FADE = 0.03
"""Below this noise scale the stretch fades out: its exact form divides by `sigma`."""


@dataclass(frozen=True, slots=True)
class Preconditioning:
    """Per-sample weights, each `[B, 1, 1, 1]`.

    Attributes:
        alpha: signal scale at `t`.
        low_scale: undoes the augmentation's shrinking of the low-resolution picture.
        c_in: gives `x_t - alpha low` unit variance.
        from_x_t: weight of `x_t` in v.
        from_low: weight of `low` in v.
        from_network: weight of the network's output in v.
    """

    alpha: Tensor
    low_scale: Tensor
    c_in: Tensor
    from_x_t: Tensor
    from_low: Tensor
    from_network: Tensor

    def stretched(self, stretch: float, balance: Tensor) -> "Preconditioning":
        """The weights of an estimate `stretch` times as large; `balance` as `stretch_balance`."""
        return replace(
            self,
            from_x_t=self.from_x_t * stretch + balance,
            from_low=self.from_low * stretch,
            from_network=self.from_network * stretch,
        )


def stretch_balance(schedule: ScheduleKind, stretch: float, t: Tensor) -> Tensor:
    """The weight of `x_t` in v, beside `stretch` of v itself, that stretches the estimate.

    Args:
        schedule: what `t` means.
        stretch: factor of the estimate, 1 for none.
        t: `[B]`, times in [0, 1].

    Returns:
        `[B, 1, 1, 1]`.
    """
    alpha, sigma = alpha_sigma(schedule, t[:, None, None, None])
    return alpha * sigma / (sigma**2 + FADE**2) * (1 - stretch)


def precondition(
    schedule: ScheduleKind, residual_std: float, t: Tensor, aug_level: Tensor
) -> Preconditioning:
    """The weights of one batch.

    Args:
        schedule: what `t` means; the linear one in its continuous form, within 1 % of the discrete.
        residual_std: standard deviation of the residual without augmentation: EDM's sigma_data.
        t: `[B]`, times in [0, 1].
        aug_level: `[B]`, augmentation of the low-resolution picture.
    """
    t, aug_level = t[:, None, None, None], aug_level[:, None, None, None]
    alpha, sigma = alpha_sigma(schedule, t)
    aug_alpha, aug_sigma = alpha_sigma("cosine", aug_level)
    # Augmentation noise, seen through the undone shrinking, adds to what is unknown.
    s2 = residual_std**2 + torch.where(aug_level > 0, (aug_sigma / aug_alpha) ** 2, 0.0)
    # The variance of `x_t - alpha low`: residual and noise are independent.
    total = alpha**2 * s2 + sigma**2
    return Preconditioning(
        alpha=alpha,
        low_scale=1 / torch.where(aug_level > 0, aug_alpha, 1.0),
        c_in=total.rsqrt(),
        from_x_t=alpha * sigma * (1 - s2) / total,
        from_low=-sigma / total,
        from_network=(s2 / total).sqrt(),
    )


def alpha_sigma(schedule: ScheduleKind, t: Tensor) -> tuple[Tensor, Tensor]:
    """`alpha` and `sigma` of times in [0, 1], in their shape, in terms that ONNX has.

    The third form of the schedules, beside numpy's and a table's: arctangents and cumulative
    products of the others would not trace.
    """
    if schedule == "cosine":
        low = math.atan(math.exp(-0.5 * LOG_SNR_LIMIT))
        high = math.atan(math.exp(0.5 * LOG_SNR_LIMIT))
        angle = low + (high - low) * t
        return angle.cos(), angle.sin()
    linear = LinearSchedule()
    slope = linear.train_steps * (linear.beta_last - linear.beta_first)
    log_alpha_bar = -(linear.train_steps * linear.beta_first * t + 0.5 * slope * t**2)
    return (0.5 * log_alpha_bar).exp(), (1 - log_alpha_bar.exp()).clamp(min=0).sqrt()
