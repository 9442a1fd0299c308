"""Resampling: every step of a sampler taken several times, noise added back between them.

What a step makes beside known pixels has not seen the rest of itself; taken again from the same
time, it has. Wraps any sampler and yields as one; knows none of them.

References:
    Lugmayr et al. 2022, "RePaint" (arXiv 2201.09865), algorithm 1, with jumps of one step.
"""

from collections.abc import Generator
from dataclasses import replace

from cascade.diffusion.samplers.choice import SamplerInputs, first_step
from cascade.diffusion.samplers.sampling import SamplerStep
from cascade.diffusion.samplers.stochastic import add_noise
from cascade.diffusion.schedule import Schedule
from cascade.diffusion.spec import SamplerKind, repeated_evaluations
from cascade.numerics.chunked import weighted_sum
from cascade.numerics.noise import AGAIN, JUMP
from cascade.types import Batch, Time


def resampled(
    kind: SamplerKind, inputs: SamplerInputs, times: int
) -> Generator[SamplerStep, None, None]:
    """Sample with every step taken several times.

    Args:
        kind: of the sampler.
        inputs: as the sampler takes them.
        times: how often each step is taken, from 1; the number of a repetition is added to that of
            its step, `AGAIN` times.

    Yields:
        As many evaluations as were made: `times` for each of the sampler's. A sampler that
        remembers its last estimates takes every step as its first.
    """
    total = repeated_evaluations(kind, len(inputs.times) - 1) * times
    x, done = inputs.start, 0
    for index in range(len(inputs.times) - 1):
        for again in range(times):
            # The first step of a run that begins here: every sampler is one step after another.
            for step in first_step(kind, repeated(inputs, again).after(index, x)):
                done += 1
                yield replace(step, index=done, total=total)
                x = step.x_t
            if again + 1 < times:
                before, reached = inputs.times[index], inputs.times[index + 1]
                noise = inputs.noise(JUMP + AGAIN * again + index)
                x = back(inputs.schedule, x, reached, before, noise)


def repeated(inputs: SamplerInputs, again: int) -> SamplerInputs:
    """The inputs of a repetition: noise of its own at every step.

    Args:
        inputs: of the run.
        again: the number of the repetition; 0 is the first time.
    """
    first = AGAIN * again
    return replace(
        inputs,
        denoise=lambda index: inputs.denoise(first + index),
        noise=lambda index: inputs.noise(first + index),
    )


def back(schedule: Schedule, x: Batch, s: Time, t: Time, noise: Batch) -> Batch:
    """Images at time `s` noised to the later time `t`.

    Args:
        schedule: what the times mean.
        x: `[B, 3, H, W]` float32.
        s: their time, 0 for clean images.
        t: a later one.
        noise: standard normal, of the shape of `x`, float32.

    Returns:
        `[B, 3, H, W]` float32.
    """
    if s > 0:
        return add_noise(schedule, x, s, t, noise)
    return weighted_sum((float(schedule.alpha(t)), x), (float(schedule.sigma(t)), noise))
