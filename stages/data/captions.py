"""What a picture is called: the captions of one concept in one style.

Knows words only; no pictures, tokens or embeddings.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

STYLES = ("noto", "fluent", "twemoji")
"""The styles of the data set and the words that ask for them."""

KEPT_SHARE = 3
"""One keyword in so many is in no caption, decided by a hash: they ask how far words reach."""
NAMED_TAGS = 2
"""Keywords beside a name."""
KEYWORD_CAPTIONS = 8
"""Captions of one picture that are made of keywords alone, at most."""
MOST_KEYWORDS = 3
"""Keywords in one of those."""
TELLING = 2
"""A keyword of at most so many concepts says which is meant."""

WITHOUT_ARTICLE = (
    "cherries", "grapes", "books", "french fries", "jeans", "pancakes", "sunglasses", "scissors",
    "blueberries", "bacon", "bread", "spaghetti", "fire", "sushi", "popcorn",
    "hundred points",
)  # fmt: skip
"""Names that read wrong after "a"."""


def concept_name(icon: str) -> str:
    """`red-apple -> red apple`."""
    return icon.replace("-", " ")


def with_article(name: str) -> str:
    """`red apple -> a red apple`; plural and mass nouns stay as they are."""
    if name in WITHOUT_ARTICLE:
        return name
    return f"an {name}" if name[0] in "aeiou" and not name.startswith("unicorn") else f"a {name}"


@dataclass(frozen=True, slots=True)
class Keywords:
    """The keywords of every concept, and how many concepts have each."""

    of: Mapping[str, Sequence[str]]
    """Icon name to its keywords, those left out that its name holds already."""
    shared: Mapping[str, int]

    def taught(self, icon: str) -> list[str]:
        """Those that captions are made of."""
        return [word for word in self.of.get(icon, ()) if not is_kept_back(word)]

    def kept_back(self, icon: str) -> list[str]:
        """Those that are in no caption of any concept as a keyword."""
        return [word for word in self.of.get(icon, ()) if is_kept_back(word)]

    def telling(self, words: Sequence[str]) -> list[str]:
        """Of some keywords those that few concepts share."""
        return [word for word in words if self.shared.get(word, 0) <= TELLING]


def make_keywords(icons: Sequence[str], look_up: Callable[[str], Sequence[str]]) -> Keywords:
    """The keywords of a list of concepts.

    Args:
        icons: icon names.
        look_up: icon name to words for it, possibly none.
    """
    of = {
        icon: [word for word in dict.fromkeys(look_up(icon)) if word not in names(icon)]
        for icon in icons
    }
    return Keywords(of, Counter(word for words in of.values() for word in words))


def names(icon: str) -> list[str]:
    """The name of a concept and every word of it."""
    name = concept_name(icon)
    return [name, *name.split()]


def is_kept_back(word: str) -> bool:
    """Whether a keyword is kept from all captions, decided by the word alone."""
    return hashlib.sha256(word.encode()).digest()[0] % KEPT_SHARE == 0


def named_captions(icon: str, style: str, taught: Sequence[str]) -> list[str]:
    """Captions that name concept and style: the plain one first, then variations.

    Args:
        icon: icon name, for example `red-apple`.
        style: one of `STYLES`.
        taught: keywords of the concept, possibly none.
    """
    name = concept_name(icon)
    captions = [f"{with_article(name)}, {style} style", f"{style} style {name}"]
    if taught:
        captions.append(f"{name}, {' '.join(taught[:NAMED_TAGS])}, {style} style")
    return captions


def keyword_captions(icon: str, style: str, keywords: Keywords) -> list[str]:
    """Captions that say what a concept is by one to three keywords, at least one of them telling.

    Drawn at random, the same every time; none where no keyword tells.
    """
    taught = keywords.taught(icon)
    telling = keywords.telling(taught)
    if not telling:
        return []
    draw = Random(f"{icon} {style}")
    captions = []
    for _ in range(KEYWORD_CAPTIONS):
        words = draw.sample(taught, min(draw.randint(1, MOST_KEYWORDS), len(taught)))
        if not set(words) & set(telling):
            words[draw.randrange(len(words))] = draw.choice(telling)
        captions.append(f"{' '.join(words)}, {style} style")
    return list(dict.fromkeys(captions))


def plain_caption(icon: str) -> str:
    """The caption that leaves the style open."""
    return with_article(concept_name(icon))
