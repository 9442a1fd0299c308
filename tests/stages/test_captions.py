"""Captions: what is said of a picture, and which keywords are kept back to ask by."""

import pytest

from stages.data.captions import (
    KEPT_SHARE,
    KEYWORD_CAPTIONS,
    MOST_KEYWORDS,
    STYLES,
    Keywords,
    is_kept_back,
    keyword_captions,
    make_keywords,
    named_captions,
    with_article,
)

WORDS = {
    "red-apple": ["red", "red apple", "fruit", "food", "orchard", "worm", "core", "food"],
    "pear": ["fruit", "food", "orchard"],
    "bread": ["food", "fruit", "orchard"],
    "stone": [],
}


def keywords() -> Keywords:
    """Of three foods and a stone."""
    return make_keywords(list(WORDS), lambda icon: WORDS[icon])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cat", "a cat"),
        ("apple", "an apple"),
        ("unicorn", "a unicorn"),
        ("grapes", "grapes"),
    ],
)
def test_articles(name: str, said: str) -> None:
    """Vowels take `an`, plurals and mass nouns nothing."""
    assert with_article(name) == said


def test_named_captions_by_hand() -> None:
    """Up to two keywords beside the name; without any there are two ways to say it."""
    assert named_captions("red-apple", "noto", ["fruit", "food", "more"]) == [
        "a red apple, noto style", "noto style red apple", "red apple, fruit food, noto style"
    ]  # fmt: skip
    assert len(named_captions("red-apple", "noto", [])) == 2


def test_words_of_the_name_are_no_keywords() -> None:
    """Nor is the name itself; every other word once, in order, and counted over the concepts."""
    found = keywords()
    assert found.of["red-apple"] == ["fruit", "food", "orchard", "worm", "core"]
    assert found.shared == {"fruit": 3, "food": 3, "orchard": 3, "worm": 1, "core": 1}
    assert found.telling(found.of["red-apple"]) == ["worm", "core"]


def test_every_keyword_is_taught_or_kept_back() -> None:
    """By the word alone, so that a word kept back is in no caption of any concept."""
    found = keywords()
    for icon, words in found.of.items():
        taught, kept_back = found.taught(icon), found.kept_back(icon)
        assert sorted(taught + kept_back) == sorted(words)
        assert not any(map(is_kept_back, taught))
        assert all(map(is_kept_back, kept_back))
    share = sum(is_kept_back(f"word {n}") for n in range(3000)) / 3000
    # Five standard deviations of a draw of 3,000.
    assert share == pytest.approx(1 / KEPT_SHARE, abs=5 * (2 / 9 / 3000) ** 0.5)


@pytest.mark.parametrize("style", STYLES)
def test_captions_of_keywords(style: str) -> None:
    """One to three taught keywords with at least one that tells, the same every time."""
    words = [f"word-{n}" for n in range(12)]
    found = make_keywords(["a", "b", "c"], lambda icon: [*(f"{icon}-{w}" for w in words), *words])
    taught = found.taught("a")
    captions = keyword_captions("a", style, found)
    assert captions == keyword_captions("a", style, found)
    assert 1 < len(captions) <= KEYWORD_CAPTIONS
    for caption in captions:
        said, _, end = caption.partition(", ")
        assert end == f"{style} style"
        assert 1 <= len(said.split()) <= MOST_KEYWORDS
        assert set(said.split()) <= set(taught)
        assert any(word.startswith("a-") for word in said.split())


def test_no_telling_keyword_no_such_caption() -> None:
    """What three concepts share names none of them."""
    assert keyword_captions("pear", "noto", keywords()) == []
    assert keyword_captions("stone", "noto", keywords()) == []
