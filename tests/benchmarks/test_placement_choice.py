"""The comparison of the chosen cut with fixed ones: its arithmetic, and its print."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import placement_choice
from benchmarks.placement_choice import of_grid, summary, told_times
from cascade.bundle.bundle import open_bundle

EMOJI = Path(__file__).parents[2] / "bundles" / "emoji-1"


def cell(cut: int | str, link: str, median: float | None, load: str = "single") -> dict[str, Any]:
    """A cell of a grid."""
    return {"cut": cut, "link_name": link, "load": load, "latency_s": {"median": median}}


def test_auto_is_compared_with_the_best_fixed_cut_of_its_link() -> None:
    """Loads, placements by name, cells without a median and links without auto are left out."""
    cells = [
        cell(0, "far", 2.0), cell(2, "far", 1.0), cell("auto", "far", 1.1), cell(4, "far", None),
        cell("base=here,*=there", "far", 0.1), cell(2, "far", 0.2, "80 %"), cell(0, "near", 1.0),
    ]  # fmt: skip
    (row,) = of_grid({"cells": {str(at): one for at, one in enumerate(cells)}})
    assert (row["link"], row["best"], row["best_s"]) == ("far", 2, 1.0)
    assert row["slower"] == pytest.approx(0.1)


def test_what_is_wanted() -> None:
    """Within 1 % on average and 5 % at worst."""
    assert summary([0.0, 0.02]).endswith("at worst: as wanted")
    assert summary([0.03, 0.03]).endswith("more than wanted")
    assert summary([0.0] * 20 + [0.06]).endswith("more than wanted")


def test_the_grid_is_simulated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two links; the table has a row for each, and the choice is as wanted."""
    monkeypatch.setattr(placement_choice, "RTTS_S", (0.0, 0.08))
    monkeypatch.setattr(placement_choice, "RATES", (1e7,))
    bundle = open_bundle(EMOJI, runs=())
    times = told_times(bundle, "text_encoder=8,base=140,sr256=96,sr1024=376")
    assert times["base"] * 8 == pytest.approx(0.14)
    placement_choice.print_simulated(bundle, times)
    out = capsys.readouterr().out
    assert out.count("| 10 Mbit/s |") == 2
    assert out.count("as wanted") == 2
    assert "4 changes of the link" in out
