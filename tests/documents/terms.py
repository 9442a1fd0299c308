"""Words that the documents use, and words that they do not: see CONTRIBUTING.md.

Knows two tables and how a word is counted; not where the texts lie.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

FIELD: tuple[str, ...] = (
    "throughput", "dynamic batching", "continuous batching", "backpressure", "load shedding",
    "rate limit", "eviction", "deduplicat", "graceful shutdown",
)  # fmt: skip
"""Terms that a reader searches for; the beginning of a word is enough."""

PERSONS: Mapping[str, str] = {
    r"company": "rows of a batch are batched together",
    r"nobody|no one": "name what is absent: no client, no open stream",
    r"whoever|whosoever": "name it: a client that, the caller that",
    r"somebody|someone|anybody|everybody": "name it: a client, an attacker, every caller",
    r"strangers?": "an unauthenticated caller",
    r"goodbyes?|farewells?": "cancel on close",
    r"twins?": "a duplicate request, a running request with the same id",
    r"orphans?|orphaned": "an abandoned request",
    r"hears?|heard": "a program receives or is notified",
    r"wants": "a program requires; a person is `you`",
    r"says": "a program reports, prints, returns or states",
    r"dies|died": "a process exits, a connection breaks",
}
"""What makes persons of programs, and what is written instead."""

CODE = re.compile(r"^\s*```.*?^\s*```\s*$|`[^`\n]+`|<!--.*?-->", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Person:
    """One place where a program is made a person."""

    line: int
    word: str
    instead: str


def persons(text: str) -> Iterator[Person]:
    """Where a text does so; code and what programs print are left out."""
    bare = CODE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for pattern, instead in PERSONS.items():
        for found in re.finditer(rf"\b(?:{pattern})\b", bare, re.IGNORECASE):
            yield Person(bare.count("\n", 0, found.start()) + 1, found[0], instead)


def uses(term: str, text: str) -> int:
    """How often a text has a term of the field, whatever its case and line ends."""
    return len(re.findall(rf"\b{term}", " ".join(text.split()), re.IGNORECASE))
