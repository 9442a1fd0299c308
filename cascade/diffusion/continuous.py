"""Schedules in continuous time: sigmas by formula, rectified flow, and what lies between steps.

Each is a `cascade.diffusion.schedule.Schedule`. What others call sigma, of a process that adds
noise and keeps the signal, is `sigma / alpha` here, where the signal shrinks so that power stays 1:
the same process. Knows formulas; not samplers.

References:
    Karras et al. 2022 (arXiv 2206.00364), eq. 5, for the sigmas; Liu et al. 2022
    (arXiv 2209.03003) for rectified flow; Esser et al. 2024 (arXiv 2403.03206), eq. 23, for its
    shift.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cascade.diffusion.spacing import RHO, SigmaRamp, log_sigmas
from cascade.numerics.elementary import exponential, logarithm, logarithm_of_1_plus
from cascade.types import Time, Times

CLEANEST = 1 / 1000
"""Time of the lowest sigma; time 0 is the clean image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SigmaSpec:
    """A schedule in continuous time by its lowest and highest sigma (EDM's)."""

    kind: Literal["sigmas"]
    """Names this record."""
    rule: SigmaRamp
    """What grows evenly with the time: the root of sigma, or its logarithm."""
    lowest: float
    """Sigma of a run's last step, at time 1/1000; above 0."""
    highest: float
    """Sigma of a run's first step, at time 1; at most 1,000,000."""
    rho: float = RHO
    """Which root; `karras` only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowSpec:
    """Rectified flow: the picture fades into noise in a straight line."""

    kind: Literal["flow"]
    """Names this record."""
    shift: float = 1.0
    """Moves the times of a run to the noisy end where above 1: `s u / (1 + (s - 1) u)` for even
    times u; 0.01 to 100."""


def scales(log_sigma: Times) -> tuple[Times, Times]:
    """Signal and noise scale of a logarithm of `sigma / alpha`, any shape, float64."""
    ratio = exponential(log_sigma)
    alpha = 1 / np.sqrt(1 + ratio * ratio)
    return np.asarray(alpha), np.asarray(ratio * alpha)


class SigmaSchedule:
    """See `SigmaSpec`."""

    def __init__(self, spec: SigmaSpec) -> None:
        """A schedule of checked numbers."""
        self._spec = spec
        self._ends = float(logarithm(spec.lowest)), float(logarithm(spec.highest))

    def _log_sigma(self, t: Time) -> Times:
        share = np.clip((np.asarray(t, np.float64) - CLEANEST) / (1 - CLEANEST), 0, 1)
        return log_sigmas(self._spec.rule, self._ends, share, self._spec.rho)

    def log_snr(self, t: Time) -> Times:
        """Log signal-to-noise ratio, of the shape of `t`; infinite at time 0."""
        return np.where(np.asarray(t) > 0, -2.0 * self._log_sigma(t), np.inf)

    def alpha(self, t: Time) -> Times:
        """Signal scale, of the shape of `t`."""
        return np.where(np.asarray(t) > 0, scales(self._log_sigma(t))[0], 1.0)

    def sigma(self, t: Time) -> Times:
        """Noise scale, of the shape of `t`."""
        return np.where(np.asarray(t) > 0, scales(self._log_sigma(t))[1], 0.0)

    def timesteps(self, steps: int) -> Times:
        """Evenly from 1 to the lowest sigma's time, and 0: `[steps + 1]` float64."""
        return np.append(np.linspace(1.0, CLEANEST, steps), 0.0)


class FlowSchedule:
    """See `FlowSpec`: `alpha = 1 - t`, `sigma = t`."""

    def __init__(self, spec: FlowSpec) -> None:
        """A schedule of checked numbers."""
        self._shift = spec.shift

    def log_snr(self, t: Time) -> Times:
        """Log signal-to-noise ratio, of the shape of `t`; infinite at both ends."""
        return np.asarray(2.0 * (logarithm(self.alpha(t)) - logarithm(self.sigma(t))))

    def alpha(self, t: Time) -> Times:
        """Signal scale, of the shape of `t`."""
        return np.asarray(1 - np.asarray(t, np.float64))

    def sigma(self, t: Time) -> Times:
        """Noise scale, of the shape of `t`."""
        return np.asarray(t, np.float64)

    def timesteps(self, steps: int) -> Times:
        """Evenly from 1 to 0, shifted: `[steps + 1]` float64."""
        even = np.linspace(1.0, 0.0, steps + 1)
        return np.asarray(self._shift * even / (1 + (self._shift - 1) * even))


