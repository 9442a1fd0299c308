"""The sentences of a Markdown page, with the line on which each begins.

What is no sentence is left out by rule, never by page: headings, tables, fenced blocks, comments,
the API blocks of mkdocstrings, pictures, and items of which fewer than four words remain without
code and links (lists of names). A span of code, a link's address, a number with its unit: one word,
as a reader takes it. Knows Markdown; not how long a sentence may be.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^\s*```")
SKIPPED = re.compile(r"^\s*(\||#|!\[|:::|---|</?\w|\[[^\]]+\]: )")
ITEM = re.compile(r"^\s*([-*+]|\d+\.)\s+(\[[ x]\] )?")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
CODE = re.compile(r"`+[^`]+`+")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|vs|cf|approx)\.(?=\s)", re.IGNORECASE)
END = re.compile(r"(?<![.]{2})(?<=[.!?])[\"')*_]*\s+")
START = "\ue000"
"""Stands for the start of a line while the lines of a paragraph are one text."""
WORD = re.compile(r"[^\W_]")
FEWEST = 4
"""Words of plain text that make an item a sentence and not a list of names."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a page."""

    line: int
    text: str

    @property
    def words(self) -> int:
        """How many words a reader takes it for."""
        return sum(1 for word in self.text.split() if WORD.search(word))


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines that belong together: a paragraph or an item of a list."""

    lines: tuple[tuple[int, str], ...]


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a page, in order."""
    for paragraph in paragraphs(text):
        yield from sentences_of(paragraph)


def paragraphs(text: str) -> Iterator[Paragraph]:
    """The running text of a page."""
    bare = COMMENT.sub(lambda found: "\n" * found[0].count("\n"), text)
    gathered: list[tuple[int, str]] = []
    inside = api = False
    for number, line in enumerate(bare.splitlines(), start=1):
        fence = FENCE.match(line) is not None
        api = line.startswith(":::") or (api and line.startswith("    "))
        skipped = inside or fence or api or not line.strip() or SKIPPED.match(line)
        if fence:
            inside = not inside
        if gathered and (skipped or ITEM.match(line)):
            yield Paragraph(tuple(gathered))
            gathered = []
        if not skipped:
            gathered.append((number, ITEM.sub("", line).strip()))
    if gathered:
        yield Paragraph(tuple(gathered))


def sentences_of(paragraph: Paragraph) -> Iterator[Sentence]:
    """A paragraph at its full stops, a list of names left out."""
    joined = " ".join(START + text for _, text in paragraph.lines)
    if Sentence(0, CODE.sub("", LINK.sub("", joined))).words < FEWEST:
        return
    number = paragraph.lines[0][0] - 1
    for part in END.split(plain(joined)):
        before = len(part) - len(part.lstrip(f"{START} "))
        first = number + part[:before].count(START)
        number += part.count(START)
        text = " ".join(part.replace(START, "").split())
        if WORD.search(text):
            yield Sentence(max(first, 1), text)


def plain(text: str) -> str:
    """Words alone: of a link its words, of code one word; the starts of lines stay."""
    text = LINK.sub(lambda found: found[1] + START * found[0][len(found[1]) :].count(START), text)
    text = CODE.sub(lambda found: "Code" + START * found[0].count(START), text)
    return ABBREVIATION.sub(lambda found: found[1].replace(".", ""), text)
