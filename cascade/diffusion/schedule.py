"""Noise schedules as data: the signal and noise scale at every time.

Time `t` runs from 0 (clean) to 1 (noise). A schedule gives `alpha(t)` and `sigma(t)` of the
forward process `x_t = alpha x_0 + sigma epsilon` and the log signal-to-noise
ratio `log(alpha^2 / sigma^2)`. Both sides of a cut must arrive at the same numbers to the last bit,
so none of them comes from a library's logarithms and cosines. It does not know networks, samplers
or images.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from cascade.diffusion.betas import BetaSpec, alpha_bars
from cascade.diffusion.continuous import (
    FlowSchedule,
    FlowSpec,
    InterpolatedSchedule,
    RampedSchedule,
    SigmaSchedule,
    SigmaSpec,
)
from cascade.diffusion.spacing import Ramp, Spacing, kept_steps, listed_times
from cascade.errors import InvalidRequest
from cascade.graph_spec import LEFT_OUT
from cascade.numerics.elementary import (
    cosine,
    exponential,
    exponential_minus_1,
    logarithm,
    logarithm_of_1_plus,
    sine,
)
from cascade.types import Time, Times

LOG_SNR_LIMIT = 20.0
"""Cosine log-SNR is kept in [-20, 20], as in progressive distillation's released configuration."""

ANGLES = (float.fromhex("0x1.7cd79b51e3f99p-15"), float.fromhex("0x1.921cbb950c2dcp+0"))
"""`arctan(e^(-x/2))` and `arctan(e^(x/2))` of that limit `x`."""

ScheduleKind = Literal["cosine", "linear"]


@runtime_checkable
class Schedule(Protocol):
    """A noise schedule: everything a sampler or a training step asks of the forward process."""

    def log_snr(self, t: Time) -> Times:
        """Log signal-to-noise ratio, `log(alpha^2 / sigma^2)`.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, falling with the time.
        """
        ...

    def alpha(self, t: Time) -> Times:
        """Signal scale.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, 0 to 1.
        """
        ...

    def sigma(self, t: Time) -> Times:
        """Noise scale.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, 0 to 1.
        """
        ...

    def timesteps(self, steps: int) -> Times:
        """The decreasing times of a run: `[steps + 1]` float64 in [0, 1], the last one 0."""
        ...


@dataclass(frozen=True, slots=True)
class CosineSchedule:
    """The cosine schedule in continuous time, `alpha = cos`, `sigma = sin` of a linear angle.

    References:
        Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 17, in the continuous form used by
        Salimans and Ho 2022 (arXiv 2202.00512), with log-SNR clipped to `LOG_SNR_LIMIT`.
    """

    def angle(self, t: Time) -> Times:
        """The angle whose cosine is the signal scale.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, radians, above 0 and below half of pi.
        """
        low, high = ANGLES
        return np.asarray(low + (high - low) * np.asarray(t, np.float64))

    def alpha(self, t: Time) -> Times:
        """Signal scale.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, 0 to 1.
        """
        return cosine(self.angle(t))

    def sigma(self, t: Time) -> Times:
        """Noise scale.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, 0 to 1.
        """
        return sine(self.angle(t))

    def log_snr(self, t: Time) -> Times:
        """Log signal-to-noise ratio.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, within `LOG_SNR_LIMIT`.
        """
        angle = self.angle(t)
        return -2.0 * logarithm(sine(angle) / cosine(angle))

    def timesteps(self, steps: int) -> Times:
        """Evenly spaced times from 1 down to 0: `[steps + 1]` float64."""
        return np.linspace(1.0, 0.0, checked_steps(steps) + 1)


