"""docs/map.md: what its lines are made of. That it is up to date, `make check` says."""

from pathlib import Path

import pytest

from tests import source_map


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A package with a sub-package, generated code, and tests."""
    texts = {
        "cascade/__init__.py": '"""The vocabulary.\n\nMore.\n"""\n',
        "cascade/noise.py": '"""Noise as\na function."""\n',
        "cascade/text/__init__.py": "",
        "cascade/text/stage.py": '"""A stage."""\n',
        "cascade/x_pb2.py": "",
        "tests/cascade/test_noise.py": '"""Not listed."""\n',
        "docs/wire.md": "# The wire\n\nWords.\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_lines_of_the_map(checkout: Path) -> None:
    """Modules before sub-packages, first lines without a full stop, no generated code."""
    lines = [" ".join(line.split()) for line in source_map.written(checkout).splitlines()]
    assert lines[lines.index("cascade/ The vocabulary") :][:5] == [
        "cascade/ The vocabulary",
        "noise.py Noise as",
        "text/",
        "stage.py A stage",
        "```",
    ]
    assert f"cascade/ {source_map.TESTS['cascade']}" in lines
    assert "wire.md The wire" in lines
    assert not [line for line in lines if "x_pb2" in line or "test_noise" in line]


def test_a_module_without_a_docstring(checkout: Path) -> None:
    """It is named, and so is what to do."""
    (checkout / "cascade/bare.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"bare\.py: begin it with a docstring"):
        source_map.written(checkout)


def test_a_new_folder_of_tests(checkout: Path) -> None:
    """It wants a line in the table."""
    (checkout / "tests/odd").mkdir()
    (checkout / "tests/odd/test_odd.py").write_text('"""Odd."""\n')
    with pytest.raises(ValueError, match="say in TESTS what tests/odd tests"):
        source_map.written(checkout)


def test_a_stale_page(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` fails and says which command mends it; after that command it passes."""
    monkeypatch.setattr(source_map, "ROOT", checkout)
    monkeypatch.setattr("sys.argv", ["source_map", "--check"])
    assert source_map.main() == 1
    assert "run `python -m tests.source_map`" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["source_map"])
    assert source_map.main() == 0
    monkeypatch.setattr("sys.argv", ["source_map", "--check"])
    assert source_map.main() == 0
