"""A stage of pixels by groups at work: context, and perhaps a smaller picture, to a picture.

One run of the body per pass and one of the heads per channel; between them every value is decided
here, in integers. It knows one component and its two engines; not its neighbours, nor where it
runs.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from cascade.codecs.image import subsampled
from cascade.engine import Engine
from cascade.engine_clock import EngineClock
from cascade.events import Backend, Event, Preview, Progress, StageFinished
from cascade.pixels.logits import Logits
from cascade.pixels.options import PixelPlan, resolve_options, start_context, start_parent
from cascade.pixels.pictures import Drawn, Pictures
from cascade.pixels.planes import planes_of
from cascade.pixels.spec import HEADS, PASS, PixelSpec
from cascade.pixels.words import words_of_digits
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array

UNIT = "pass"
"""What its progress counts."""


class PixelStage:
    """Runs the two exported networks of one component."""

    def __init__(
        self,
        spec: PixelSpec,
        position: int,
        engines: Mapping[str, Engine],
        computed: Backend | None = None,
    ) -> None:
        """A stage.

        Args:
            spec: the component's entry in the manifest.
            position: its place in the cascade: the words' stage number.
            engines: what runs its graphs, by role.
            computed: what the engines are, for the stage's result to say.
        """
        self._spec = spec
        self._position = position
        self._engines = dict(engines)
        self._computed = computed
        self._takes = {
            role: {tensor.name for tensor in graph.inputs} for role, graph in spec.graphs.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The one component it runs."""
        return (self._spec.name,)

    @property
    def engines(self) -> Mapping[str, Engine]:
        """What runs the body and the heads, by role."""
        return dict(self._engines)

    def with_engines(self, engines: Mapping[str, Engine]) -> "PixelStage":
        """The same stage on other engines; see `EngineStage.with_engines`."""
        return PixelStage(self._spec, self._position, engines, self._computed)

    def prefetch(self, handoff: Handoff) -> None:
        """Nothing to prepare."""

    def terminate(self) -> None:
        """End the run in progress inside its pass."""
        for engine in self._engines.values():
            engine.terminate()

    def close(self) -> None:
        """Release both engines."""
        for engine in self._engines.values():
            engine.close()

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Make a picture pass by pass; see `Stage.run`.

        Raises:
            StageError: the heads of an exact component answer what is no whole number.
        """
        begun, clock = time.perf_counter(), EngineClock()
        timed = self.with_engines(clock.on(self.engines))
        spec, name = self._spec, self._spec.name
        plan = request.plans.get(name) or resolve_options(spec, request.options.get(name))
        shared = self._shared(handoff, plan)
        pictures = Pictures(spec.scheme, spec.size, start_parent(spec, handoff))
        decider = self._decider(request)
        total = len(pictures.passes)
        for step in pictures.passes:
            features = timed._ask(PASS, {**shared, **doubled(pictures.begin(step.index), plan)})  # noqa: SLF001
            for channel in step.channels:
                asked = doubled(pictures.heads_inputs(channel), plan)
                answers = timed._ask(HEADS, {**asked, "features": features["features"]})  # noqa: SLF001
                pictures.decide(channel, self._logits(answers, plan), decider, plan.sharpness)
            yield Progress(name, step.index + 1, total, UNIT)
            if request.wants_preview(step.index + 1, total):
                yield Preview(name, step.index + 1, subsampled(pictures.preview()[0]))
        yield StageFinished(
            name,
            replace(handoff, label=None, image=pictures.canvas.values()[0], tensor=None),
            {name: time.perf_counter() - begun},
            self._computed,
            clock.seconds,
        )

    def _shared(self, handoff: Handoff, plan: PixelPlan) -> dict[str, Array]:
        """The body's inputs that stay the same in every pass."""
        given = start_context(self._spec, handoff)
        given["aug_level"] = np.array([plan.augmentation], np.float32)
        given = doubled(given, plan)
        if plan.is_guided:
            # The second row is asked without the text: every token is masked out.
            given["context_mask"][1:] = 0
        return given

    def _decider(self, request: GenerateRequest) -> Drawn:
        """The words of the whole picture, digit by digit."""
        height, width = self._spec.size
        digits = sum(len(plane.digit_bits) for plane in planes_of(self._spec.scheme.planes))
        address = {"seed": request.seed, "image": request.image_index, "stage": self._position}
        return Drawn(words_of_digits(height * width * 3, digits, **address))

    def _ask(self, role: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """A run of a graph, of those inputs that it takes."""
        takes = self._takes[role]
        return self._engines[role].run({n: value for n, value in inputs.items() if n in takes})

    def _logits(self, answers: Mapping[str, Array], plan: PixelPlan) -> Logits:
        """The heads' answers; where guided, those of the second row beside them."""
        arithmetic = self._spec.arithmetic

        def row(at: int) -> Logits:
            low, copy = (answers[n][at] if n in answers else None for n in ("low", "copy"))
            return Logits(answers["high"][at], low, copy, arithmetic)

        if not plan.is_guided:
            return row(0)
        return replace(row(0), without=row(1), guidance_16=plan.guidance_16)


def doubled(inputs: Mapping[str, Array], plan: PixelPlan) -> dict[str, Array]:
    """Inputs of one row, any dtype, `[1, ...]`; `[2, n, ...]`, the same twice, where guided."""
    if not plan.is_guided:
        return dict(inputs)
    return {name: np.concatenate([value, value]) for name, value in inputs.items()}
