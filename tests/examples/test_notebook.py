"""The notebook's code runs, and prints and draws what is stored in it."""

from pathlib import Path

import numpy as np
import pytest

from tests.examples.notebooks import code_cells, picture_of, read, run_cells

NOTEBOOK = Path(__file__).parents[2] / "examples/first_picture.ipynb"
CLOSE_DB = 40.0
"""Engines differ by rounding: under one level in 255 on average."""


def test_its_outputs_are_those_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is equal; pictures, of the true bundle in float32, are equal but for rounding."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(NOTEBOOK.parent)
    notebook = read(NOTEBOOK)
    for cell, made in zip(code_cells(notebook), run_cells(notebook), strict=True):
        stored = cell["outputs"]
        assert [o["output_type"] for o in made] == [o["output_type"] for o in stored]
        for here, there in zip(made, stored, strict=True):
            assert here.get("text") == there.get("text")
            if "data" in there:
                ours, theirs = (np.asarray(picture_of(o), np.float64) for o in (here, there))
                error = np.mean((ours - theirs) ** 2)
                assert 10 * np.log10(255**2 / max(error, 1e-9)) >= CLOSE_DB


def test_it_is_small() -> None:
    """Every clone carries it, pictures included."""
    assert NOTEBOOK.stat().st_size < 200_000
