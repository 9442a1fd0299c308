"""Write docs/map.md again: every module with the first line of its docstring.

`python -m tests.source_map` after a module came, went or was described anew; with `--check`, as
`make check` calls it, it only says whether the page is what it would write. Knows folders and
docstrings; what a line says is for its module to say.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = "docs/map.md"
PACKAGES = (
    "cascade", "protos", "wire", "runtime_client", "runtime_server", "bench", "stages", "export",
    "benchmarks", "examples", "tests/support",
)  # fmt: skip
"""Folders whose modules are listed, from below to above; one that is not there yet is left out."""
GENERATED = ("_pb2.py", "_pb2_grpc.py")
WIDTH = 34
"""Where the descriptions begin."""

TESTS = {
    "attacks": "bad bundles, messages, callers and certificates; both sides of every limit",
    "bench": "percentiles, schedules, links and phases of `cascade bench`",
    "benchmarks": "every benchmark runs, in miniature",
    "cascade": "the vocabulary, without torch",
    "congruence": "the same request at every cut, real server processes",
    "deploy": "what lies in deploy/ parses, and names only what there is",
    "documents": "every command and Python block of README and docs is run",
    "examples": "the examples, the clients in other languages and the notebook do what they say",
    "export": "graphs, storage, parity (torch)",
    "faults": "faults of networks, machines, callers and load, done to a real server process",
    "flags": "every flag of every subcommand has an effect that is tried",
    "packaging": "both wheels built, installed and used outside a checkout",
    "reference_pages": "what the reference pages are made of, read from the source",
    "runtime_client": "client, transport, command line",
    "runtime_server": "admission, queues, cancelling, draining, reloading, metrics, traces",
    "stages": "networks, data, training (torch)",
    "structure": "what holds for the source as a whole: names, branches, shapes",
    "support": "servers, bundles, certificates and data that tests share",
    "wire": "messages there and back",
}
"""Folders of tests, which have no module of their own that could say it."""

BESIDES = {
    "bundles/emoji-1": "the reference cascade: manifest, graphs, a tokenizer",
    "deploy": "image, systemd unit, Kubernetes, alerts, dashboard, every setting of a server",
    "findings": "surprises about other people's libraries, one executable script each",
    "protos/cascade/v1/cascade.proto": "the contract; its generated Python lies beside it",
    ".ci/run": "what CI runs: make check test",
    "Makefile": "demo, test, check, docs, soak, protos, pictures",
    "mkdocs.yml": "the site of docs/: its menu, and that it asks no network",
    "constraints.txt": "the exact versions that the Makefile installs",
    "pyproject.toml": "packages, extras, linters, import contracts",
}

HEADING = "Map of the source"
HEAD = f"""\
# {HEADING}

<!-- generated: python -m tests.source_map -->

Every module with the first line of its docstring. What the folders may import is in
[architecture](explanation/architecture.md). Made by `python -m tests.source_map`;
`make check` compares.
"""


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without its full stop.

    Raises:
        ValueError: it has none; the message names it.
    """
    text = ast.get_docstring(ast.parse(path.read_text()))
    if not text:
        raise ValueError(f"{path}: begin it with a docstring whose first line says what it is")
    return text.splitlines()[0].removesuffix(".")


def line(name: str, words: str, depth: int = 0) -> str:
    """One line of a tree."""
    return f"{'    ' * depth + name:<{WIDTH}}{words}".rstrip()


def tree(folder: Path, depth: int = 0) -> Iterator[str]:
    """A package: its own line, its modules, then its sub-packages."""
    init = folder / "__init__.py"
    words = first_line(init) if init.exists() and init.read_text().strip() else ""
    yield line(f"{folder.name}/", words, depth)
    for path in sorted(folder.glob("*.py")):
        if path != init and not path.name.endswith(GENERATED):
            yield line(path.name, first_line(path), depth + 1)
    for below in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any(below.rglob("*.py")):
            yield from tree(below, depth + 1)


def folders_of_tests(root: Path) -> Iterator[str]:
    """Folders of tests with what they are about.

    Raises:
        ValueError: the table lacks one; the message says where to write it.
    """
    yield line("tests/", "mirrors the packages")
    for path in sorted(p for p in (root / "tests").iterdir() if any(p.rglob("*.py"))):
        if path.is_dir():
            if path.name not in TESTS:
                raise ValueError(f"tests/source_map.py: say in TESTS what tests/{path.name} tests")
            yield line(f"{path.name}/", TESTS[path.name], 1)
        elif path.name not in ("__init__.py", "conftest.py"):
            yield line(path.name, first_line(path), 1)


def pages(root: Path) -> Iterator[str]:
    """The documents with their headings; of a shelf its own, for the site's menu has its pages."""
    yield line("docs/", "")
    for path in sorted({*(root / "docs").glob("*.md"), root / PAGE}):
        yield line(path.name, HEADING if path.name == "map.md" else title_of(path), 1)
    for path in sorted((root / "docs").glob("*/index.md")):
        yield line(f"{path.parent.name}/", title_of(path), 1)
    yield line("decisions/", "why things are as they are, one page each", 1)


def title_of(page: Path) -> str:
    """The first heading of a page."""
    return page.read_text().partition("\n")[0].removeprefix("# ")


def written(root: Path) -> str:
    """The page."""
    present = [name for name in PACKAGES if (root / name).exists()]
    parts = [HEAD, *(fence(name, tree(root / name)) for name in present)]
    parts.append(fence("tests", folders_of_tests(root)))
    parts.append(fence("docs", pages(root)))
    beside = [line(name, words) for name, words in BESIDES.items() if (root / name).exists()]
    parts.append(fence("Beside the source", iter(beside)))
    return "\n".join(parts)


def fence(heading: str, lines: Iterator[str]) -> str:
    """One section."""
    return "\n".join([f"## {heading}\n", "```text", *lines, "```", ""])


def main() -> int:
    """Write or compare; 1 when it differs."""
    page, text = ROOT / PAGE, written(ROOT)
    if "--check" not in sys.argv:
        page.write_text(text)
    elif not page.exists() or page.read_text() != text:
        sys.stderr.write(f"{PAGE} is stale, run `python -m tests.source_map`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
