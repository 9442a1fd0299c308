"""What a sweep tries and how it is judged: networks behind a spec, and scores of their pictures.

Networks come from checkpoints, run by torch, or from a bundle, run as a client runs them. Knows
stages, the probe and the truth; not which settings are tried.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.base_quality import Answers, Judge, make_judge, named
from benchmarks.lib.local_cascade import finished
from benchmarks.lib.prompt_lists import (
    PromptQuestion,
    keyword_questions,
    read_keywords,
    trained_captions,
)
from benchmarks.upscaling_quality import held_out_examples, true_picture
from cascade.bundle.bundle import open_bundle
from cascade.codecs.image import from_network, to_network
from cascade.diffusion.family import diffusion_specs
from cascade.diffusion.parametrization import to_x0
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.schedule import make_schedule
from cascade.diffusion.spec import DiffusionSpec, SamplerKind
from cascade.diffusion.stage import DiffusionStage
from cascade.engine import Engine
from cascade.engines.factory import open_engine
from cascade.numerics.noise import START, normals
from cascade.request import GenerateRequest, Handoff
from cascade.tuning.options import EngineOptions
from cascade.tuning.plan import graph_for, plan_here
from cascade.types import ContextF16, ImageU8
from stages.data.dataset import Dataset, box_average
from stages.data.prompts import encode_prompt
from stages.evaluation.metrics import psnr_db, sharpness
from stages.evaluation.probe import load_probe
from stages.evaluation.sampling import torch_spec
from stages.evaluation.torch_engine import TorchEngine
from stages.reference import PRESETS
from stages.training.checkpoint import load_metadata
from stages.training.trained_network import load_network, preset_of

Score = Callable[[DiffusionStage, DiffusionOptions], dict[str, float]]
REDRAWN_AT = 0.35
"""Time of the noise through which the base stage is shown a true picture, to have it drawn again
with the faults of its own but the content of the truth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSubject:
    """One network under test.

    Attributes:
        name: its checkpoint folder, or its stage's name.
        position: of its stage in the cascade.
        spec: how it is run by default.
        engine: runs it.
        fixed_steps: a student's own number of steps; None for a network that takes any.
    """

    name: str
    position: int
    spec: DiffusionSpec
    engine: Engine
    fixed_steps: int | None = None

    def stage(self, sampler: SamplerKind | None = None) -> DiffusionStage:
        """The network as a stage, with another sampler if one is named."""
        spec = replace(self.spec, sampler=sampler or self.spec.sampler)
        return DiffusionStage(spec, self.position, self.engine)

    def calls_per_step(self, weight: float) -> int:
        """Evaluations of one row: two where guidance was not taught and changes anything."""
        return 1 if self.spec.guidance.taught or weight == 1.0 else 2


@dataclass(frozen=True, slots=True)
class Opened:
    """The networks under test, and the stages before theirs."""

    subjects: tuple[SweepSubject, ...]
    before: Mapping[str, SweepSubject]


def open_subjects(
    stage: str,
    bundle: Path | None,
    checkpoints: Path,
    networks: Sequence[str],
    engine_options: EngineOptions,
) -> Opened:
    """Networks of checkpoints, or the stage of a bundle, with the stages before it."""
    earlier = list(PRESETS)[: list(PRESETS).index(stage)]
    if bundle is None:
        tried = tuple(from_checkpoint(stage, checkpoints / name) for name in networks)
        return Opened(tried, {n: from_checkpoint(n, checkpoints / n) for n in earlier})
    return Opened(
        (from_bundle(stage, bundle, engine_options),),
        {n: from_bundle(n, bundle, engine_options) for n in earlier},
    )


def from_checkpoint(stage: str, folder: Path) -> SweepSubject:
    """A checkpoint's averaged weights, run by torch."""
    preset = preset_of(PRESETS[stage], folder)
    steps = int(load_metadata(folder).get("sampling_steps", 0))
    return SweepSubject(
        name=folder.name,
        position=list(PRESETS).index(stage) + 1,
        spec=torch_spec(preset),
        engine=TorchEngine(load_network(PRESETS[stage], folder), "prediction"),
        fixed_steps=steps or None,
    )


def from_bundle(stage: str, folder: Path, engine_options: EngineOptions) -> SweepSubject:
    """A bundle's graph, run as a client runs it."""
    bundle = open_bundle(folder)
    position = bundle.manifest.position(stage)
    spec = diffusion_specs(bundle.manifest.components)[position - 1]
    plan = plan_here(bundle.manifest, engine_options, (position,))
    choice = plan.of(stage)
    engine = open_engine(graph_for(bundle, spec, choice), choice, cache=plan.cache)
    return SweepSubject(name=stage, position=position, spec=spec, engine=engine)


def scorer(
    stage: str, opened: Opened, data: Dataset, checkpoints: Path, pictures: int
) -> tuple[str, Score]:
    """The metric that decides, and what measures it and others."""
    if stage == "base":
        probe, facts = load_probe(checkpoints / "probe")
        judged = make_judge(probe, facts["names"], data, opened.subjects[0].spec.makes.width)
        return "top5", base_score(asked_of_base(data, judged, pictures), judged)
    return "psnr_db", upscaling_score(stage, opened, data, pictures)


