"""The comparison of pictures before and after a change, and between cuts."""

import json
from pathlib import Path

import pytest

from benchmarks import pixel_hashes
from tests.support.tiny_bundle import write_tiny_bundle


def compared(monkeypatch: pytest.MonkeyPatch, *options: object) -> int:
    """The exit code of a comparison."""
    monkeypatch.setattr("sys.argv", ["pixel_hashes", *map(str, options)])
    with pytest.raises(SystemExit) as ended:
        pixel_hashes.main()
    return int(ended.value.code or 0)


def test_equal_pictures_pass_and_a_changed_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs of one checkout agree; a hash of before that is another fails by its name."""
    write_tiny_bundle(tmp_path / "tiny", steps=2)
    few = ("--bundle", tmp_path / "tiny", "--prompts", 2, "--cuts", 2, 4, "--precisions", "fp32")
    before = tmp_path / "before.json"
    assert compared(monkeypatch, *few, "--json", before) == 0
    after = ("--json", tmp_path / "after.json", "--against", before)
    assert compared(monkeypatch, *few, *after) == 0
    assert "0 differ between cuts" in capsys.readouterr().out
    hashes = json.loads(before.read_text())
    assert len(hashes) == 2 * 3 * 2
    changed = next(iter(hashes))
    before.write_text(json.dumps({**hashes, changed: "0"}))
    assert compared(monkeypatch, *few, *after) == 1
    assert changed in capsys.readouterr().out


def test_a_picture_that_depends_on_the_cut_is_named() -> None:
    """Whatever the other pictures are."""
    found = {"a | base | cut 2 | fp32": "1", "a | base | cut 4 | fp32": "2"}
    assert pixel_hashes.unequal_between_cuts({**found, "b | base | cut 2 | fp32": "3"}) == [
        "a | base | fp32"
    ]
