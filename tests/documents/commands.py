"""The commands of a block of shell lines.

Knows shells' line ends and comments; not what the commands do.
"""

import re

from tests.documents.fences import ROOT, Fence, fences, pages

TABLE = "tests/documents/examples.py"
PROGRAMS = re.compile(r"(\.venv/bin/|/tmp/\S+/bin/)?(cascade|make|pip|python3?(\.\d+)?|curl)")
COMMENT = re.compile(r"\s{2,}#.*$")


def commands(fence: Fence) -> list[str]:
    """The commands of a fence, comments, prompt signs and line ends within one taken away."""
    found = []
    for line in fence.text.replace("\\\n", " ").splitlines():
        bare = COMMENT.sub("", line.strip().removeprefix("$ ")).strip()
        for part in bare.split(" && "):
            words = part.split()
            if words and PROGRAMS.fullmatch(words[0]):
                found.append(" ".join(words))
    return found


def commands_of_the_table() -> list[str]:
    """Every command of every block that the table of examples checks, each once."""
    read = [f for page in pages() for f in fences(page, (ROOT / page).read_text())]
    checked = [fence for fence in read if fence.kind == "checked by" and fence.value == TABLE]
    return list(dict.fromkeys(command for fence in checked for command in commands(fence)))