@dataclass(frozen=True, slots=True)
class JudgedPrompts:
    """Questions and the embeddings of their prompts."""

    questions: Sequence[PromptQuestion]
    contexts: Sequence[ContextF16]


def asked_of_base(data: Dataset, judged: Judge, count: int) -> dict[str, JudgedPrompts]:
    """Captions as trained and keywords that no caption uses, at most `count` of each."""
    numbers = {caption: number for number, caption in enumerate(data.captions)}
    captions = trained_captions(data, count)
    known = {icon: words for icon, words in read_keywords().items() if icon in judged.names}
    keywords = keyword_questions(known, count)
    stored = [data.embeddings[numbers[q.prompt]].astype(np.float16) for q in captions]
    new = [encode_prompt(q.prompt).astype(np.float16) for q in keywords]
    return {"captions": JudgedPrompts(captions, stored), "keywords": JudgedPrompts(keywords, new)}


def base_score(asked: Mapping[str, JudgedPrompts], judged: Judge) -> Score:
    """Top-1, top-5, style and sharpness of captions; top-5 of keywords."""

    def score(stage: DiffusionStage, options: DiffusionOptions) -> dict[str, float]:
        def drawn(questions: JudgedPrompts) -> list[ImageU8]:
            return [
                finished(
                    stage,
                    GenerateRequest(seed=seed, options={stage.names[0]: options}),
                    Handoff(context=context),
                )
                for seed, context in enumerate(questions.contexts)
            ]

        pictures = drawn(asked["captions"])
        found = named(judged, Answers(asked["captions"].questions, pictures))
        found["sharpness"] = round(float(np.mean([sharpness(p) for p in pictures])), 2)
        if asked["keywords"].questions:
            reached = Answers(asked["keywords"].questions, drawn(asked["keywords"]))
            found["keywords_top5"] = named(judged, reached)["top5"]
        return found

    return score


def upscaling_score(stage: str, opened: Opened, data: Dataset, pictures: int) -> Score:
    """PSNR from inputs as the cascade makes them, and from true ones; sharpness by the truth's."""
    spec = opened.subjects[0].spec
    low_size = 0 if spec.low is None else spec.low.width
    cases = []
    for index in held_out_examples(data, pictures):
        truth = true_picture(data, index, spec.makes.width)
        context = data.embeddings[data.examples[index].captions[0]].astype(np.float16)
        true_low = box_average(truth, len(truth) // low_size)
        cases.append((truth, context, true_low, as_in_the_cascade(opened, truth, context)))

    def score(drawn_by: DiffusionStage, options: DiffusionOptions) -> dict[str, float]:
        request = GenerateRequest(options={stage: options})
        kept: dict[str, list[float]] = {"psnr_db": [], "true_input_db": [], "sharpness": []}
        for truth, context, true_low, low in cases:
            made = finished(drawn_by, request, Handoff(context=context, image=low))
            clean = finished(drawn_by, request, Handoff(context=context, image=true_low))
            kept["psnr_db"].append(psnr_db(made, truth))
            kept["true_input_db"].append(psnr_db(clean, truth))
            kept["sharpness"].append(sharpness(made) / sharpness(truth))
        return {name: round(float(np.mean(values)), 3) for name, values in kept.items()}

    return score


def as_in_the_cascade(opened: Opened, truth: ImageU8, context: ContextF16) -> ImageU8:
    """What the stages before make of a true picture: the input that this stage really meets."""
    base, *others = opened.before.values()
    low = box_average(truth, len(truth) // base.spec.makes.width)
    image = redrawn(base, low, context)
    for subject in others:
        handoff = Handoff(context=context, image=image)
        image = finished(subject.stage(), GenerateRequest(), handoff)
    return image


def redrawn(base: SweepSubject, picture: ImageU8, context: ContextF16) -> ImageU8:
    """A true picture through the base stage's eyes: some noise, then its one estimate."""
    schedule = make_schedule(base.spec.schedule)
    times = np.array([REDRAWN_AT])
    alpha, sigma = float(schedule.alpha(times)[0]), float(schedule.sigma(times)[0])
    clean = to_network(picture)
    noise = normals(clean.shape, seed=0, image=0, stage=base.position, step=START)
    x_t = (alpha * clean + sigma * noise).astype(np.float32)
    inputs = {
        "x_t": x_t,
        "t": times.astype(np.float32),
        "context": context[None].astype(np.float32),
        "context_mask": np.ones((1, len(context)), np.float32),
    }
    if base.spec.guidance.taught:
        inputs["guidance"] = np.array([base.spec.guidance.weight], np.float32)
    prediction = base.engine.run(inputs)["prediction"]
    x0 = to_x0(base.spec.prediction, prediction, x_t, alpha, sigma)
    return from_network(np.asarray(x0, np.float32))
