"""The model card: in the bundle, under its hash, from figures of this very bundle and no others."""

import json
from pathlib import Path
from typing import Any

import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main as cascade
from cascade.commands.exit_codes import BAD_INPUT
from cascade.errors import InvalidRequest
from export.model_card import CARD, add_card
from tests.support.synthetic_quality import figures
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle without a card."""
    return write_tiny_bundle(tmp_path / "tiny", int8=True)


def write(path: Path, content: dict[str, Any]) -> Path:
    """The figures as a file."""
    path.write_text(json.dumps(content))
    return path


def test_a_card_lies_in_the_bundle(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Listed and hashed; the graphs stay, the id changes, the figures are in it as measured."""
    quality = write(tmp_path / "quality.json", figures(bundle))
    assert cascade(["card", str(bundle.folder), "--quality", str(quality)]) == 0
    carded = open_bundle(bundle.folder)
    carded.verify_files()
    text = carded.read(CARD).decode()
    for line in (
        "# Model card: tiny",
        "| captions as trained | 12 | 25.0 % | 83.1 % | 99.0 % | 97.0 % |",
        "| 7 | 85.7 % | 50.0 % | 75.0 % |",
        "| 8 -> 16 | all | 2 | 31.25 | 31.25 | 0.9123 | 0.9123 |",
        "| base | ddim | 8 | 2.0 | - | 16 |",
        "| base | 0.0e+00 | 200.0 | 40.0 |",
        "Plain regression not trained: sr16.",
        "at commit abc1234 on a processor, 2 cores",
    ):
        assert line in text
    assert carded.bundle_id != bundle.bundle_id
    assert carded.bundle_id in capsys.readouterr().out
    assert [e for e in carded.manifest.files if e.name != CARD] == sorted(
        bundle.manifest.files, key=lambda entry: entry.name
    )


def test_any_bundle_gets_a_card_without_figures(bundle: Bundle) -> None:
    """Licences, training, sampling and parity are the manifest's; the reference's data stay out."""
    assert cascade(["card", str(bundle.folder)]) == 0
    carded = open_bundle(bundle.folder)
    text = carded.read(CARD).decode()
    for line in (
        "# Model card: tiny",
        "| sr16 | 16 | ddim | 3 | 1.0 | 0.1 |",
        "| base | 0.0e+00 | 200.0 | 40.0 |",
        "Not measured",
    ):
        assert line in text
    assert "Noto" not in text
    assert carded.bundle_id != bundle.bundle_id


def test_a_new_card_takes_the_old_ones_place(bundle: Bundle, tmp_path: Path) -> None:
    """Twice the same figures give the same bundle; the card is not one of the graphs measured."""
    quality = write(tmp_path / "quality.json", figures(bundle))
    first = add_card(bundle.folder, quality)
    assert add_card(bundle.folder, quality) == first
    again = write(tmp_path / "again.json", figures(bundle))
    assert add_card(bundle.folder, again) == first


def test_figures_of_other_graphs_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    """A changed graph, or one more, is named, and the bundle stays as it was."""
    changed = figures(bundle)
    changed["bundle"]["files"]["sr16.onnx"] = "0" * 64
    with pytest.raises(InvalidRequest, match=r"sr16\.onnx is not the file that was measured"):
        add_card(bundle.folder, write(tmp_path / "q.json", changed))
    changed = figures(bundle)
    changed["bundle"]["files"]["zz.onnx"] = "0" * 64
    with pytest.raises(InvalidRequest, match=r"zz\.onnx"):
        add_card(bundle.folder, write(tmp_path / "q.json", changed))
    assert open_bundle(bundle.folder).bundle_id == bundle.bundle_id


def test_what_is_no_json(bundle: Bundle, tmp_path: Path) -> None:
    """Says so."""
    path = tmp_path / "q.json"
    path.write_text("{")
    with pytest.raises(InvalidRequest, match="is not JSON"):
        add_card(bundle.folder, path)


@pytest.mark.parametrize("content", [None, "not JSON", "[]", "{}", '{"bundle": {"files": {}}}'])
def test_figures_that_are_none(
    bundle: Bundle, tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, no JSON or of another shape: one line that names the file; nothing changed."""
    quality = tmp_path / "quality.json"
    if content is not None:
        quality.write_text(content)
    assert cascade(["card", str(bundle.folder), "--quality", str(quality)]) == BAD_INPUT
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "quality" in error
    assert (content is None) == ("python -m benchmarks.quality" in error)
    assert open_bundle(bundle.folder) == bundle
