"""The findings as text of at most 100 columns, and as one JSON object.

Pure: knows lines and values; not where they go.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from cascade.diagnosis.findings import Finding, Level, count

COLUMNS = 100
LEVEL_COLUMN, NAME_COLUMN, TEXT_COLUMN = 2, 11, 29
COLOURS = {Level.OK: "32", Level.WARNING: "33", Level.ERROR: "31;1"}
"""SGR parameters of ECMA-48."""
BOLD, CYAN = "1", "36"
WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
"""Of a command line; what is quoted stays whole."""
COMMENT = "# "


def topic_lines(topic: str, findings: Sequence[Finding], *, colours: bool) -> Iterator[str]:
    """One topic and what was found of it.

    Args:
        topic: its name.
        findings: of that topic, in order.
        colours: whether the text goes to a terminal that shows them.
    """
    yield painted(topic, BOLD) if colours else topic
    for finding in findings:
        yield from finding_lines(finding, colours=colours)


def finding_lines(finding: Finding, *, colours: bool) -> Iterator[str]:
    """One finding, its remedy on lines of its own."""
    level = str(finding.level)
    head = f"{' ' * LEVEL_COLUMN}{level}".ljust(NAME_COLUMN) + finding.name
    text = finding.text + (":" if finding.remedy else "")
    room = COLUMNS - TEXT_COLUMN
    lines = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    # A name that is too long for its column has a line of its own.
    first = head.ljust(TEXT_COLUMN) + lines.pop(0) if len(head) < TEXT_COLUMN else head
    if colours:
        first = first.replace(level, painted(level, COLOURS[finding.level]), 1)
    yield first
    yield from (" " * TEXT_COLUMN + line for line in lines)
    for line in command_lines(finding.remedy):
        yield " " * NAME_COLUMN + (painted(line, CYAN) if colours else line)


def command_lines(command: str) -> Iterator[str]:
    """A command in lines that a shell joins again; a comment in lines that it passes over."""
    if not command:
        return
    room = COLUMNS - NAME_COLUMN
    if command.startswith(COMMENT):
        for line in textwrap.wrap(command.removeprefix(COMMENT), room - len(COMMENT)):
            yield COMMENT + line
        return
    line = ""
    for word in WORD.findall(command):
        if line and len(line) + len(word) + 3 > room:
            yield f"{line} \\"
            line = "  "
        line += word if not line.strip() else f" {word}"
    yield line


def summary(findings: Sequence[Finding], *, colours: bool) -> str:
    """How many findings there are of each level."""
    errors, warnings = count(findings, Level.ERROR), count(findings, Level.WARNING)
    words = f"{plural(errors, 'error')}, {plural(warnings, 'warning')}, "
    line = f"{words}{count(findings, Level.OK)} ok"
    worst = Level.ERROR if errors else Level.WARNING if warnings else Level.OK
    return painted(line, COLOURS[worst]) if colours else line


def plural(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def painted(text: str, parameters: str) -> str:
    """Text in a colour of a terminal."""
    return f"\x1b[{parameters}m{text}\x1b[0m"


def as_object(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings for programs, in the order in which they were made."""
    return [
        {
            "topic": finding.topic,
            "name": finding.name,
            "level": finding.level.value,
            "text": finding.text,
            "remedy": finding.remedy or None,
            "transient": finding.transient,
            "facts": dict(finding.facts),
        }
        for finding in findings
    ]
