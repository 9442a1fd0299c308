"""What the base stage is asked when its quality is measured: lists of prompts, the same every time.

Captions as trained, by name and by keywords, keywords that no caption uses, the name in other
words, and the fixed list of the sheets. Knows words; not who draws.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stages.data.captions import STYLES, concept_name, with_article
from stages.data.dataset import Dataset, Example
from stages.data.recolour import bare_name, coloured_caption, is_kept_pair, other_colours

SHEET_PROMPTS = Path(__file__).with_name("sheet_prompts.txt")
KEYWORDS = Path(__file__).with_name("keywords.txt")
KINDS = ("captions", "paraphrases", "combinations")
"""Of the prompts of the sheets."""

SHARED_BY = 2
"""A keyword of more concepts than this ("ornithology") names none of them and is not asked."""
KEYWORDS_ASKED = 3
REWORDED = (
    "picture of {article}, drawn in {style} style",
    "{style} emoji: {name}",
    "draw me {article} like {style} would",
)
"""Ways of asking that no caption has."""
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class PromptQuestion:
    """One prompt and what the picture should show."""

    prompt: str
    icon: str
    style: str


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly over the list."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def trained_captions(data: Dataset, count: int, *, named: bool = True) -> list[PromptQuestion]:
    """Captions as trained: concepts spread over the list, styles and ways of saying it in turn.

    Args:
        data: the prepared data.
        count: of concepts, at most.
        named: captions that have the name; else those of keywords alone, where there are any.
    """
    shown = [example for example in data.examples if not example.held_out]
    icons = spread(list(dict.fromkeys(example.icon for example in shown)), count)
    found: dict[tuple[str, str], Example] = {(e.icon, e.style): e for e in shown}
    questions = []
    for number, icon in enumerate(icons):
        example = of_style(found, icon, number)
        styled = [data.captions[n] for n in example.captions[:-1]]
        fitting = [said for said in styled if (concept_name(icon) in said) is named]
        if fitting:
            caption = fitting[number // len(STYLES) % len(fitting)]
            questions.append(PromptQuestion(caption, icon, example.style))
    return questions


def of_style(found: Mapping[tuple[str, str], Example], icon: str, number: int) -> Example:
    """The rendering of a concept in the style whose turn it is, or the next that there is."""
    for step in range(len(STYLES)):
        example = found.get((icon, STYLES[(number + step) % len(STYLES)]))
        if example is not None:
            return example
    raise ValueError(f"{icon}: no rendering in any of {', '.join(STYLES)}")


@dataclass(frozen=True, slots=True)
class ColourQuestion:
    """A concept in a colour that it never had in training."""

    question: PromptQuestion
    colour: str


def colour_questions(data: Dataset, count: int) -> list[ColourQuestion]:
    """Pairs of a colour and a concept that are kept from every caption, spread over the list.

    Only where the true rendering could be turned to that colour: a zebra has none.
    """
    icons = list(dict.fromkeys(example.icon for example in data.examples))
    found = []
    for index, example in enumerate(data.examples):
        if example.held_out:
            continue
        for colour in other_colours(example.icon, data.picture(index, 256), icons):
            if is_kept_pair(colour, bare_name(example.icon)):
                prompt = coloured_caption(colour, example.icon, example.style)
                asked = PromptQuestion(prompt, example.icon, example.style)
                found.append(ColourQuestion(asked, colour))
    return spread(found, count)


def read_keywords(path: Path = KEYWORDS) -> dict[str, list[str]]:
    """The keywords of each concept that are a keyword in no training caption."""
    lines = (line.partition(":") for line in path.read_text().splitlines() if line[:1] != "#")
    return {icon: [word.strip() for word in words.split(",")] for icon, _, words in lines}


def keyword_questions(keywords: Mapping[str, Sequence[str]], count: int) -> list[PromptQuestion]:
    """Concepts named by nothing but keywords that at most `SHARED_BY` concepts have."""
    known = Counter(word for words in keywords.values() for word in words)
    telling = {
        icon: [word for word in words if known[word] <= SHARED_BY and len(word) > 1]
        for icon, words in keywords.items()
    }
    asked = spread([icon for icon, words in telling.items() if words], count)
    return [
        PromptQuestion(
            f"{' '.join(telling[icon][:KEYWORDS_ASKED])}, {STYLES[number % len(STYLES)]} style",
            icon,
            STYLES[number % len(STYLES)],
        )
        for number, icon in enumerate(asked)
    ]


def reworded_questions(icons: Sequence[str], count: int) -> list[PromptQuestion]:
    """Concepts by their names, in sentences unlike those of the captions."""
    questions = []
    for number, icon in enumerate(spread(icons, count)):
        style, form = STYLES[number % len(STYLES)], REWORDED[number // len(STYLES) % len(REWORDED)]
        name = concept_name(icon)
        prompt = form.format(article=with_article(name), name=name, style=style)
        questions.append(PromptQuestion(prompt, icon, style))
    return questions


def read_sheet_prompts(path: Path = SHEET_PROMPTS) -> dict[str, list[str]]:
    """The prompts of the sheets by kind."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            found[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            found[list(found)[-1]].append(line)
    return found
