"""Noise levels as repeated refinement draws them: continuous, evenly over the steps of a schedule.

Knows a schedule; not networks, pictures or what a level is told to.

References:
    Saharia et al. 2021 (arXiv 2104.07636), section 2: a step `t` evenly among `T`, then gamma
    evenly between `gamma_(t-1)` and `gamma_t`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cascade.diffusion.schedule import Schedule
from stages.training.objective import even_times

STEPS = 2000
"""Steps of training, as in the paper."""


@dataclass(frozen=True, slots=True)
class NoiseLevels:
    """Draws of the square root of gamma.

    Attributes:
        schedule: whose signal power bounds every step.
        steps: how many pieces the distribution has.
    """

    schedule: Schedule
    steps: int = STEPS

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` levels, `[count]` float32, 0 for noise and 1 for the picture."""
        # Stratified over the batch: every sample by itself is drawn evenly.
        step = (even_times(count, generator) * self.steps).floor()
        power = [self.power((step + more) / self.steps) for more in (0, 1)]
        share = torch.rand(count, generator=generator, dtype=torch.float64)
        return (power[1] + share * (power[0] - power[1])).sqrt().float()

    def power(self, t: Tensor) -> Tensor:
        """Gamma at times `[B]` in [0, 1]: `[B]` float64."""
        return torch.from_numpy(self.schedule.alpha(t.double().numpy())) ** 2
