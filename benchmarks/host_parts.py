"""The parts of a stage's work outside its engine, each as a call that can be timed alone.

Built from the product's own functions on the arrays of a real run, so that a percentile is taken of
true estimates and not of noise. Knows the order in which a stage calls them; not how they are
timed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cascade.codecs.image import from_network, to_network
from cascade.diffusion.conditioning import augment
from cascade.diffusion.denoiser import EngineDenoiser, Estimate
from cascade.diffusion.enlarging import enlarge
from cascade.diffusion.guidance import GuidedDenoiser
from cascade.diffusion.samplers.choice import SamplerInputs, sample
from cascade.diffusion.schedule import make_schedule
from cascade.diffusion.spec import DiffusionSpec
from cascade.diffusion.thresholding import thresholded
from cascade.numerics.noise import START, normals
from cascade.request import Handoff
from cascade.types import Array, Batch, PerSample


@dataclass(frozen=True, slots=True)
class StepArrays:
    """What the last call of a stage's engine was about.

    Attributes:
        inputs: of the graph, by name.
        outputs: of the graph, by name.
        handoff: what the stage started from.
        position: the stage's place in the cascade.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    handoff: Handoff
    position: int


@dataclass(frozen=True, slots=True)
class ReplayedRun:
    """An engine and a denoiser that answer at once what was answered before."""

    outputs: dict[str, Array]
    estimate: Estimate | None = None

    def run(self, inputs: object) -> dict[str, Array]:
        """The same outputs whatever the inputs."""
        del inputs
        return self.outputs

    def terminate(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """The same estimate whatever the image."""
        del x_t, t
        assert self.estimate is not None
        return replace(self.estimate, x0=self.estimate.x0.copy())


def parts_of(spec: DiffusionSpec, arrays: StepArrays) -> dict[str, Callable[[], object]]:
    """Name to call: first what every step does, then what a picture needs once."""
    schedule = make_schedule(spec.schedule)
    x_t, t = arrays.inputs["x_t"], arrays.inputs["t"]
    network = EngineDenoiser(ReplayedRun(arrays.outputs), schedule, spec.prediction, {})
    estimate = network(x_t, t)
    one, when = x_t[:1], t[:1]
    guided = GuidedDenoiser(ReplayedRun({}, estimate), np.array([spec.guidance.weight], np.float32))
    combined = guided(one, when) if len(x_t) == 2 else estimate
    limited = thresholded(ReplayedRun({}, combined), spec.threshold)
    final = limited(one, when)

    def noise(step: int) -> Batch:
        return normals(one.shape, seed=7, image=0, stage=arrays.position, step=step)

    def update() -> object:
        inputs = SamplerInputs(
            denoise=lambda _: ReplayedRun({}, final),
            start=one,
            schedule=schedule,
            times=np.array([0.6, 0.4, 0.0]),
            noise=noise,
            gamma=spec.gamma,
        )
        return next(sample(spec.sampler, inputs))

    parts: dict[str, Callable[[], object]] = {"step: estimate of x0": lambda: network(x_t, t)}
    if len(x_t) == 2:
        parts["step: guidance"] = lambda: guided(one, when)
    # Thresholding works in place, so what is timed includes the copy that keeps the estimate.
    parts["step: thresholding (and a copy)"] = lambda: limited(one, when)
    parts[f"step: sampler ({spec.sampler})"] = update
    parts["picture: noise"] = lambda: noise(START)
    parts.update(conditioning_parts(spec, arrays))
    parts["picture: to 8 bit"] = lambda: from_network(final.x0)
    return parts


def conditioning_parts(spec: DiffusionSpec, arrays: StepArrays) -> dict[str, Callable[[], object]]:
    """What a super-resolution stage does to its input picture; nothing for a base stage."""
    image = arrays.handoff.image
    if spec.low is None or image is None:
        return {}
    size = (spec.makes.width, spec.makes.height)
    parts: dict[str, Callable[[], object]] = {
        "picture: from 8 bit": lambda: to_network(image),
        "picture: enlarging": lambda: enlarge(image, size, spec.enlarge),
    }
    if spec.augmentation is not None and spec.augmentation.default > 0:
        large, level = enlarge(image, size, spec.enlarge), spec.augmentation.default

        def augmentation() -> Batch:
            noise = normals(large.shape, seed=7, image=0, stage=arrays.position, step=START)
            return augment(large, level, noise)

        parts["picture: noise augmentation"] = augmentation
    return parts
