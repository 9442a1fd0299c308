"""Schedules of training steps by their betas: a formula with its bounds, or the numbers.

`beta_i` is the share of the power that training step `i` replaces by noise. Knows numbers; not
times, samplers or networks.

References:
    Ho et al. 2020 (arXiv 2006.11239) for `linear`; Rombach et al. 2022 (arXiv 2112.10752) for
    `scaled_linear`; Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 17, for `squared_cosine`;
    Xu et al. 2022, "GeoDiff" (arXiv 2203.02923), for `sigmoid`; Lin et al. 2023
    (arXiv 2305.08891), algorithm 1, for the zero terminal signal-to-noise ratio.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from cascade.diffusion.spacing import Ramp, Spacing
from cascade.graph_spec import LEFT_OUT
from cascade.numerics.elementary import (
    cosine,
    exponential,
    logarithm_of_1_plus,
)
from cascade.types import Times

COSINE_OFFSET = 0.008
"""`s` of `squared_cosine`."""
LARGEST_BETA = 0.999
"""Of `squared_cosine`, which would end with 1."""
SIGMOID_REACH = 6.0
"""`sigmoid` runs from minus this to this."""
HALF_PI = float.fromhex("0x1.921fb54442d18p+0")
MAX_TRAIN_STEPS = 10_000

BetaRule = Literal["linear", "scaled_linear", "squared_cosine", "sigmoid", "listed"]
"""How betas grow: evenly; their square roots evenly; so that the power is a squared cosine; along
a sigmoid; as `betas` lists them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BetaSpec:
    """A schedule of training steps, by the share of noise that each of them adds."""

    kind: Literal["betas"]
    """Names this record."""
    rule: BetaRule
    """How the betas grow."""
    train_steps: int
    """How many there are, 1 to 10,000."""
    first: float = 1e-4
    """Beta of the cleanest step, above 0 and below 1; not of `squared_cosine` and `listed`."""
    last: float = 0.02
    """Beta of the noisiest step, from `first` and below 1."""
    betas: tuple[float, ...] = ()
    """`listed` only: one for each training step, the cleanest first, each above 0 and below 1."""
    zero_terminal_snr: bool = False
    """Whether the signal is shifted and scaled so that the noisiest step keeps none."""
    spacing: Spacing = "leading"
    """Which training steps a shorter run keeps."""
    offset: int = 0
    """`leading` and `leading_inside` only: added to every kept step."""
    ramp: Ramp = field(default="steps", metadata=LEFT_OUT)
    """What a run spaces: training steps, or sigmas between those of both ends."""


def betas_of(spec: BetaSpec) -> Times:
    """The betas, the cleanest first: `[train_steps]` float64."""
    steps = spec.train_steps
    if spec.rule == "listed":
        return np.array(spec.betas, np.float64)
    if spec.rule == "squared_cosine":
        angles = (np.arange(steps + 1) / steps + COSINE_OFFSET) / (1 + COSINE_OFFSET) * HALF_PI
        powers = cosine(angles) ** 2
        return np.minimum(1 - powers[1:] / powers[:-1], LARGEST_BETA)
    if spec.rule == "scaled_linear":
        return np.linspace(np.sqrt(spec.first), np.sqrt(spec.last), steps) ** 2
    if spec.rule == "sigmoid":
        shares = 1 / (1 + exponential(-np.linspace(-SIGMOID_REACH, SIGMOID_REACH, steps)))
        return np.asarray(shares * (spec.last - spec.first) + spec.first)
    return np.linspace(spec.first, spec.last, steps)


@lru_cache(maxsize=8)
def alpha_bars(spec: BetaSpec) -> Times:
    """Signal power before the first and after every training step.

    Args:
        spec: checked by `cascade.diffusion.schedule_checks`.

    Returns:
        `[train_steps + 1]` float64, falling from 1, the last one 0 where the ratio ends at zero.
    """
    powers = exponential(np.cumsum(logarithm_of_1_plus(-betas_of(spec))))
    if spec.zero_terminal_snr:
        scales = np.sqrt(powers)
        powers = ((scales - scales[-1]) * (scales[0] / (scales[0] - scales[-1]))) ** 2
    return np.concatenate([[1.0], powers])
