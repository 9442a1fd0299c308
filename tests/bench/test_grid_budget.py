"""A grid that may take so many minutes: how they are shared, and what is told of the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.budget import TimeBudget
from bench.flags import seconds_of
from bench.grid import FEWEST, GridFile, count_within
from bench.workload import read_workload
from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.errors import InvalidRequest
from tests.bench.fake_system import FakeTime
from tests.support.tiny_bundle import write_tiny_bundle

Sweep = Callable[..., Any]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("budget") / "tiny", steps=1)


@pytest.fixture
def sweep(bundle: Bundle, tmp_path: Path) -> Sweep:
    """Runs a grid of two links at the cut that needs no server; returns the file's value."""
    path = tmp_path / "grid.json"

    def run(*more: str) -> Any:
        words = ["bench", "grid", "--bundle", str(bundle.folder), "-o", str(path), "--quiet"]
        words += ["--threads", "1", "--cuts", "4", "--rtts", "0", "5ms", "--rates", "unshaped"]
        assert main([*words, "--requests", "3", *more]) == 0
        return json.loads(path.read_text()) if path.exists() else None

    return run


def test_what_a_piece_leaves_over_goes_to_those_after_it() -> None:
    """Four pieces of 100 s: one of 5 s leaves 95 for three."""
    clock = FakeTime()
    budget = TimeBudget(100, 4, clock)
    shares = []
    for spent in (5, 30, 40, 25):
        shares.append(budget.share_s())
        clock.sleep(spent)
    assert shares == [25, 95 / 3, 65 / 2, 25]
    assert budget.left_s == 0
    assert budget.share_s() == 0


def test_a_budget_without_an_end_bounds_nothing() -> None:
    """Every share is as long as all."""
    assert TimeBudget(float("inf"), 2, FakeTime()).share_s() == float("inf")


@pytest.mark.parametrize(
    ("seconds", "rate", "count"),
    [(10, 1.5, 15), (10, 0.1, FEWEST), (100, 1.0, 24), (float("inf"), 0.01, 24), (0, 9.0, FEWEST)],
)
def test_arrivals_fit_their_time(seconds: float, rate: float, count: int) -> None:
    """As many as come in it; some at least, and no more than were asked for."""
    assert count_within(seconds, rate, 24) == count


def test_what_there_is_no_time_for_is_told(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in a nanosecond; the same command without a limit goes on, and ends."""
    assert sweep("--minutes", "1e-9") is None
    said = capsys.readouterr().out
    assert said.startswith("0 cells in ")
    assert "no time for 2 links or loads: the same command goes on with them" in said
    found = sweep("--minutes", "60")
    assert [cell["sent"] for cell in found["cells"].values()] == [3, 3]
    assert "no time" not in capsys.readouterr().out


def test_the_report_says_how_long_it_was_allowed(sweep: Sweep, tmp_path: Path) -> None:
    """And that slow links have fewer requests for it."""
    assert sweep("--minutes", "60")["minutes"] == 60
    page = tmp_path / "page.html"
    assert main(["bench", "report", str(tmp_path / "grid.json"), "-o", str(page)]) == 0
    assert "60 minutes: slow links have fewer requests" in page.read_text()


def test_a_cell_in_which_nothing_was_finished_is_measured_again(
    sweep: Sweep, bundle: Bundle, tmp_path: Path
) -> None:
    """A server that was gone for a while leaves no hole."""
    value, path = sweep(), tmp_path / "grid.json"
    key = next(iter(value["cells"]))
    value["cells"][key]["finished"] = 0
    path.write_text(json.dumps(value))
    assert not GridFile(path, bundle, read_workload(None)).has(key)
    assert sweep()["cells"][key]["finished"] == 3


@pytest.mark.parametrize("minutes", [0.0, -1.0, 1441.0, float("nan")])
def test_minutes_have_bounds(minutes: float) -> None:
    """Up to a day."""
    with pytest.raises(InvalidRequest, match="minutes: expected"):
        seconds_of(minutes)
