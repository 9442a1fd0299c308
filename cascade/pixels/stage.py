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
from cascade.host_work import run_with
from cascade.pixels.drawing import Drawing
from cascade.pixels.options import PixelPlan, resolve_options, start_context, start_parent
from cascade.pixels.pictures import ChannelQuestion, Drawn, Pictures
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
            inputs = {**shared, **doubled(pictures.begin(step.index), plan)}
            features = timed.engines[PASS].run(self._given(PASS, inputs))
            for channel in step.channels:
                timed._decide(channel, pictures, decider, features, plan)  # noqa: SLF001
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

    def _given(self, role: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Those inputs that a graph takes."""
        takes = self._takes[role]
        return {name: value for name, value in inputs.items() if name in takes}

    def _decide(
        self,
        channel: int,
        pictures: Pictures,
        decider: Drawn,
        features: Mapping[str, Array],
        plan: PixelPlan,
    ) -> None:
        """Ask the heads about a channel of the pass, and decide it.

        All that a question needs beside the answers is known before. So whoever runs the heads for
        several requests can decide their values in one call.
        """
        inputs = self._given(HEADS, {**doubled(pictures.heads_inputs(channel), plan), **features})
        questions = pictures.questions(channel, plan.sharpness)
        first = next(questions)
        work = self._drawing(first, decider, plan)
        answers, found = run_with(self._engines[HEADS], inputs, work)
        pictures.answer(first, work.alone(answers) if found is None else found)
        for asked in questions:
            pictures.answer(asked, self._drawing(asked, decider, plan).alone(answers))

    def _drawing(self, asked: ChannelQuestion, decider: Drawn, plan: PixelPlan) -> Drawing:
        """How a question of the one picture is decided."""
        kind, guidance = self._spec.arithmetic, plan.guidance_16
        words = decider.words_at(asked.turn)
        return Drawing(asked.mixture, words, asked.block.answers, kind, guidance)


def doubled(inputs: Mapping[str, Array], plan: PixelPlan) -> dict[str, Array]:
    """Inputs of one row, any dtype, `[1, ...]`; `[2, n, ...]`, the same twice, where guided."""
    if not plan.is_guided:
        return dict(inputs)
    return {name: np.concatenate([value, value]) for name, value in inputs.items()}
