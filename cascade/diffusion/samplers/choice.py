"""Which sampler a manifest names, behind one signature.

The one place that goes from a sampler's name to its function. Knows no stage and no network.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from cascade.diffusion.samplers.ddim import ddim, final_step
from cascade.diffusion.samplers.ddpm import ddpm, final_mean, final_noise
from cascade.diffusion.samplers.dpmpp_2m import dpmpp_2m
from cascade.diffusion.samplers.heun import heun
from cascade.diffusion.samplers.plms import plms
from cascade.diffusion.samplers.sampling import DenoiserAt, NoiseAt, SamplerStep
from cascade.diffusion.samplers.stochastic import stochastic
from cascade.diffusion.schedule import Schedule
from cascade.diffusion.spec import SamplerKind, repeated_evaluations
from cascade.types import Batch, Time, Times


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerInputs:
    """Everything that some sampler needs; each takes its part."""

    denoise: DenoiserAt
    start: Batch
    """Noise at `times[0]`, `[B, 3, H, W]`."""
    schedule: Schedule
    times: Times
    noise: NoiseAt
    gamma: float
    first_time: Time = 0.0
    """Of the cleanest training step; 0 where time is continuous."""

    def after(self, steps: int, x: Batch) -> "SamplerInputs":
        """The rest of a run, some of its first steps left out.

        Args:
            steps: how many; 0 leaves out none.
            x: the images at that time, `[B, 3, H, W]` float32.
        """
        return replace(
            self,
            start=x,
            times=self.times[steps:],
            # A step keeps its number: the guidance that it is given, and the noise that it draws.
            denoise=lambda index: self.denoise(index + steps),
            noise=lambda index: self.noise(index + steps),
        )


SAMPLERS: dict[SamplerKind, Callable[[SamplerInputs], Generator[SamplerStep, None, None]]] = {
    "ddim": lambda i: ddim(i.denoise, i.start, i.schedule, i.times),
    "ddim_final_step": lambda i: final_step(SAMPLERS["ddim"](i), i.schedule, i.times, i.start),
    "ddpm": lambda i: ddpm(i.denoise, i.start, i.schedule, i.times, i.noise, i.gamma),
    "ddpm_final_noise": lambda i: final_noise(
        SAMPLERS["ddpm"](i), i.schedule, i.times, i.noise, i.first_time
    ),
    "ddpm_final_mean": lambda i: final_mean(SAMPLERS["ddpm"](i), i.schedule, i.times, i.start),
    # Euler's step in sigma / alpha is DDIM's; so is that of a rectified flow in its own time.
    "euler": lambda i: ddim(i.denoise, i.start, i.schedule, i.times),
    "heun": lambda i: heun(i.denoise, i.start, i.schedule, i.times),
    "dpmpp_2m": lambda i: dpmpp_2m(i.denoise, i.start, i.schedule, i.times),
    "plms": lambda i: plms(i.denoise, i.start, i.schedule, i.times),
    "stochastic": lambda i: stochastic(i.denoise, i.start, i.schedule, i.times, i.noise),
}


def sample(kind: SamplerKind, inputs: SamplerInputs) -> Generator[SamplerStep, None, None]:
    """The steps of a run with the named sampler."""
    return SAMPLERS[kind](inputs)


def first_step(kind: SamplerKind, inputs: SamplerInputs) -> Generator[SamplerStep, None, None]:
    """The evaluations of the first step of a run, and no more: two of `heun`, one of the others."""
    steps = len(inputs.times) - 1
    count = repeated_evaluations(kind, steps) - repeated_evaluations(kind, steps - 1)
    # Closed at its end, whatever is left of it: closing is cancelling.
    with closing(sample(kind, inputs)) as run:
        yield from islice(run, count)
