"""A diffusion stage: context, and for super-resolution an image, to a larger image.

Puts together what the manifest names: schedule, denoiser, guidance, thresholding, sampler, noise.
It knows one component and one engine; not its neighbours, nor where it runs.
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from cascade.conditioning import augment, enlarge
from cascade.denoiser import Denoiser, EngineDenoiser
from cascade.engines.engine import Engine
from cascade.errors import InvalidRequest
from cascade.events import Event, Preview, Progress, StageFinished
from cascade.guidance import (
    ConstantGuidance,
    GuidanceWeight,
    GuidedDenoiser,
    OscillatingGuidance,
)
from cascade.image_codec import from_network, to_network
from cascade.manifest import DiffusionSpec
from cascade.noise import AUGMENTATION, START, normals
from cascade.request import GenerateRequest, Handoff, StageOptions
from cascade.samplers.ddim import ddim
from cascade.samplers.ddpm import ddpm
from cascade.samplers.sampling import DenoiserAt, SamplerStep
from cascade.samplers.stochastic import stochastic
from cascade.schedule import make_schedule
from cascade.thresholding import DynamicThreshold, StaticThreshold
from cascade.types import Array, Batch, ImageU8

PREVIEW_SIZE = 256
"""Previews of larger pictures are thinned to this width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """One run of a stage with every default filled in."""

    steps: int
    weight: GuidanceWeight
    augmentation: float


