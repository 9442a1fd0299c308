"""Classifier-free guidance: a denoiser made of two, one that sees the text and one that does not.

By every convention a weight of 1 is no guidance. The plain one combines as
`uncond + w (cond - uncond)`; on estimates of `x0` this equals the same combination of epsilon or v,
for all three are linear in each other at a given `x_t`. Knows denoisers only.

References:
    Ho and Salimans 2022 (arXiv 2207.12598); the oscillating form: US 11978141, "after some first
    steps alternate between a high and a low guidance weight".
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from cascade.diffusion.denoiser import Denoiser, Estimate
from cascade.diffusion.parametrization import Prediction, direction_weights
from cascade.diffusion.schedule import Schedule
from cascade.diffusion.spec import ORTHOGONAL, PLAIN, GuidanceSpec
from cascade.numerics.chunked import weighted_sum
from cascade.numerics.products import dot
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
class Halves:
    """What both halves of a guided step say, and of what.

    Attributes:
        conditional: estimates `[B, 3, H, W]` float32 that saw the text.
        unconditional: estimates of that shape that did not.
        x_t: the noisy images, of that shape.
        t: their times, `[B]`.
    """

    conditional: Batch
    unconditional: Batch
    x_t: Batch
    t: PerSample


@runtime_checkable
class Combination(Protocol):
    """What a weight means: one estimate made of two."""

    def __call__(self, halves: Halves, weight: PerSample) -> Batch:
        """The estimate, `[B, 3, H, W]` float32, for one weight per image."""
        ...


def plain(halves: Halves, weight: PerSample) -> Batch:
    """`uncond + w (cond - uncond)`, `[B, 3, H, W]` float32, for weights `[B]`."""
    w = np.asarray(weight, np.float32)[:, None, None, None]
    return halves.unconditional + w * (halves.conditional - halves.unconditional)


@dataclass(frozen=True, slots=True)
class GuidedDenoiser:
    """Guidance of one step as a denoiser.

    Attributes:
        both: denoises a batch of twice the size: the conditional half, then the unconditional one.
        weight: `[B]`, one weight per image.
        combine: how the two estimates become one.
    """

    both: Denoiser
    weight: PerSample
    combine: Combination = plain

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """The combination; a learned variance is the conditional half's."""
        estimate = self.both(np.concatenate([x_t, x_t]), np.concatenate([t, t]))
        # One run of twice the rows, in this order, as `with_null_half` stacked them.
        conditional, unconditional = np.split(estimate.x0, 2)
        variance = None if estimate.variance is None else estimate.variance[: len(x_t)]
        found = self.combine(Halves(conditional, unconditional, x_t, t), self.weight)
        return Estimate(found, variance)


@dataclass(frozen=True, slots=True)
class Projected:
    """`cond + (w - 1) d`, d being what of `cond - uncond` is orthogonal to the prediction.

    The part along the prediction makes colours stronger and hardly the picture better. Adaptive
    projected guidance takes it away along the estimate of the clean image; imagen-pytorch along
    what the network predicts. The difference of two predictions is a multiple of that of the two
    estimates, so both work on estimates and differ in the direction alone.

    Attributes:
        schedule: what times mean.
        prediction: along which the difference is taken away; `x0` is the clean image.

    References:
        Sadat et al. 2024, "Eliminating Oversaturation and Artifacts of High Guidance Scales in
        Diffusion Models" (arXiv 2410.02416), section 4, with eta = 0, no rescaling, no momentum.
    """

    schedule: Schedule
    prediction: Prediction

    def __call__(self, halves: Halves, weight: PerSample) -> Batch:
        """Image by image."""
        out = np.empty_like(halves.conditional)
        times = np.asarray(halves.t, np.float64)
        alpha, sigma = self.schedule.alpha(times), self.schedule.sigma(times)
        for row in range(len(out)):
            one = slice(row, row + 1)
            conditional = halves.conditional[one]
            difference = conditional - halves.unconditional[one]
            from_x_t, from_x0 = direction_weights(self.prediction, alpha[row], sigma[row])
            along = conditional
            if self.prediction != "x0":
                along = weighted_sum((from_x_t, halves.x_t[one]), (from_x0, conditional))
            length = dot(along, along)
            share = dot(difference, along) / length if length > 0 else 0.0
            w = float(weight[row]) - 1
            out[one] = weighted_sum((1.0, conditional), (w, difference), (-w * share, along))
        return out


def combination(spec: GuidanceSpec, schedule: Schedule, prediction: Prediction) -> Combination:
    """What the weights of a stage mean.

    Args:
        spec: names the convention.
        schedule: of the stage.
        prediction: of its network.
    """
    if spec.convention == PLAIN:
        return plain
    return Projected(schedule, "x0" if spec.convention == ORTHOGONAL else prediction)
