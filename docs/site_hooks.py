"""What the site needs beside the pages: the list of decisions, API pages, links outside.

Hooks of MkDocs, named in mkdocs.yml. The pages are written to be read in the repository; a link to
a file that the site does not have becomes that file's path. Knows Markdown links; no page.
"""

import ast
import re
from pathlib import Path
from typing import Any

DECISIONS = "Decisions"
LINK = re.compile(r"\[([^\]]+)\]\(((?!https?:|#|mailto:)[^)\s#]+)(#[^)]*)?\)")
"""Words, target and anchor of a link to a file."""
FACE = re.compile(r"^<!-- face: (\w+) -->$", re.MULTILINE)
"""Where a page of the API lists what a package names."""


def on_config(config: Any) -> Any:
    """Put every decision under its heading, in order of number."""
    folder = Path(config["docs_dir"])
    notes = sorted(path.relative_to(folder).as_posix() for path in folder.glob("decisions/*.md"))
    fill(config["nav"], notes)
    return config


def fill(entries: list[Any], notes: list[str]) -> None:
    """Give the heading of the decisions its pages, at whatever depth of the menu it is."""
    for entry in entries:
        for heading, below in entry.items() if isinstance(entry, dict) else ():
            if heading == DECISIONS:
                entry[heading] = notes
            elif isinstance(below, list):
                fill(below, notes)


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Turn links that lead out of docs/ into words and a path."""
    root = Path(config["docs_dir"]).resolve()
    here = (root / page.file.src_uri).parent
    text = LINK.sub(lambda found: inside(found, here, root), markdown)
    return FACE.sub(lambda found: listed(root.parent / found[1]), text)


def listed(package: Path) -> str:
    """What mkdocstrings is to show of a package: what its `__init__` names, else its modules."""
    names = face(ast.parse((package / "__init__.py").read_text()))
    if not names:
        modules = sorted(path.stem for path in package.glob("*.py") if path.stem[0] != "_")
        names = [f"{package.name}.{module}" for module in modules]
    parts = [shown(package.name, "show_root_heading: false")]
    # What another package defines has its address on that package's page: one name, one address.
    for name in names:
        own = name.startswith(f"{package.name}.")
        parts.append(shown(name, f"skip_local_inventory: {str(not own).lower()}"))
    return "\n\n".join(parts)


def shown(name: str, option: str) -> str:
    """One object, with an option."""
    return f"::: {name}\n    options:\n      {option}"


def face(tree: ast.Module) -> list[str]:
    """Names that a module exports again, `from x import Y as Y`, each with its full path."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [
        f"{node.module}.{alias.name}"
        for node in imports
        for alias in node.names
        if alias.asname == alias.name
    ]


def inside(found: "re.Match[str]", here: Path, root: Path) -> str:
    """A link as it is, if its target lies in the site's folder; else its words and the path."""
    target = (here / found[2]).resolve()
    if target.is_dir() and target.is_relative_to(root):
        return found[1]
    if target.is_relative_to(root):
        return found[0]
    path = f"`{target.relative_to(root.parent).as_posix()}`"
    words = found[1]
    return path if words.strip("`") in path else f"{words} ({path})"
