"""The table of faults in docs/explanation/reliability.md and the tests are the same list."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (\d+) \|(.*)\|$")
NAME = re.compile(r"`(test_\w+)`")
NUMBERS = [*range(1, 34), 35, 37]
"""34 is for the Ray executor and 36 for browsers, which are not there yet."""


def rows() -> dict[int, list[str]]:
    """Number of a fault to the tests that the table names."""
    found: dict[int, list[str]] = {}
    for line in (ROOT / "docs/explanation/reliability.md").read_text().splitlines():
        row = ROW.match(line)
        if row is not None:
            assert int(row[1]) not in found, f"{row[1]} is there twice"
            found[int(row[1])] = NAME.findall(row[2])
    return found


def found_in(folder: Path) -> dict[str, str]:
    """Every test function below a folder, and its docstring."""
    found = {}
    for path in folder.rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name] = ast.get_docstring(node) or ""
    return found


def test_the_table_has_every_fault_once() -> None:
    """1 to 33, 35 and 37, each with at least one test."""
    table = rows()
    assert sorted(table) == NUMBERS
    assert [number for number, names in table.items() if not names] == []


def test_every_test_of_the_table_exists() -> None:
    """Those of other folders too."""
    known = found_in(ROOT / "tests")
    missing = [name for names in rows().values() for name in names if name not in known]
    assert missing == []


def test_every_numbered_test_is_in_its_row() -> None:
    """What a docstring here begins with is the row that names it."""
    table = rows()
    astray = []
    for name, text in found_in(Path(__file__).parent).items():
        number = re.match(r"(\d+)\. ", text)
        if number is not None and name not in table.get(int(number[1]), []):
            astray.append((name, number[1]))
    assert astray == []
