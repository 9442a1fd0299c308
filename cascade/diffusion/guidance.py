"""Classifier-free guidance: a denoiser made of two, one that sees the text and one that does not.

Convention everywhere in this project: weight `w` combines as `uncond + w (cond - uncond)`, so 1 is
no guidance. On estimates of `x0` this equals the same combination of epsilon or v, for all three
are linear in each other at a given `x_t`. Knows denoisers only.

References:
    Ho and Salimans 2022 (arXiv 2207.12598); the oscillating form: US 11978141, "after some first
    steps alternate between a high and a low guidance weight".
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from cascade.diffusion.denoiser import Denoiser, Estimate
from cascade.types import Batch, PerSample


@runtime_checkable
class GuidanceWeight(Protocol):
    """The weight to use at each step of a run."""

    def at(self, step: int) -> float:
        """Weight of step `step`, counted from 0 at the noisy end."""
        ...


@dataclass(frozen=True, slots=True)
class ConstantGuidance:
    """The same weight at every step."""

    weight: float

    def at(self, step: int) -> float:
        """The weight, whatever the step."""
        del step
        return self.weight


@dataclass(frozen=True, kw_only=True, slots=True)
class OscillatingGuidance:
    """The high weight during the first steps, then low and high in turn."""

    high: float
    low: float = 1.0
    first_steps: int

    def at(self, step: int) -> float:
        """High before `first_steps`; after it low, high, low, ..."""
        if step < self.first_steps or (step - self.first_steps) % 2:
            return self.high
        return self.low


@dataclass(frozen=True, slots=True)
class GuidedDenoiser:
    """Guidance of one step as a denoiser.

    Attributes:
        both: denoises a batch of twice the size: the conditional half, then the unconditional one.
        weight: `[B]`, one weight per image.
    """

    both: Denoiser
    weight: PerSample

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """`uncond + w (cond - uncond)`; a learned variance is the conditional half's."""
        estimate = self.both(np.concatenate([x_t, x_t]), np.concatenate([t, t]))
        # One run of twice the rows, in this order, as `with_null_half` stacked them.
        conditional, unconditional = np.split(estimate.x0, 2)
        w = np.asarray(self.weight, np.float32)[:, None, None, None]
        variance = None if estimate.variance is None else estimate.variance[: len(x_t)]
        return Estimate(unconditional + w * (conditional - unconditional), variance)
