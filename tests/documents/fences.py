"""The fenced blocks of the documents, each with the marker that says how it is checked.

A marker is an HTML comment on the line before the fence (blank lines between them are allowed):

    <!-- run: WORDS -->        run by `tests.documents.page_run`; the words are explained there
    <!-- file: PATH -->        written to PATH for later blocks; the checkout's file is the same
    <!-- output -->            what the block run before it prints; `output: numbers vary` compares
                               no number
    <!-- checked by: PATH -->  another test reads the block out of the page
    <!-- not run: REASON -->   nothing runs it

Knows Markdown and markers; not what a block does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARKER = re.compile(r"^\s*<!-- (run|file|output|checked by|not run)(?:: (.+?))? -->\s*$")
FENCE = re.compile(r"^(\s*)(```+)\s*([\w+-]*)")
GENERATED = re.compile(r"^<!-- generated: (.+?) -->$", re.MULTILINE)
"""A whole page that a program writes and a check compares."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fence:
    """One fenced block of a page."""

    page: str
    """Path of the page from the checkout, with `/`."""
    line: int
    """Number of its first line, from 1."""
    language: str
    text: str
    kind: str = ""
    """The marker's word; empty if there is none."""
    value: str = ""
    """What the marker says after its colon."""
    words: tuple[str, ...] = field(default=())
    """Of `run`: its words."""

    @property
    def place(self) -> str:
        """Page and line, as an editor jumps to it."""
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page whose blocks are checked: the decisions and the changelog are history."""
    docs = (path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    shown = (path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.md"))
    kept = [name for name in docs if not name.startswith("docs/decisions/")]
    return ["README.md", "CONTRIBUTING.md", "SECURITY.md", *sorted(kept), *sorted(shown)]


def is_generated(text: str) -> bool:
    """Whether a program writes the whole page."""
    return GENERATED.search(text) is not None


def fences(page: str, text: str) -> Iterator[Fence]:
    """The fenced blocks of a page, in order.

    Raises:
        ValueError: a marker is followed by something else than a fence, or a fence is not closed.
    """
    marker: tuple[str, str] | None = None
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if found := FENCE.match(line):
            kind, value = marker or ("", "")
            body = "\n".join(body_of(lines, found, f"{page}:{number}"))
            words = tuple(word for word in re.split(r",\s*", value) if word)
            yield Fence(
                page=page, line=number, language=found[3], text=body, kind=kind, value=value,
                words=words if kind == "run" else (),
            )  # fmt: skip
            marker = None
        elif found := MARKER.match(line):
            marker = (found[1], found[2] or "")
        elif line.strip() and marker:
            raise ValueError(f"{page}:{number}: a marker belongs right before its fence")


def body_of(lines: Iterator[tuple[int, str]], opened: "re.Match[str]", place: str) -> Iterator[str]:
    """The lines up to the closing fence, without the indentation of the opening one."""
    indent, mark = opened[1], opened[2]
    for _, line in lines:
        if line.strip() == mark:
            return
        yield line.removeprefix(indent)
    raise ValueError(f"{place}: the fence is not closed")


def unmarked(page: str, text: str) -> list[Fence]:
    """Blocks that are neither run nor say why not."""
    return [] if is_generated(text) else [f for f in fences(page, text) if not f.kind]