class DiffusionStage:
    """Runs one exported denoising network."""

    def __init__(self, spec: DiffusionSpec, position: int, engine: Engine) -> None:
        """A stage.

        Args:
            spec: the component's entry in the manifest.
            position: its place in the cascade: the noise's stage number.
            engine: runs its graph.
        """
        self._spec = spec
        self._position = position
        self._engine = engine
        self._schedule = make_schedule(spec.schedule)

    @property
    def names(self) -> tuple[str, ...]:
        """The one component it runs."""
        return (self._spec.name,)

    def anticipate(self, handoff: Handoff) -> None:
        """Nothing to prepare."""

    def terminate(self) -> None:
        """End the run in progress inside its step."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Denoise from noise to a picture; see `Stage.run`."""
        begun = time.perf_counter()
        name = self._spec.name
        plan = plan_run(self._spec, request.options_for(name))
        image = None
        for step in self._sample(request, handoff, plan):
            yield Progress(name, step.index, step.total)
            last = step.index == step.total
            if request.preview_every and not last and step.index % request.preview_every == 0:
                yield Preview(name, step.index, thinned(from_network(step.x0)))
            if last:
                image = from_network(step.x_t)
        yield StageFinished(
            name,
            Handoff(prompt=handoff.prompt, context=handoff.context, image=image),
            {name: time.perf_counter() - begun},
        )

    def _sample(
        self, request: GenerateRequest, handoff: Handoff, plan: RunPlan
    ) -> Generator[SamplerStep, None, None]:
        """The sampler that the manifest names, bound to this request."""
        spec = self._spec
        size = spec.output_resolution

        def noise(step: int) -> Batch:
            return normals(
                (1, 3, size, size),
                seed=request.seed,
                image=request.image_index,
                stage=self._position,
                step=step,
            )

        conditioning = check_context(spec, handoff)
        if spec.input_resolution is not None:
            low = to_network(check_image(spec, handoff))
            low = enlarge(low, size // spec.input_resolution)
            if plan.augmentation > 0:
                low = augment(low, plan.augmentation, noise(AUGMENTATION))
            conditioning["low_res"] = low
            conditioning["aug_level"] = np.array([plan.augmentation], np.float32)
        denoise = self._denoiser(conditioning, plan)
        times = self._schedule.timesteps(plan.steps)
        start = noise(START)
        if spec.sampler == "ddpm":
            return ddpm(denoise, start, self._schedule, times, noise, spec.gamma)
        if spec.sampler == "stochastic":
            return stochastic(denoise, start, self._schedule, times, noise)
        return ddim(denoise, start, self._schedule, times)

    def _denoiser(self, conditioning: dict[str, Array], plan: RunPlan) -> DenoiserAt:
        """Step index to denoiser: network, then guidance, then thresholding."""
        spec = self._spec

        def network(inputs: dict[str, Array]) -> EngineDenoiser:
            return EngineDenoiser(self._engine, self._schedule, spec.prediction, inputs)

        # The unconditional half is the same batch row with every token masked out.
        doubled = {key: np.concatenate([value, value]) for key, value in conditioning.items()}
        doubled["context_mask"] = np.concatenate(
            [conditioning["context_mask"], np.zeros_like(conditioning["context_mask"])]
        )
        alone, both = network(conditioning), network(doubled)

        def at(step: int) -> Denoiser:
            weight = plan.weight.at(step)
            guided: Denoiser = (
                alone if weight == 1.0 else GuidedDenoiser(both, np.array([weight], np.float32))
            )
            if spec.threshold.kind == "dynamic":
                return DynamicThreshold(guided, spec.threshold.percentile, spec.threshold.cap)
            return StaticThreshold(guided)

        return at


def plan_run(spec: DiffusionSpec, options: StageOptions) -> RunPlan:
    """The options with the manifest's defaults in the gaps.

    Raises:
        InvalidRequest: an option does not fit this component.
    """
    guidance = spec.guidance
    weight: GuidanceWeight
    if options.guidance is not None or guidance.kind == "constant":
        weight = ConstantGuidance(guidance.weight if options.guidance is None else options.guidance)
    else:
        weight = OscillatingGuidance(
            high=guidance.weight, low=guidance.low_weight, first_steps=guidance.first_steps
        )
    level = options.augmentation
    field = f"options.{spec.name}.augmentation"
    if spec.augmentation is None:
        if level is not None:
            raise InvalidRequest(f"{field}: {spec.name} starts from no image", field=field)
        level = 0.0
    elif level is None:
        level = spec.augmentation.default
    elif not spec.augmentation.lowest <= level <= spec.augmentation.highest:
        raise InvalidRequest(
            f"{field}: expected {spec.augmentation.lowest:g} to {spec.augmentation.highest:g}, "
            f"got {level:g}",
            field=field,
        )
    return RunPlan(steps=options.steps or spec.steps, weight=weight, augmentation=level)


def check_context(spec: DiffusionSpec, handoff: Handoff) -> dict[str, Array]:
    """The context as graph inputs.

    Raises:
        InvalidRequest: there is none, or its shape does not fit the graph.
    """
    context = handoff.context
    if context is None:
        raise InvalidRequest(f"context: {spec.name} needs text embeddings", field="context")
    width = next(i.shape[-1] for i in spec.graph.inputs if i.name == "context")
    if context.ndim != 2 or context.shape[1] != width or not 1 <= len(context) <= 512:
        raise InvalidRequest(
            f"context.shape: expected [1 to 512, {width}], got {list(context.shape)}",
            field="context.shape",
        )
    return {
        "context": context[None].astype(np.float32),
        "context_mask": np.ones((1, len(context)), np.float32),
    }


def check_image(spec: DiffusionSpec, handoff: Handoff) -> ImageU8:
    """The image that super-resolution starts from.

    Raises:
        InvalidRequest: there is none, or its size is not the stage's input resolution.
    """
    size = spec.input_resolution
    if handoff.image is None:
        raise InvalidRequest(f"image: {spec.name} needs one of {size}x{size}", field="image")
    if handoff.image.shape != (size, size, 3):
        raise InvalidRequest(
            f"image: {spec.name} starts from {size}x{size} RGB, got {list(handoff.image.shape)}",
            field="image",
        )
    return handoff.image


def thinned(image: ImageU8) -> ImageU8:
    """At most `PREVIEW_SIZE` pixels wide, by leaving rows and columns out."""
    stride = max(1, image.shape[1] // PREVIEW_SIZE)
    return np.ascontiguousarray(image[::stride, ::stride])
