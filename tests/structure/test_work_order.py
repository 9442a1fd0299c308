"""In which order workers take the test files."""

from pathlib import Path

from tests.support.work_order import APART, LONGEST, TOGETHER, place, unit_of

ROOT = Path(__file__).parents[2]


def test_what_takes_long_goes_first() -> None:
    """In the order of the list; a test alone goes where its file does, and the rest last."""
    files = ["tests/wire/test_a.py", "tests/documents/test_pages.py::test_a[x]", *LONGEST]
    in_order = sorted(files, key=place)
    assert [unit.partition("::")[0] for unit in in_order if unit != files[1]] == [
        *LONGEST,
        "tests/wire/test_a.py",
    ]
    assert place(files[1]) == place("tests/documents/test_pages.py")


def test_a_worker_gets_a_file_or_what_shares_its_networks_or_a_test() -> None:
    """Files that share networks are one unit, so that these are exported once."""
    assert unit_of("tests/wire/test_a.py::test_b[c::d]") == "tests/wire/test_a.py"
    assert {unit_of(f"{file}::test_b") for file in TOGETHER} == {"tests/export"}
    assert unit_of("tests/documents/test_pages.py::test_b[c]") == (
        "tests/documents/test_pages.py::test_b[c]"
    )


def test_the_files_are_there() -> None:
    """A file that was moved would silently lose its place."""
    named = {*LONGEST, *APART, *TOGETHER}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
