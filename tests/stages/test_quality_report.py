"""The quality report on a tiny bundle: every figure there, those with a known answer right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.base_quality import (
    Answers,
    Judge,
    closeness,
    colours,
    drawn_in_style,
    looks,
    make_judge,
    named,
)
from benchmarks.lib.local_cascade import LocalCascade, open_cascade
from benchmarks.lib.prompt_lists import (
    ColourQuestion,
    PromptQuestion,
    colour_questions,
    keyword_questions,
    read_keywords,
    read_sheet_prompts,
    reworded_questions,
    spread,
    trained_captions,
)
from benchmarks.quality import Measured, SampleCounts, described, evaluations, measure
from benchmarks.upscaling_quality import held_out_figures, tasks_of
from cascade.bundle.bundle import Bundle
from cascade.tuning.options import EngineOptions
from cascade.types import ImageU8
from export.quality_tables import quality_tables
from stages.data.dataset import Dataset, box_average
from stages.data.recolour import is_kept_pair, main_hue, recoloured
from stages.evaluation.metrics import psnr_db
from stages.evaluation.probe import Probe
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tiny_training import tiny_dataset

COUNTS = SampleCounts(
    captions=3, keywords=2, reworded=2, colours=2, combinations=2, variety_prompts=1,
    held_out_small=2, held_out_large=2, continued=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """8 -> 16 -> 32 pixels."""
    return write_tiny_bundle(tmp_path_factory.mktemp("quality") / "tiny", steps=2)


@pytest.fixture(scope="module")
def cascade(bundle: Bundle) -> LocalCascade:
    """Its components, opened here."""
    return open_cascade(bundle, EngineOptions(threads=1))[0]


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Six pictures of 32 pixels, two of them held out."""
    return tiny_dataset()


def names(data: Dataset) -> list[str]:
    """The concepts that the tiny data trains on."""
    return [example.icon for example in data.examples if not example.held_out]


def test_all_figures(bundle: Bundle, cascade: LocalCascade, data: Dataset, tmp_path: Path) -> None:
    """Base, held-out and continued figures come out, and the tables name them."""
    torch.manual_seed(0)
    judged = make_judge(Probe(4).eval(), names(data), data, 8)
    said: list[str] = []
    found = measure(Measured(cascade, data, judged, tmp_path, COUNTS), said.append)
    assert set(found["base"]["named"]) == {"captions", "trained_keywords", "reworded"}
    assert [line.split(":")[0] for line in said] == ["base", "held out", "continued"]
    tasks = [(row["task"], row["style"], row["pictures"]) for row in found["held_out"]]
    assert tasks == [
        (task, style, 2) for task in ("8 -> 16", "16 -> 32", "8 -> 32") for style in ("noto", "all")
    ]
    assert found["continued"]["pictures"] == 2
    assert found["regression_not_trained"] == ["sr16", "sr32"]
    run = {"base": "ort fp32"}
    real = {"kept": {"top1": 0.5, "top5": 1.0, "style": 1.0, "pictures": 2}}
    figures = {
        "bundle": described(bundle, run),
        "probe": {
            "steps": 1,
            "on_real_renderings": real,
            "style_of_unseen_concepts": 0.981,
            "unseen_renderings": 54,
        },
        **found,
    }
    text = quality_tables(figures)
    assert "| real renderings kept from the probe | 2 | 50.0 % | 100.0 % | - | 100.0 % |" in text
    assert "| 8 -> 32 | all | 2 |" in text
    assert "Plain regression not trained: sr16, sr32." in text
    assert figures["bundle"]["stages"]["base"]["evaluations"] == 4
    assert "tokenizer.json" in figures["bundle"]["files"]


def test_the_same_bundle_gives_the_same_figures(
    cascade: LocalCascade, data: Dataset, tmp_path: Path
) -> None:
    """Every seed is fixed."""
    one, other = (held_out_figures(cascade, data, tmp_path, COUNTS.held_out) for _ in range(2))
    assert one == other


def test_lanczos_of_the_report_is_pillows(
    cascade: LocalCascade, data: Dataset, tmp_path: Path
) -> None:
    """Its figures are those of enlarging the averaged picture, worked out apart."""
    rows = held_out_figures(cascade, data, tmp_path, COUNTS.held_out)
    expected = []
    for index in (4, 5):
        truth = data.picture(index, 256)
        low = Image.fromarray(box_average(truth, 4))
        enlarged = np.asarray(low.resize((32, 32), Image.Resampling.LANCZOS))
        expected.append(psnr_db(enlarged, truth))
    assert rows[-1]["methods"]["lanczos"]["psnr_db"] == pytest.approx(np.mean(expected), abs=0.005)


def test_the_default_augmentation_stands_apart(
    cascade: LocalCascade, data: Dataset, tmp_path: Path
) -> None:
    """From true pictures the lowest level is taken; the default is a method of its own."""
    rows = held_out_figures(cascade, data, tmp_path, COUNTS.held_out)
    ranges = [spec.augmentation for spec in cascade.specs[1:]]
    assert all(known is not None and known.default != known.lowest for known in ranges)
    for row in rows:
        assert list(row["methods"]) == ["ours", "ours_default", "lanczos"]
        assert row["methods"]["ours"] != row["methods"]["ours_default"]


def test_tasks(cascade: LocalCascade) -> None:
    """Each stage alone, then all in a row."""
    assert [task.stages for task in tasks_of(cascade)] == [(1,), (2,), (1, 2)]


