"""Which times a run of few steps keeps of a schedule: by its training steps, or by its sigmas.

Knows numbers of steps and of noise; not the schedules that they belong to.

References:
    Karras et al. 2022 (arXiv 2206.00364), eq. 5, for `karras`; Lin et al. 2023
    (arXiv 2305.08891), table 2, for the names of the spacings.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cascade.errors import InvalidRequest
from cascade.numerics.elementary import exponential, logarithm
from cascade.types import Array, Time, Times

Spacing = Literal["leading", "linspace", "trailing", "leading_inside", "linspace_inside"]
"""Which training steps a shorter run keeps: multiples of a whole stride from the clean end; evenly
from end to end; evenly from the noisy end. `inside`: as a run of one step more, but for its
cleanest step."""

SigmaRamp = Literal["karras", "exponential"]
"""What is spaced evenly: roots of sigma, or its logarithms."""

Ramp = Literal["steps", "karras", "exponential", "between"]
"""What a run spaces: training steps, sigmas, or with `between` the training steps from end to end
without rounding, and their sigmas in a straight line."""

RHO = 7.0
"""Which roots `karras` spaces evenly."""


def kept_steps(spacing: Spacing, offset: int, train_steps: int, steps: int) -> list[int]:
    """The training steps of a run, counted from 0, the noisiest first.

    Args:
        spacing: which ones.
        offset: added to each; `leading` and `leading_inside` only.
        train_steps: of the schedule.
        steps: of the run, from 1.

    Raises:
        InvalidRequest: the schedule has fewer.
    """
    more = steps + 1 if spacing.endswith("_inside") else steps
    kept: Array
    if spacing.startswith("leading"):
        kept = np.arange(more)[::-1] * (train_steps // more) + offset
    elif spacing.startswith("linspace"):
        kept = np.linspace(0, train_steps - 1, more).round()[::-1]
    else:
        kept = np.arange(train_steps, 0, -train_steps / steps).round() - 1
    kept = kept[:steps]
    if kept[0] >= train_steps or len(set(kept.tolist())) < steps:
        with_offset = f" and an offset of {offset}" if offset else ""
        raise InvalidRequest(
            f"steps: {steps} steps{with_offset} pass the {train_steps} training steps of this "
            "schedule",
            field="steps",
        )
    return [int(step) for step in kept]


def listed_times(train_steps: int, kept: Sequence[int]) -> Times:
    """The times of a run over listed training steps, and 0 at the end.

    Args:
        train_steps: training steps of the schedule.
        kept: which ones, counted from 0, the noisiest first.

    Returns:
        `[steps + 1]` float64 in [0, 1] for so many kept steps.
    """
    return np.array([*(step + 1 for step in kept), 0], np.float64) / train_steps


def log_sigmas(ramp: SigmaRamp, ends: tuple[float, float], share: Time, rho: float = RHO) -> Times:
    """Logarithms of sigma between two ends.

    Args:
        ramp: what is spaced evenly.
        ends: logarithms of the lowest sigma and of the highest.
        share: 0 at the lowest, 1 at the highest, any shape.
        rho: which root; `karras` only.

    Returns:
        float64 of that shape.
    """
    low, high = ends
    share = np.asarray(share, np.float64)
    if ramp == "exponential":
        return np.asarray(low + share * (high - low))
    least, most = float(exponential(low / rho)), float(exponential(high / rho))
    return np.asarray(rho * logarithm(least + share * (most - least)))
