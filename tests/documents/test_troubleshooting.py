"""Every error text that docs/how-to/troubleshooting.md quotes is one that the source can print."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from tests.documents.fences import ROOT

PAGE = ROOT / "docs/how-to/troubleshooting.md"
PACKAGES = ("bench", "cascade", "wire", "runtime_client", "runtime_server", "export", "stages")
FOREIGN = "gRPC prints"
"""Heading of a table whose texts are a library's."""
HOLE = "\x00"
"""Stands for what a message takes from a value."""


@cache
def messages() -> str:
    """Every text of the packages, a line each, with a hole for each value in it."""
    files = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    return "\n".join(text for file in files for text in texts(ast.parse(file.read_text())))


def texts(tree: ast.AST) -> Iterator[str]:
    """The strings of a module, formatted ones and what is joined of several included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.Constant):
            text = rendered(node)
            if len(text) > 1:
                yield " ".join(text.split())


def rendered(node: ast.AST) -> str:
    """A string as it is printed, with holes."""
    if isinstance(node, ast.JoinedStr):
        return "".join(rendered(value) for value in node.values)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return HOLE


def quoted(text: str) -> list[str]:
    """First cell of every row of the page's tables of texts."""
    found: list[str] = []
    ours = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and not cells[0].startswith("`"):
            ours = cells[0] == "text"
            assert ours or cells[0] == FOREIGN, f"unknown table: {line}"
        elif line.startswith("| ") and ours:
            (text,) = re.findall(r"^`([^`]+)`$", cells[0])
            found.append(text)
    return found


def is_printed(text: str) -> bool:
    """Whether a message holds a text; `...` stands for anything that a message may hold there."""
    pattern = "[^\n]*".join(re.escape(part) for part in text.split("..."))
    return re.search(pattern, messages()) is not None


def test_every_text_is_in_the_source() -> None:
    """A message that changes changes the page, too."""
    shown = quoted(PAGE.read_text())
    assert len(shown) > 60
    assert len(set(shown)) == len(shown)
    assert [text for text in shown if not is_printed(text)] == []


def test_a_text_that_no_message_has() -> None:
    """It is found out; and one whose parts come in another order."""
    assert is_printed("token: it is not accepted")
    assert not is_printed("token: it is not liked")
    assert is_printed("...: no setting ...: did you mean ...?")
    assert not is_printed("did you mean ...: no setting")


def test_texts_in_running_text() -> None:
    """The warning that the page names outside its tables."""
    assert "`nobody measured which engine is fastest here for ...`" in PAGE.read_text()
    assert is_printed("nobody measured which engine is fastest here for ...")
