"""How is the code built? What one picture enters, who calls back, and what a reader meets.

    python -m benchmarks.structure [FOLDER ...] [--no-trace] [--json FILE]

Each FOLDER is a checkout of ours, of any age, with an environment in its `.venv`; side by side in
the table, the one to compare with first. Without one it is the present folder. Counted:

- functions and files: distinct ones of the product's packages that one `cascade generate` at cut 2
  enters, in every thread: the client from the command's function to its return, the server from
  the handler of `Generate` to its return. Lambdas and comprehensions count as the function they
  stand in; bodies of modules and classes, generated `__init__` and libraries do not count. The
  order in which threads run moves the server's figures by one or two.
- pairs of rooms in both directions: a room of the server is a sub-package of `runtime_server`, or
  its top; a call is one function of ours entered from another directly or through a dataclass's
  `__init__`, `contextlib` or `functools`. A thread or an event loop calls nobody's function.
  A pair counts when calls go both ways in this one request.
- everything else is read out of the text, by the rules at each function of
  `benchmarks.lib.source_counts`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.lib.record import write_record
from benchmarks.lib.source_counts import (
    PACKAGES,
    SHAPED_PACKAGES,
    array_functions,
    branches_on_specs,
    comment_counts,
    homonyms,
    modules_of,
    shape_names,
    wide_classes,
)
from benchmarks.lib.traced_generate import Trace, traced_generate

TYPES = "cascade/types.py"
SERVER = "runtime_server"
NONE = "-"


def text_counts(root: Path) -> dict[str, Any]:
    """Everything that the text of a checkout says."""
    modules = modules_of(root)
    vocabulary = next(m for m in modules if m.path == TYPES)
    shaped = array_functions(
        [m for m in modules if m.package in SHAPED_PACKAGES], shape_names(vocabulary)
    )
    comments = comment_counts(modules)
    return {
        "modules": len(modules),
        "lines": sum(m.text.count("\n") for m in modules),
        "wide_classes": wide_classes(modules),
        "branches_on_specs": branches_on_specs(modules),
        "homonyms": homonyms(modules),
        "array_functions": len(shaped),
        "without_shape_in_docstring": [f.where for f in shaped if not f.in_docstring],
        "without_shape": [f.where for f in shaped if not (f.in_docstring or f.in_annotation)],
        "comments_per_100": {name: c.per_100(c.every) for name, c in comments.items()},
        "explaining_per_100": {name: c.per_100(c.explaining) for name, c in comments.items()},
        "readme_lines": (root / "README.md").read_text().count("\n"),
    }


def trace_counts(client: Trace, server: Trace) -> dict[str, Any]:
    """What the two traces say."""
    sides = {"client": client, "server": server}
    return {
        **{
            side: {
                "functions": len(trace.functions),
                "files": len(trace.files),
                "files_by_package": trace.files_by_package(),
            }
            for side, trace in sides.items()
        },
        "both_ways": [
            {
                "rooms": list(c.rooms),
                "there": c.there,
                "back": c.back,
                "the_rarer": list(c.examples),
            }
            for c in server.both_ways(SERVER)
        ],
    }


def rows_of(figures: dict[str, Any]) -> dict[str, str]:
    """The table's column for one checkout."""
    rows = {"modules / lines": f"{figures['modules']} / {figures['lines']}"}
    for side in ("client", "server"):
        counts = figures.get(side)
        text = f"{counts['functions']} in {counts['files']}" if counts else NONE
        rows[f"functions in files, {side}"] = text
    pairs = figures.get("both_ways")
    rows["rooms that call each other"] = NONE if pairs is None else str(len(pairs))
    missing, functions = len(figures["without_shape"]), figures["array_functions"]
    silent = len(figures["without_shape_in_docstring"])
    rows |= {
        "classes over 12 methods": str(len(figures["wide_classes"])),
        "branches on spec types": str(len(figures["branches_on_specs"])),
        "class names used twice": str(len(figures["homonyms"])),
        "array functions without a shape": f"{missing} of {functions}",
        "... in the docstring": f"{silent} of {functions}",
    }
    for package in PACKAGES:
        every = figures["comments_per_100"].get(package)
        text = NONE if every is None else f"{every} ({figures['explaining_per_100'][package]})"
        rows[f"comments in 100 lines, {package}"] = text
    return {**rows, "lines of the README": str(figures["readme_lines"])}


def table(columns: dict[str, dict[str, str]]) -> str:
    """Checkouts side by side; a row that one of them lacks has a dash there."""
    names = list(dict.fromkeys(row for column in columns.values() for row in column))
    wide = max(len(name) for name in names)
    each = max([len(t) for c in columns.values() for t in c.values()] + [len(n) for n in columns])
    lines = [" " * wide + "".join(f"  {name:>{each}}" for name in columns)]
    for row in names:
        cells = "".join(f"  {column.get(row, NONE):>{each}}" for column in columns.values())
        lines.append(f"{row:<{wide}}{cells}")
    return "\n".join([*lines, "", "comments: all of them (and those that are not for a tool)"])


def lists_of(name: str, figures: dict[str, Any]) -> str:
    """What the counts consist of, of one checkout."""
    lines = [f"\n{name}"]
    for pair in figures.get("both_ways", ()):
        lines.append(f"  {' <-> '.join(pair['rooms'])}: {pair['there']} and {pair['back']}")
        lines += [f"      {call}" for call in pair["the_rarer"]]
    lines += [f"  {count} methods: {where}" for where, count in figures["wide_classes"].items()]
    lines += [f"  branch on a spec type: {where}" for where in figures["branches_on_specs"]]
    lines += [f"  class {n}: {', '.join(paths)}" for n, paths in figures["homonyms"].items()]
    lines += [f"  no shape: {where}" for where in figures["without_shape"]]
    return "\n".join(lines)


def main() -> None:
    """Count, print the table and what it consists of, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path()], metavar="FOLDER")
    parser.add_argument("--no-trace", action="store_true", help="count the text only")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    figures: dict[str, dict[str, Any]] = {}
    for folder in args.folders:
        root = folder.resolve()
        figures[root.name] = text_counts(root)
        if not args.no_trace:
            figures[root.name] |= trace_counts(*traced_generate(root))
    print(table({name: rows_of(counts) for name, counts in figures.items()}))
    for name, counts in figures.items():
        print(lists_of(name, counts))
    write_record(args.json, {"checkouts": json.loads(json.dumps(figures))})


if __name__ == "__main__":
    main()