@dataclass(frozen=True, slots=True)
class LinearSchedule:
    """Betas growing linearly over a fixed number of steps; log alpha-bar is linear between.

    Training step `i` (counted from 0) is time `(i + 1) / train_steps`; time 0 is the clean image.
    The defaults are those of Imagen's 256 -> 1024 stage (arXiv 2205.11487, appendix F.3).
    """

    train_steps: int = 1000
    beta_first: float = 1e-4
    beta_last: float = 0.02

    def log_alpha_bar(self, t: Time) -> Times:
        """Log of the cumulated signal power, `log prod(1 - beta)`.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, 0 or less.
        """
        known = linear_log_alpha_bars(self.train_steps, self.beta_first, self.beta_last)
        places = np.clip(np.asarray(t, np.float64), 0, 1) * self.train_steps
        below = np.minimum(places.astype(int), self.train_steps - 1)
        return np.asarray(known[below] + (places - below) * (known[below + 1] - known[below]))

    def alpha(self, t: Time) -> Times:
        """Signal scale.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, 0 to 1.
        """
        return exponential(0.5 * self.log_alpha_bar(t))

    def sigma(self, t: Time) -> Times:
        """Noise scale.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, 0 to 1.
        """
        return np.sqrt(-exponential_minus_1(self.log_alpha_bar(t)))

    def log_snr(self, t: Time) -> Times:
        """Log signal-to-noise ratio.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape; infinite at time 0.
        """
        log_alpha_bar = self.log_alpha_bar(t)
        return log_alpha_bar - logarithm(-exponential_minus_1(log_alpha_bar))

    def timesteps(self, steps: int) -> Times:
        """The times of a run that keeps so many training steps, evenly: `[steps + 1]` float64."""
        return respaced(self.train_steps, (checked_steps(steps),))


@lru_cache(maxsize=4)
def linear_log_alpha_bars(train_steps: int, first: float, last: float) -> Times:
    """Log of the cumulated signal power before the first and after every training step.

    Args:
        train_steps: how many.
        first: beta of the cleanest step, in (0, 1).
        last: beta of the noisiest.

    Returns:
        `[train_steps + 1]` float64, falling from 0.
    """
    betas = np.linspace(first, last, train_steps)
    return np.concatenate([[0.0], np.cumsum(logarithm_of_1_plus(-betas))])


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSpec:
    """A schedule of training steps, written out: no rule for the reader to know or to get wrong."""

    kind: Literal["table"] = "table"
    alpha_bar: tuple[float, ...]
    """Signal power left after each training step, the cleanest first; the last may be 0."""
    spacing: Spacing = "leading"
    """Which training steps a shorter run keeps."""
    offset: int = 0
    """`leading` and `leading_inside` only: added to every kept step."""
    ramp: Ramp = field(default="steps", metadata=LEFT_OUT)
    """What a run spaces: training steps, sigmas between those of both ends, or training steps
    without rounding them (`between`)."""
    at_zero: float = field(default=1.0, metadata=LEFT_OUT)
    """Signal power at time 0: below 1 where a schedule never comes to the clean picture, for the
    samplers `ddpm_final_mean`, `ddim_final_step` and `plms`; at least that of the first step."""


ScheduleSpec = ScheduleKind | TableSpec | BetaSpec | SigmaSpec | FlowSpec
"""A schedule as a manifest gives it: the name of a rule, a formula, or the numbers."""


@dataclass(frozen=True, slots=True)
class TableSchedule:
    """A schedule that exists at its training steps only; a time means the nearest of them.

    Training step `i` (counted from 0) is time `(i + 1) / train_steps`; time 0 is the clean image.

    Attributes:
        alpha_bar: signal power at time 0 and after each training step, `[train_steps + 1]`.
        spacing: which steps a shorter run keeps.
        offset: added to every kept step.
    """

    alpha_bar: Times
    spacing: Spacing
    offset: int

    @property
    def train_steps(self) -> int:
        """Training steps that the range (0, 1] stands for."""
        return len(self.alpha_bar) - 1

    def power(self, t: Time) -> Times:
        """Signal power, `alpha^2`, of the nearest training step.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, 0 to 1.
        """
        steps = np.rint(np.asarray(t, np.float64) * self.train_steps).astype(int)
        return np.asarray(self.alpha_bar[np.clip(steps, 0, self.train_steps)])

    def alpha(self, t: Time) -> Times:
        """Signal scale.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, 0 to 1.
        """
        return np.sqrt(self.power(t))

    def sigma(self, t: Time) -> Times:
        """Noise scale.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape, 0 to 1.
        """
        return np.sqrt(1 - self.power(t))

    def log_snr(self, t: Time) -> Times:
        """Log signal-to-noise ratio.

        Args:
            t: times in [0, 1], any shape.

        Returns:
            float64 of that shape; infinite at time 0.
        """
        power = self.power(t)
        return logarithm(power) - logarithm_of_1_plus(-power)

    def timesteps(self, steps: int) -> Times:
        """The times of a run that keeps so many training steps: `[steps + 1]` float64.

        Raises:
            InvalidRequest: the schedule has fewer.
        """
        if checked_steps(steps) > self.train_steps:
            raise InvalidRequest(
                f"steps: this schedule has {self.train_steps} training steps, {steps} asked",
                field="steps",
            )
        kept = kept_steps(self.spacing, self.offset, self.train_steps, steps)
        return listed_times(self.train_steps, kept)


