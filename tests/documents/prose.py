"""Check how the documents are written: `python -m tests.documents.prose`, part of `make check`.

Sentences: at most 18 words on average per page, none over 30. Terms: each of the field's occurs,
none that makes a person of a program. Prints every offender as file:line and exits with 1; with
`--report` it prints the same and exits with 0. Exempt are the decisions and the changelog, which
are history, and from the rule about sentences pages that a program writes. Knows which texts there
are; what a sentence or a term is, `sentences` and `terms` say.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping

from tests.documents.fences import ROOT, is_generated, pages
from tests.documents.sentences import sentences
from tests.documents.terms import FIELD, persons, uses

AVERAGE = 18
LONGEST = 30
PROTO = "protos/cascade/v1/cascade.proto"


def texts() -> dict[str, str]:
    """Every page by its path, and the comments of the proto, each on its own line."""
    found = {name: (ROOT / name).read_text() for name in pages()}
    lines = (ROOT / PROTO).read_text().splitlines()
    found[PROTO] = "\n".join(line.partition("//")[2] for line in lines)
    return found


def offences(found: Mapping[str, str]) -> Iterator[str]:
    """One line for everything that breaks a rule."""
    for name, text in found.items():
        for person in persons(text):
            yield f'{name}:{person.line}: "{person.word}": {person.instead}'
        if name.endswith(".md") and not is_generated(text):
            yield from long_sentences(name, text)
    shown = "\n".join(text for name, text in found.items() if name.startswith(("README", "docs/")))
    for term in FIELD:
        if not uses(term, shown):
            yield f'docs: "{term}" occurs nowhere'


def long_sentences(name: str, text: str) -> Iterator[str]:
    """Sentences over the limit, then the page's average if that is."""
    counted = list(sentences(text))
    for sentence in counted:
        if sentence.words > LONGEST:
            start = " ".join(sentence.text.split()[:8])
            yield f"{name}:{sentence.line}: {sentence.words} words, {LONGEST} at most: {start} ..."
    average = sum(s.words for s in counted) / max(len(counted), 1)
    if average > AVERAGE:
        yield f"{name}:1: {average:.1f} words a sentence on average, {AVERAGE} at most"


def main() -> int:
    """Print what breaks a rule; 0 if nothing does."""
    parser = argparse.ArgumentParser(description="Check how the documents are written.")
    parser.add_argument("--report", action="store_true", help="print, and exit with 0")
    parser.add_argument("pages", nargs="*", help="only these pages; all if none is named")
    given = parser.parse_args()
    found = list(offences(texts()))
    shown = [line for line in found if not given.pages or line.split(":")[0] in given.pages]
    sys.stdout.writelines(f"{line}\n" for line in shown)
    return 0 if given.report or not shown else 1


if __name__ == "__main__":
    raise SystemExit(main())
