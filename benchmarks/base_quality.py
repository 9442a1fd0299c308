"""How good the base stage is: what was asked, in the style asked for, and with variety?

A probe that has only seen real renderings names the pictures. Every distance stands beside the same
distance of real renderings. Knows a stage as calls; not where a bundle lies.

References:
    Ravuri and Vinyals 2019 (arXiv 1905.10887) for judging a generator by a classifier.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.lib.prompt_lists import ColourQuestion, PromptQuestion
from cascade.types import ImageU8
from stages.data.captions import STYLES
from stages.data.dataset import Dataset, box_average
from stages.data.recolour import main_hue, nearest_colour
from stages.evaluation.metrics import chroma, distance, diversity, nearest, off_white, sharpness
from stages.evaluation.probe import Probe, judge

Draw = Callable[[str, int], ImageU8]
"""A prompt and a seed to the base stage's picture."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What pictures are held against.

    Attributes:
        probe: names concepts and styles.
        names: the concepts it knows, in the order of its answers.
        real: renderings of these concepts in the size of the base stage.
        shown: concept and style of each.
        unseen: renderings of concepts that nothing was trained on.
    """

    probe: Probe
    names: tuple[str, ...]
    real: tuple[ImageU8, ...]
    shown: tuple[tuple[str, str], ...]
    unseen: tuple[ImageU8, ...]


def make_judge(probe: Probe, names: Sequence[str], data: Dataset, size: int) -> Judge:
    """The probe beside the real renderings at `size` pixels."""

    def small(index: int) -> ImageU8:
        pixels = data.picture(index, 256)
        return box_average(pixels, len(pixels) // size)

    shown = [i for i, e in enumerate(data.examples) if e.icon in set(names)]
    unseen = [i for i, e in enumerate(data.examples) if e.held_out]
    return Judge(
        probe=probe,
        names=tuple(names),
        real=tuple(small(i) for i in shown),
        shown=tuple((data.examples[i].icon, data.examples[i].style) for i in shown),
        unseen=tuple(small(i) for i in unseen),
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """One list of questions and the pictures drawn for it."""

    asked: Sequence[PromptQuestion]
    pictures: Sequence[ImageU8]


def answer(draw: Draw, asked: Sequence[PromptQuestion]) -> Answers:
    """Draw every question, each with a seed of its own."""
    return Answers(asked, [draw(q.prompt, seed) for seed, q in enumerate(asked)])


def named(judged: Judge, answers: Answers) -> dict[str, float]:
    """Top-1, top-5 and style as shares of the pictures, and how many there were.

    Style twice: by the probe's palette, which a colour that is a little off misleads, and as
    `drawn_in_style`, see there.
    """
    verdict = judge(
        judged.probe,
        answers.pictures,
        [judged.names.index(question.icon) for question in answers.asked],
        [STYLES.index(question.style) for question in answers.asked],
    )
    found = {**asdict(verdict), "drawn_in_style": drawn_in_style(judged, answers)}
    return {name: round(value, 3) for name, value in found.items()}


def drawn_in_style(judged: Judge, answers: Answers) -> float:
    """Share of the pictures that are nearest to the rendering in the style asked for.

    Of the true renderings of the concept that was asked, one in each style: chance is one in three.
    """
    right = []
    for question, picture in zip(answers.asked, answers.pictures, strict=True):
        mine = [i for i, (icon, _) in enumerate(judged.shown) if icon == question.icon]
        place = min(mine, key=lambda i: distance(picture, judged.real[i]))
        right.append(judged.shown[place][1] == question.style)
    return float(np.mean(right))


def colours(judged: Judge, draw: Draw, asked: Sequence[ColourQuestion]) -> dict[str, float]:
    """Colours that the concept never had: the share of pictures whose main hue is the one asked.

    The concept is judged by the probe, whose training saw small changes of colour only.
    """
    pictures = [draw(item.question.prompt, seed) for seed, item in enumerate(asked)]
    hues = [main_hue(picture) for picture in pictures]
    right = [
        hue is not None and nearest_colour(hue) == item.colour
        for hue, item in zip(hues, asked, strict=True)
    ]
    verdict = named(judged, Answers([item.question for item in asked], pictures))
    return {
        "pictures": len(pictures),
        "colour": mean([float(hit) for hit in right], digits=3),
        "top1": verdict["top1"],
        "top5": verdict["top5"],
    }


def looks(judged: Judge, answers: Answers) -> dict[str, float]:
    """Sharpness, colour and ground of pictures, beside the true renderings of the same captions."""
    places = {shown: place for place, shown in enumerate(judged.shown)}
    true = [judged.real[places[(q.icon, q.style)]] for q in answers.asked]
    found = {}
    for name, measure in (("sharpness", sharpness), ("chroma", chroma), ("off_white", off_white)):
        found[name] = mean([measure(picture) for picture in answers.pictures])
        found[f"{name}_true"] = mean([measure(picture) for picture in true])
    return found


def closeness(judged: Judge, answers: Answers, combinations: Sequence[ImageU8]) -> dict[str, float]:
    """Distance to the nearest training rendering, RMS in levels of 255.

    Of word combinations that no caption has; of trained captions, with the share whose nearest
    rendering shows what was asked; and of real renderings of concepts that nobody was shown.
    """
    near = [nearest(picture, judged.real) for picture in answers.pictures]
    right = [judged.shown[i][0] == q.icon for (i, _), q in zip(near, answers.asked, strict=True)]
    return {
        "combinations": mean([nearest(picture, judged.real)[1] for picture in combinations]),
        "captions": mean([far for _, far in near]),
        "captions_nearest_is_asked": mean([float(hit) for hit in right], digits=3),
        "real_unseen_concepts": mean([nearest(p, judged.real)[1] for p in judged.unseen]),
    }


def variety(judged: Judge, draw: Draw, prompts: Sequence[str], seeds: int) -> dict[str, float]:
    """Mean pairwise distance over seeds, beside styles of one concept and pairs of concepts."""
    over_seeds = [diversity([draw(prompt, seed) for seed in range(seeds)]) for prompt in prompts]
    by_concept: dict[str, list[ImageU8]] = {}
    for (icon, _), picture in zip(judged.shown, judged.real, strict=True):
        by_concept.setdefault(icon, []).append(picture)
    several = [diversity(pictures) for pictures in by_concept.values() if len(pictures) > 1]
    first = [pictures[0] for pictures in by_concept.values()]
    return {
        "prompts": float(len(prompts)),
        "seeds": float(seeds),
        "over_seeds": mean(over_seeds),
        "over_styles_of_a_concept_true": mean(several),
        "over_neighbouring_concepts_true": mean([distance(a, b) for a, b in pairwise(first)]),
    }


def mean(values: Sequence[float], digits: int = 2) -> float:
    """The mean, rounded for people."""
    return round(float(np.mean(values)), digits) if len(values) else float("nan")


def probe_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """What the probe itself reaches on real renderings."""
    return {
        "steps": facts["steps"],
        "on_real_renderings": facts["check"],
        "style_of_unseen_concepts": facts["style_of_unseen_concepts"],
        "unseen_renderings": facts["unseen_renderings"],
    }
