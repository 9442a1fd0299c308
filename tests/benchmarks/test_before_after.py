"""The comparison of two checkouts, here of one with itself."""

import json
from pathlib import Path

import pytest

from benchmarks import before_after
from tests.support.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]


def test_a_checkout_beside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure of both sides is there and is more than nothing."""
    write_tiny_bundle(tmp_path / "tiny", steps=2)
    monkeypatch.chdir(ROOT)
    record = tmp_path / "figures.json"
    options = ["--bundle", str(tmp_path / "tiny"), "--rounds", "1", "--json", str(record)]
    monkeypatch.setattr("sys.argv", ["before_after", str(ROOT), *options])
    before_after.main()
    figures = json.loads(record.read_text())
    for name in ("warm_s", "cold_s", "ready_s", "client_mib", "server_mib"):
        before, now = figures[name]
        assert before > 0
        assert now > 0