class InterpolatedSchedule:
    """Training steps, and what lies between two of them, in a straight line of sigma.

    Training step `i` (counted from 0) is time `(i + 1) / train_steps`; up to the first one
    everything but time 0 is the first one.
    """

    def __init__(self, alpha_bar: Times) -> None:
        """A schedule.

        Args:
            alpha_bar: signal power at time 0 and after each training step, `[train_steps + 1]`,
                above 0.
        """
        powers = alpha_bar[1:]
        self._sigmas = np.sqrt((1 - powers) / powers)

    def _ratio(self, t: Time) -> Times:
        """`sigma / alpha`, of the shape of `t`; 0 at time 0."""
        t, last = np.asarray(t, np.float64), len(self._sigmas) - 1
        places = np.clip(t * (last + 1) - 1, 0, last)
        below = np.minimum(places.astype(int), max(last - 1, 0))
        low, high = self._sigmas[below], self._sigmas[np.minimum(below + 1, last)]
        return np.where(t > 0, low + (places - below) * (high - low), 0.0)

    def log_snr(self, t: Time) -> Times:
        """Log signal-to-noise ratio, of the shape of `t`; infinite at time 0."""
        ratio = self._ratio(t)
        there = ratio > 0
        return np.where(there, -2.0 * logarithm(np.where(there, ratio, 1.0)), np.inf)

    def alpha(self, t: Time) -> Times:
        """Signal scale, of the shape of `t`."""
        ratio = self._ratio(t)
        return np.asarray(1 / np.sqrt(1 + ratio * ratio))

    def sigma(self, t: Time) -> Times:
        """Noise scale, of the shape of `t`."""
        return self._ratio(t) * self.alpha(t)

    def timesteps(self, steps: int) -> Times:
        """Evenly from the noisiest training step to the cleanest, and 0: `[steps + 1]` float64.

        A single step is the cleanest, as with the spacing `linspace`.
        """
        count = len(self._sigmas)
        places = np.linspace(0, count - 1, steps)[::-1]
        return np.append((places + 1) / count, 0.0)


class RampedSchedule:
    """Training steps, and what lies between them, in a straight line of the logarithm of sigma.

    Training step `i` (counted from 0) is time `(i + 1) / train_steps`; up to the first one
    everything but time 0 is the first one.
    """

    def __init__(self, alpha_bar: Times, ramp: SigmaRamp) -> None:
        """A schedule.

        Args:
            alpha_bar: signal power at time 0 and after each training step, `[train_steps + 1]`,
                above 0.
            ramp: how the sigmas of a run are spaced.
        """
        self._ramp: SigmaRamp = ramp
        powers = alpha_bar[1:]
        self._logs = 0.5 * (logarithm_of_1_plus(-powers) - logarithm(powers))

    def _log_sigma(self, t: Time) -> Times:
        last = len(self._logs) - 1
        places = np.clip(np.asarray(t, np.float64) * (last + 1) - 1, 0, last)
        below = np.minimum(places.astype(int), max(last - 1, 0))
        above = np.minimum(below + 1, last)
        share = places - below
        return np.asarray(self._logs[below] + share * (self._logs[above] - self._logs[below]))

    def log_snr(self, t: Time) -> Times:
        """Log signal-to-noise ratio, of the shape of `t`; infinite at time 0."""
        return np.where(np.asarray(t) > 0, -2.0 * self._log_sigma(t), np.inf)

    def alpha(self, t: Time) -> Times:
        """Signal scale, of the shape of `t`."""
        return np.where(np.asarray(t) > 0, scales(self._log_sigma(t))[0], 1.0)

    def sigma(self, t: Time) -> Times:
        """Noise scale, of the shape of `t`."""
        return np.where(np.asarray(t) > 0, scales(self._log_sigma(t))[1], 0.0)

    def timesteps(self, steps: int) -> Times:
        """The times whose sigmas are spaced by the ramp, and 0: `[steps + 1]` float64."""
        logs, last = self._logs, len(self._logs) - 1
        shares = np.linspace(1.0, 0.0, steps) if steps > 1 else np.ones(1)
        wanted = log_sigmas(self._ramp, (float(logs[0]), float(logs[-1])), shares)
        below = np.clip(np.searchsorted(logs, wanted, "right") - 1, 0, max(last - 1, 0))
        step = np.minimum(below + 1, last)
        width = np.where(step > below, logs[step] - logs[below], 1.0)
        places = below + np.clip((wanted - logs[below]) / width, 0, 1)
        return np.append((places + 1) / (last + 1), 0.0)
