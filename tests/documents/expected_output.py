"""Whether a program printed what a page shows.

`...` in a line stands for anything within it, a line of nothing else for any lines. Runs of spaces
are one: the width of a column follows its longest number. Where numbers vary, any number of the
page stands for any number, so that it shows a true run. Knows texts; not where they come from.
"""

import re

NUMBERS = "numbers vary"
"""What the marker of such an output says."""
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]\d+)?")


def matches(shown: str, printed: str, how: str = "") -> bool:
    """Whether the whole of `printed` is what is shown; `how` is what the marker says."""
    if how == NUMBERS:
        shown, printed = NUMBER.sub("0", shown), NUMBER.sub("0", printed)
    return re.fullmatch(pattern(shown), normal(printed)) is not None


def pattern(shown: str) -> str:
    """The shown lines as a regular expression of what `normal` returns."""
    parts = []
    for line in normal(shown).splitlines():
        if line == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(piece) for piece in line.split("...")) + r"\n")
    return "".join(parts)


def normal(text: str) -> str:
    """Without space at ends, one space for several, one line end after the last line."""
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in text.strip().splitlines()]
    return "\n".join(lines) + "\n" if lines else ""