def training_steps(spec: ScheduleSpec) -> int | None:
    """How many training steps a schedule has; None where time is continuous."""
    if isinstance(spec, TableSpec):
        return len(spec.alpha_bar)
    if isinstance(spec, BetaSpec):
        return spec.train_steps
    return LinearSchedule().train_steps if spec == "linear" else None


def first_time(spec: ScheduleSpec) -> float:
    """Time of training step 0; 0 where time is continuous."""
    known = training_steps(spec)
    return 0.0 if known is None else 1 / known


def respaced(train_steps: int, sections: tuple[int, ...]) -> Times:
    """Times of a run that keeps `sections[k]` training steps in the k-th equal part of the range.

    Args:
        train_steps: number of training steps that the range [0, 1] stands for.
        sections: how many steps to keep per part, the cleanest part first.

    Returns:
        `[sum(sections) + 1]` float64, decreasing; the first is the noisiest kept step, the last 0.

    Raises:
        InvalidRequest: a part has no room for that many steps.

    References:
        Respacing of improved diffusion (arXiv 2102.09672, section 4), as DeepFloyd IF lists it.
    """
    if not sections:
        raise InvalidRequest("sections: expected at least one", field="steps")
    kept: list[int] = []
    start = 0
    for index, count in enumerate(sections):
        size = train_steps // len(sections) + (1 if index < train_steps % len(sections) else 0)
        if not 1 <= count <= size:
            raise InvalidRequest(
                f"steps: part {index} of the schedule holds {size} training steps, {count} asked",
                field="steps",
            )
        # Both ends of a part are kept; one step alone keeps the clean end, in the last part the
        # noisy one. The stride is summed, not multiplied, so that ties round as published.
        stride = (size - 1) / max(count - 1, 1)
        offsets = np.cumsum([0.0] + [stride] * (count - 1))
        if count == 1 and index == len(sections) - 1:
            offsets = np.array([size - 1.0])
        kept.extend(start + round(float(offset)) + 1 for offset in offsets)
        start += size
    return np.asarray(np.array([*sorted(kept, reverse=True), 0]) / train_steps)


def checked_steps(steps: int) -> int:
    """`steps`, or an error that names the field when it is not a positive number."""
    if steps < 1:
        raise InvalidRequest(f"steps: expected at least 1, got {steps}", field="steps")
    return steps


def make_schedule(spec: ScheduleSpec) -> Schedule:
    """The schedule that a manifest gives."""
    if isinstance(spec, SigmaSpec):
        return SigmaSchedule(spec)
    if isinstance(spec, FlowSpec):
        return FlowSchedule(spec)
    if isinstance(spec, TableSpec | BetaSpec):
        powers = alpha_bars(spec) if isinstance(spec, BetaSpec) else [spec.at_zero, *spec.alpha_bar]
        if spec.ramp == "between":
            return InterpolatedSchedule(np.array(powers))
        if spec.ramp != "steps":
            return RampedSchedule(np.array(powers), spec.ramp)
        return TableSchedule(np.array(powers), spec.spacing, spec.offset)
    return CosineSchedule() if spec == "cosine" else LinearSchedule()
