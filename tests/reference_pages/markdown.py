"""Tables of Markdown, and the docstrings that fill them.

Knows text and syntax trees; not what a page is about.
"""

import ast
import inspect
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("cascade", "wire", "runtime_client", "runtime_server", "bench", "stages", "export")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; a `|` in a cell would end it."""
    names = list(head)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)


def cell(text: str) -> str:
    """Text in one line of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """As code; nothing where there is nothing."""
    return f"`{text}`" if str(text) else ""


@cache
def tree(path: Path) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(path.read_text())


def modules(packages: Iterable[str] = PRODUCT) -> list[Path]:
    """Every module of packages, in order of their paths."""
    return [path for name in packages for path in sorted((ROOT / name).rglob("*.py"))]


def field_docs(kind: type) -> dict[str, str]:
    """The string after each field of a class, by name; of a class without one its `Attributes`."""
    (node,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind))).body
    if not isinstance(node, ast.ClassDef):
        raise TypeError(f"{kind} is no class")
    found: dict[str, str] = {}
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = after.value if isinstance(after, ast.Expr) else None
            is_text = isinstance(text, ast.Constant) and isinstance(text.value, str)
            found[field.target.id] = str(text.value) if is_text else ""
    return found


def summary(thing: object) -> str:
    """The first paragraph of a docstring."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
