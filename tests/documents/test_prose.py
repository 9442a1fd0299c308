"""The rules about sentences and terms, each broken once in a page made up here."""

import pytest

from tests.documents.prose import offences, texts
from tests.documents.sentences import sentences
from tests.documents.terms import FIELD, PERSONS, persons, uses

LONG = "word " * 31 + "end."
PAGE = """\
# A heading of no sentence

One sentence here. `cascade serve --listen 127.0.0.1:0` is another; it goes
on, e.g. over [two lines](somewhere/else.md). gRPC begins a third!

| a table | has none |
|---|---|

- `max_rows`, `max_bytes`
- An item that is a sentence.
  It has two.

```text
Nothing in a fence counts. Nothing.
```

<!-- A comment does not. -->
::: cascade.stage
    options: {}
"""


def good(text: str = "") -> dict[str, str]:
    """Texts that break no rule, with one page of that text."""
    return {"docs/terms.md": ". ".join(term.capitalize() for term in FIELD), "docs/x.md": text}


def test_what_is_a_sentence() -> None:
    """Words and line of each; code and links are one word, tables and names none."""
    assert [(s.line, s.words) for s in sentences(PAGE)] == [
        (3, 3),
        (3, 10),
        (4, 4),
        (10, 6),
        (11, 3),
    ]


def test_a_page_that_breaks_no_rule() -> None:
    """Nothing is found."""
    assert list(offences(good(PAGE))) == []


def test_a_sentence_that_is_too_long() -> None:
    """Its line, its length, and how it begins."""
    found = list(offences(good(f"Four words are enough.\n\n{LONG}\n")))
    assert found == [
        "docs/x.md:3: 32 words, 30 at most: word word word word word word word word ..."
    ]


def test_sentences_that_are_long_together() -> None:
    """The average of a page, each of its sentences being within the limit."""
    (found,) = offences(good(f"{'word ' * 19}end."))
    assert found == "docs/x.md:1: 20.0 words a sentence on average, 18 at most"


def test_a_generated_page_has_no_sentences() -> None:
    """Its words come from the program; terms count there, too."""
    text = f"<!-- generated: python -m x -->\n{LONG} Nobody.\n"
    assert list(offences(good(text))) == ['docs/x.md:2: "Nobody": ' + PERSONS["nobody|no one"]]


@pytest.mark.parametrize("pattern", PERSONS)
def test_a_program_as_a_person(pattern: str) -> None:
    """Every word of the table is found in running text, and none of it in code."""
    word = pattern.replace("?", "").split("|")[0]
    assert [(p.line, p.word) for p in persons(f"`{word}`\n\nA {word} b.\n")] == [(3, word)]


@pytest.mark.parametrize("term", FIELD)
def test_a_term_that_is_missing(term: str) -> None:
    """Each of the field's terms has to occur."""
    texts = {name: text.replace(term.capitalize(), "") for name, text in good().items()}
    assert list(offences(texts)) == [f'docs: "{term}" occurs nowhere']


def test_terms_across_lines_and_cases() -> None:
    """A term may begin a sentence or break at a line's end."""
    assert uses("load shedding", "Load\nshedding is load shedding.") == 2


def test_the_texts_that_are_checked() -> None:
    """README, policy, pages and the comments of the proto; no decision, no changelog."""
    names = set(texts())
    assert {"README.md", "SECURITY.md", "docs/index.md", "protos/cascade/v1/cascade.proto"} <= names
    assert not [n for n in names if "decisions" in n or "CHANGELOG" in n]


def test_the_documents_break_no_rule() -> None:
    """Remedy: python -m tests.documents.prose names file and line."""
    assert list(offences(texts())) == []