def test_a_true_picture_is_near_and_looks_true(data: Dataset) -> None:
    """Of a training picture the nearest is itself, and its look is the truth's."""
    judged = make_judge(Probe(4), names(data), data, 32)
    asked = [PromptQuestion("", "icon-2", "noto"), PromptQuestion("", "icon-0", "noto")]
    answers = Answers(asked, [judged.real[2], judged.real[1]])
    near = closeness(judged, answers, [judged.real[3]])
    assert near["captions"] == near["combinations"] == 0
    assert near["captions_nearest_is_asked"] == 0.5
    assert near["real_unseen_concepts"] > 0
    first = looks(judged, Answers(asked[:1], [judged.real[2]]))
    assert all(first[name] == first[f"{name}_true"] for name in ("sharpness", "chroma"))


def test_style_is_that_of_the_nearest_rendering_of_the_concept() -> None:
    """However far the picture is, and whatever other concepts look like."""
    rng = np.random.default_rng(3)
    real = tuple(rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(4))
    shown = (("cat", "noto"), ("cat", "fluent"), ("cat", "twemoji"), ("dog", "fluent"))
    judged = Judge(Probe(2).eval(), ("cat", "dog"), real, shown, unseen=())
    near = ((real[1].astype(int) + 3 * real[3]) // 4).astype(np.uint8)
    asked = [PromptQuestion("", "cat", style) for style in ("fluent", "noto", "twemoji", "fluent")]
    pictures = [near, near, real[2], real[0]]
    assert drawn_in_style(judged, Answers(asked, pictures)) == 0.5
    assert named(judged, Answers(asked[:1], [near]))["drawn_in_style"] == 1.0


def red_data() -> Dataset:
    """Two concepts in a red of their own, one of them held out, and a grey one."""
    disc = np.full((32, 32, 3), 255, np.uint8)
    disc[8:24, 8:24] = (210, 30, 20)
    grey = np.full((32, 32, 3), 90, np.uint8)
    data = tiny_dataset(pictures=[disc, grey, disc])
    mine, other, held = data.examples
    return replace(data, examples=(mine, other, replace(held, held_out=True)))


def test_colours_asked_are_those_kept_back() -> None:
    """Of a trained concept that can be turned; neither of a grey one nor of a held-out one."""
    asked = colour_questions(red_data(), 9)
    expected = [
        colour for colour in ("yellow", "green", "blue", "purple", "pink")
        if is_kept_pair(colour, "icon 0")
    ]  # fmt: skip
    assert expected
    assert [item.colour for item in asked] == expected
    assert [item.question.prompt for item in asked] == [
        f"a {colour} icon 0, noto style" for colour in expected
    ]


def test_colours_are_judged_by_their_hue() -> None:
    """A picture turned to what was asked is right, the red one is not."""
    data = red_data()
    judged = make_judge(Probe(2).eval(), ["icon-0", "icon-1"], data, 32)
    asked = [
        ColourQuestion(PromptQuestion(c, "icon-0", "noto"), c) for c in ("blue", "green", "pink")
    ]

    def draw(prompt: str, seed: int) -> ImageU8:
        red = data.picture(0, 256)
        return red if seed == 0 else recoloured(red, main_hue(red) or 0.0, prompt)

    found = colours(judged, draw, asked)
    assert (found["pictures"], found["colour"]) == (3, 0.667)
    # Of two names the best five are all.
    assert found["top5"] == 1.0


def test_spread() -> None:
    """Evenly, in order, never more than there are."""
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(3), 5) == [0, 1, 2]


def test_captions_asked_are_captions_of_what_is_asked(data: Dataset) -> None:
    """No held-out concept; by name or by keywords, as wanted, and never without a style."""
    for by_name, form in ((True, "icon {}, noto style"), (False, "word {}, noto style")):
        asked = trained_captions(data, 9, named=by_name)
        assert [q.prompt for q in asked] == [form.format(n) for n in range(4)]
        assert [q.icon for q in asked] == [f"icon-{n}" for n in range(4)]


def test_keywords_that_many_share_are_not_asked() -> None:
    """A word of three concepts names none; a concept left without words is not asked."""
    keywords = {"a": ["x", "only-a"], "b": ["x", "u"], "c": ["x", "only-c", "too", "and", "more"]}
    asked = keyword_questions(keywords, 9)
    assert [(q.icon, q.prompt) for q in asked] == [
        ("a", "only-a, noto style"),
        ("c", "only-c too and, fluent style"),
    ]


def test_the_keyword_file_feeds_the_questions() -> None:
    """Enough concepts remain for the report, each with words."""
    asked = keyword_questions(read_keywords(), 60)
    assert len(asked) == 60
    assert all(question.prompt.split(",")[0].strip() for question in asked)


def test_rewording_keeps_the_name_and_takes_turns() -> None:
    """Names stay whole, styles and forms change."""
    asked = reworded_questions(["red-apple", "bread", "fox", "cat"], 4)
    assert [q.prompt for q in asked] == [
        "picture of a red apple, drawn in noto style",
        "picture of bread, drawn in fluent style",
        "picture of a fox, drawn in twemoji style",
        "noto emoji: cat",
    ]


def test_the_sheet_has_its_64_prompts() -> None:
    """32 captions, 16 paraphrases, 16 combinations, none twice."""
    prompts = read_sheet_prompts()
    assert {kind: len(found) for kind, found in prompts.items()} == {
        "captions": 32, "paraphrases": 16, "combinations": 16,
    }  # fmt: skip
    assert len({prompt for found in prompts.values() for prompt in found}) == 64


def test_evaluations() -> None:
    """Guidance doubles them, unless its weight is 1 or it was taught."""
    assert [evaluations(8, 2.0, ()), evaluations(8, 1.0, ()), evaluations(8, 2.0, (1, 5))] == [
        16, 8, 8,
    ]  # fmt: skip
