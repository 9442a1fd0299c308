"""A diffusion stage: context, and for super-resolution an image, to a larger image.

Puts together what the manifest names: schedule, denoiser, guidance, thresholding, sampler, noise.
It knows one component and one engine; not its neighbours, nor where it runs.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from cascade.boundary import Context, Image, Tensor, value_of
from cascade.codecs.image import from_network, subsampled, to_network
from cascade.codecs.latent import as_latent
from cascade.diffusion.conditioning import augment
from cascade.diffusion.denoiser import Denoiser, EngineDenoiser
from cascade.diffusion.edited_run import edited, put_back
from cascade.diffusion.enlarging import enlarge, enlarge_planes
from cascade.diffusion.guidance import ConstantGuidance, GuidedDenoiser, combination
from cascade.diffusion.options import (
    SamplingOptions,
    check_context,
    check_image,
    resolve_options,
    run_times,
)
from cascade.diffusion.samplers.choice import SamplerInputs, sample
from cascade.diffusion.samplers.sampling import DenoiserAt, SamplerStep
from cascade.diffusion.schedule import first_time, make_schedule
from cascade.diffusion.spec import DiffusionSpec
from cascade.diffusion.thresholding import thresholded
from cascade.diffusion.tiles import TiledEngine, Tiling, on_canvas, shown_factor, tiling_of
from cascade.diffusion.unconditional import null_inputs, with_null_half, with_other_half
from cascade.engine import Engine
from cascade.engine_clock import EngineClock
from cascade.events import Backend, Event, Preview, Progress, StageFinished
from cascade.graph_spec import NET
from cascade.numerics.chunked import weighted_sum
from cascade.numerics.noise import AUGMENTATION, START
from cascade.numerics.noise_ahead import NoiseAhead
from cascade.request import GenerateRequest, Handoff
from cascade.start_inputs import context_inputs, latent
from cascade.types import Array, Batch, ContextF16, Latent
from cascade.vectors import unconditional_half, vector_inputs


class DiffusionStage:
    """Runs one exported denoising network."""

    def __init__(
        self,
        spec: DiffusionSpec,
        position: int,
        engine: Engine,
        *,
        null_context: ContextF16 | None = None,
        computed: Backend | None = None,
    ) -> None:
        """A stage.

        Args:
            spec: the component's entry in the manifest.
            position: its place in the cascade: the noise's stage number.
            engine: runs its graph.
            null_context: `[tokens, width]`, where the manifest says that the bundle holds one.
            computed: what the engine is, for the stage's result to say.
        """
        self._spec = spec
        self._position = position
        self._engine = engine
        self._null_context = null_context
        self._computed = computed
        self._schedule = make_schedule(spec.schedule)
        self._graph_inputs = {tensor.name for tensor in spec.graph.inputs}
        self._noise = NoiseAhead()

    @property
    def names(self) -> tuple[str, ...]:
        """The one component it runs."""
        return (self._spec.name,)

    @property
    def engines(self) -> Mapping[str, Engine]:
        """What runs its one graph, under the role `net`."""
        return {NET: self._engine}

    def with_engines(self, engines: Mapping[str, Engine]) -> "DiffusionStage":
        """The same stage on another engine; see `EngineStage.with_engines`."""
        stage = DiffusionStage(
            self._spec,
            self._position,
            engines[NET],
            null_context=self._null_context,
            computed=self._computed,
        )
        stage._noise = self._noise
        return stage

    def prepare(self, request: GenerateRequest) -> None:
        """Draw the noise of the start; see `PreparedStage.prepare`."""
        name = self._spec.name
        plan = request.plans.get(name) or resolve_options(self._spec, request.options.get(name))
        self._noise.begin(**self._address(request, plan, START))

    def _address(
        self, request: GenerateRequest, plan: SamplingOptions, step: int
    ) -> dict[str, Any]:
        """What a draw is called by."""
        width, height = self._made(plan)
        return {
            "shape": (1, self._spec.makes.channels, height, width),
            "seed": request.seed,
            "image": request.image_index,
            "stage": self._position,
            "step": step,
        }

    def prefetch(self, handoff: Handoff) -> None:
        """Nothing to prepare."""

    def terminate(self) -> None:
        """End the run in progress inside its step."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._noise.close()
        self._engine.close()

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Denoise from noise to a picture; see `Stage.run`.

        Raises:
            StageError: the network has no finite answer, or one of another shape.
        """
        begun, clock = time.perf_counter(), EngineClock()
        timed = self.with_engines(clock.on(self.engines))
        name = self._spec.name
        plan = request.plans.get(name) or resolve_options(self._spec, request.options.get(name))
        if self._is_wordless(handoff, plan) and not self._spec.guidance.taught:
            # Nothing to be guided by: the second half of every run would be the first.
            plan = replace(plan, weight=ConstantGuidance(1.0))
        # An edit of strength 0 takes no step.
        image = plan.edit.picture if plan.edit is not None and not plan.evaluations else None
        width, height = self._made(plan)
        runs = 1 if plan.own is None else plan.own.tiling.count
        picture, makes = (..., slice(height), slice(width)), self._spec.makes
        tensor: Latent | None = None
        for step in timed._sample(request, handoff, plan):  # noqa: SLF001  the same class
            yield Progress(name, step.index * runs, step.total * runs)
            # Of a latent there is nothing to see before a decoder ran.
            if isinstance(makes, Image) and request.wants_preview(step.index, step.total):
                seen = subsampled(from_network(step.x0[picture]))
                yield Preview(name, step.index * runs, seen)
            # Only the last step's `x_t` is a picture; before it, it is noise and picture.
            if step.index == step.total and isinstance(makes, Tensor):
                tensor = as_latent(name, step.x_t[picture], makes)
            elif step.index == step.total:
                image = put_back(from_network(step.x_t[picture]), plan.edit)
        yield StageFinished(
            name,
            replace(handoff, label=None, image=image, tensor=tensor),
            {name: time.perf_counter() - begun},
            self._computed,
            clock.seconds,
        )

    def _sample(
        self, request: GenerateRequest, handoff: Handoff, plan: SamplingOptions
    ) -> Generator[SamplerStep, None, None]:
        """The sampler that the manifest names, bound to this request."""
        spec = self._spec
        width, height = self._made(plan)
        tiling = tiling_of(spec, width, height)

        def noise(step: int) -> Batch:
            drawn = self._noise.normals(**self._address(request, plan, step))
            return on_canvas(drawn, tiling, "wrap")

        conditioning = self._words(handoff, plan)
        conditioning |= vector_inputs(
            spec.name,
            spec.vectors,
            handoff.vectors,
            wordless=self._is_wordless(handoff, plan),
        )
        if spec.low is not None:
            conditioning["low_res"] = self._shown(request, handoff, plan)
            conditioning["aug_level"] = np.array([plan.augmentation], np.float32)
        times = run_times(spec, self._schedule, plan.steps)
        start = noise(START)
        if spec.start == "scaled":
            start = weighted_sum((float(self._schedule.sigma(times[0])), start))
        inputs = SamplerInputs(
            denoise=self._denoiser(conditioning, plan, request.negative_context),
            start=start,
            schedule=self._schedule,
            times=times,
            noise=noise,
            gamma=spec.gamma,
            first_time=first_time(spec.schedule),
        )
        return sample(spec.sampler, inputs) if plan.edit is None else edited(spec, inputs, plan)

    def _shown(self, request: GenerateRequest, handoff: Handoff, plan: SamplingOptions) -> Batch:
        """The smaller picture as the network is shown it: enlarged, then noise-augmented.

        A latent likewise, its numbers as they are. Noise of the small picture is added before.
        """
        spec, size = self._spec, self._made(plan)
        place = None if spec.augmentation is None else spec.augmentation.applied_to
        tiling = tiling_of(spec, *size).shown(shown_factor(spec))
        if place == "small" or isinstance(spec.low, Tensor):
            planes = self._planes(handoff, plan)
            if place == "small":
                planes = self._augmented(request, plan, planes)
            low = enlarge_planes(planes, size, spec.enlarge)
        else:
            low = enlarge(check_image(spec, handoff, plan), size, spec.enlarge)
        if place == "enlarged":
            return self._augmented(request, plan, low, tiling)
        return on_canvas(low, tiling, "edge")

    def _planes(self, handoff: Handoff, plan: SamplingOptions) -> Batch:
        """The smaller picture or latent as numbers, at its own size."""
        spec = self._spec
        if isinstance(spec.low, Tensor):
            return latent(spec.name, spec.low, handoff)[None].astype(np.float32)
        return to_network(check_image(spec, handoff, plan))

    def _augmented(
        self,
        request: GenerateRequest,
        plan: SamplingOptions,
        low: Batch,
        tiling: Tiling | None = None,
    ) -> Batch:
        """A picture, small or enlarged, with the noise of its level; on the canvas of its tiles."""
        shape = low.shape
        if tiling is not None:
            low = on_canvas(low, tiling, "edge")
        if self._spec.augmentation is None or plan.augmentation == 0:
            return low
        # The noise has an address of its own: it is the same whoever runs the stage.
        address = {**self._address(request, plan, AUGMENTATION), "shape": shape}
        noise = self._noise.normals(**address)
        if tiling is not None:
            noise = on_canvas(noise, tiling, "wrap")
        schedule = make_schedule(self._spec.augmentation.schedule)
        return augment(low, plan.augmentation, noise, schedule)

    def _made(self, plan: SamplingOptions) -> tuple[int, int]:
        """Width and height of the picture that a run makes."""
        made = self._spec.makes
        return (made.width, made.height) if plan.own is None else plan.own.made

    def _words(self, handoff: Handoff, plan: SamplingOptions) -> dict[str, Array]:
        """The context as graph inputs; what stands for no words where there are none."""
        text = value_of(Context, self._spec.starts_from)
        if text is None or not self._is_wordless(handoff, plan):
            return check_context(self._spec, handoff)
        return null_inputs(self._spec.graph, text.width, self._null_context)

    def _is_wordless(self, handoff: Handoff, plan: SamplingOptions) -> bool:
        """Whether words are left out where they could be."""
        takes_words = value_of(Context, self._spec.starts_from) is not None
        return takes_words and handoff.context is None and plan.own is not None

    def _denoiser(
        self,
        conditioning: dict[str, Array],
        plan: SamplingOptions,
        negative: ContextF16 | None,
    ) -> DenoiserAt:
        """Step index to denoiser: network, then guidance, then thresholding."""
        spec = self._spec
        engine = self._engine
        if plan.own is not None and plan.own.tiling.count > 1:
            engine = TiledEngine(engine, plan.own.tiling)

        def network(inputs: dict[str, Array]) -> EngineDenoiser:
            # Bound once per run: a sampler sees images and times alone.
            # A network with no use for the mask, say, has no such input.
            fed = {name: value for name, value in inputs.items() if name in self._graph_inputs}
            return EngineDenoiser(engine, self._schedule, spec.prediction, fed)

        if spec.guidance.taught:

            def taught(step: int) -> Denoiser:
                weight = np.array([plan.weight.at(step)], np.float32)
                return thresholded(network({**conditioning, "guidance": weight}), spec.threshold)

            return taught
        alone = network(conditioning)

        @cache
        def both() -> EngineDenoiser:
            # Made when a step is guided: at 1024 pixels the copy alone is 25 MB.
            if negative is None:
                doubled = with_null_half(conditioning, self._null_context)
            else:
                words = context_inputs(spec.name, spec.graph, Handoff(context=negative))
                doubled = with_other_half(conditioning, words)
            return network(unconditional_half(doubled, spec.vectors))

        combine = combination(spec.guidance, self._schedule, spec.prediction)

        def at(step: int) -> Denoiser:
            weight = np.array([plan.weight.at(step)], np.float32)
            # Weight 1 is the conditional answer itself, for half the work.
            guided: Denoiser = alone
            if plan.weight.at(step) != 1.0:
                guided = GuidedDenoiser(both(), weight, combine)
            return thresholded(guided, spec.threshold)

        return at
