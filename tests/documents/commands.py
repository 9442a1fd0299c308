"""The commands and Python blocks that documents show, read out of their fences.

A line of a fence without a language counts as a command where its first word is a program; lines of
output and drawings do not. Knows Markdown; not what the commands do.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name != "index.md"
)
"""Pages whose blocks have no markers yet; `tests.documents.fences` reads the others."""
PROGRAMS = re.compile(
    r"(\.venv/bin/|/tmp/\S+/bin/)?(cascade|make|pip|python3?(\.\d+)?|curl|docker|kubectl|npm)"
)
COMMENT = re.compile(r"\s{2,}#.*$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fence of a document."""

    document: str
    language: str
    text: str


def blocks(document: str, text: str) -> Iterator[Block]:
    """The fences of a document, in order."""
    language: str | None = None
    lines: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            if language is None:
                language, lines = line.strip("` "), []
            else:
                yield Block(document, language, "\n".join(lines))
                language = None
        elif language is not None:
            lines.append(line)


def commands(block: Block) -> list[str]:
    """The commands of a fence, comments, prompt signs and line ends within one taken away."""
    if block.language not in ("", "sh", "bash", "shell", "console"):
        return []
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        bare = COMMENT.sub("", line.strip().removeprefix("$ ")).strip()
        for part in bare.split(" && "):
            words = part.split()
            if words and PROGRAMS.fullmatch(words[0]):
                found.append(" ".join(words))
    return found


def all_blocks() -> list[Block]:
    """Every fence of every document."""
    return [b for name in DOCUMENTS for b in blocks(name, (ROOT / name).read_text())]


def all_commands() -> list[str]:
    """Every command of every document, each once."""
    return list(dict.fromkeys(c for block in all_blocks() for c in commands(block)))


def python_blocks() -> list[Block]:
    """Every block of Python."""
    return [block for block in all_blocks() if block.language == "python"]
