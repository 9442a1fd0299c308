"""The long runs of reliability, with tiny counts."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    async_client,
    cancel_race,
    front_door,
    http_door,
    memory_growth,
    mutations,
    overload,
)
from cascade.bundle.bundle import Bundle
from tests.support.tiny_bundle import write_tiny_bundle

PLOTS = find_spec("matplotlib") is not None


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("reliability") / "tiny", steps=2)


def figures_of(
    module: Any, arguments: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> dict[str, Any]:
    """Run a benchmark's `main`; what it wrote."""
    record = folder / "r.json"
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--json", str(record)])
    module.main()
    written: dict[str, Any] = json.loads(record.read_text())
    assert "surroundings" in written
    return written


def plotting(path: Path) -> list[str]:
    """The option that asks for a plot, where one can be drawn."""
    return ["--plot", str(path)] if PLOTS else []


def test_cancel_race(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every moment gets its races and none is lost."""
    figures = figures_of(cancel_race, ["--races", "10"], monkeypatch, tmp_path)
    assert [moment["races"] for moment in figures["moments"].values()] == [2] * 5
    assert (figures["lost"], figures["wrong_pictures"]) == (0, 0)


def test_mutations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every message is answered and counted."""
    options = ["--messages", "60", "--connections", "2"]
    figures = figures_of(mutations, options, monkeypatch, tmp_path)
    assert figures["messages"] == sum(figures["codes"].values()) == 60
    assert figures["picture_after"]
    assert figures["failed"] == []
    assert not figures["crashed"]


def test_memory_growth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Readings at round numbers, a slope, no wrong picture."""
    plot = tmp_path / "memory.png"
    options = ["--requests", "300", *plotting(plot)]
    figures = figures_of(memory_growth, options, monkeypatch, tmp_path)
    assert [reading[0] for reading in figures["readings"]] == [100, 200, 300]
    assert figures["wrong_pictures"] == 0
    assert plot.exists() == PLOTS


def test_the_slope_by_hand() -> None:
    """What comes before the warm-up's end does not count."""
    readings = [(0, 900.0, 1, 1), (1000, 100.0, 1, 1), (2000, 102.0, 1, 1), (3000, 104.0, 1, 1)]
    assert memory_growth.slope_mib(readings, 500) == pytest.approx(2)


def test_overload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """More comes than can be done, and all that is delivered is right."""
    plot = tmp_path / "overload.png"
    options = ["--seconds", "1.5", "--queue", "2", "--slow-layers", "20", *plotting(plot)]
    figures = figures_of(overload, options, monkeypatch, tmp_path)
    check_overload(figures)
    assert figures["cores_apart"] == (len(os.sched_getaffinity(0)) > 1)
    assert figures["failed_count"] == 0
    assert figures["served_count"] > 0
    assert figures["readings"]
    assert plot.exists() == PLOTS


def test_overload_of_a_true_bundle(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From what a device sends that ran two components, on every core."""
    options = ["--bundle", str(bundle.folder), "--cut", "2", "--seconds", "1", "--queue", "1"]
    figures = figures_of(overload, options, monkeypatch, tmp_path)
    check_overload(figures)
    assert not figures["cores_apart"]
    # A context of float16 and an 8x8 picture, beside names and numbers.
    assert 8 * 8 * 3 < figures["message_bytes"] < 1000


def check_overload(figures: dict[str, Any]) -> None:
    """What holds of any overload: rates by their definition, right pictures, shares of a whole."""
    before, after = figures["capacities_per_s"]
    assert figures["arrivals_per_s"] == pytest.approx(5 * before)
    assert figures["capacity_per_s"] == pytest.approx((before + after) / 2)
    assert figures["wrong_pictures"] == 0
    for shares in (*figures["busy"]["capacity"], figures["busy"]["overload"]):
        # Ticks of 10 ms count the processor.
        assert 0 < shares["cores"] < 1.1 * (os.cpu_count() or 1)
        assert 0 < shares["engine"] <= 1


def test_front_door(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three doors, two requests, two percentiles, and starts."""
    options = ["--bundle", str(bundle.folder), "--requests", "5", "--starts", "1"]
    figures = figures_of(front_door, options, monkeypatch, tmp_path)
    assert set(figures["doors"]) == {"bare gRPC", "plain", "guarded"}
    for methods in figures["doors"].values():
        for row in methods.values():
            assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert len(figures["ready_s"]) == 1


def test_http_door(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both doors, two percentiles, and the same pictures."""
    figures = figures_of(http_door, ["--requests", "3"], monkeypatch, tmp_path)
    assert figures["different_pictures"] == 0
    assert set(figures["milliseconds"]) == {"gRPC", "HTTP"}


def test_async_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is left, and both clients are timed."""
    options = ["--cancels", "3", "--requests", "5"]
    figures = figures_of(async_client, options, monkeypatch, tmp_path)
    assert figures["left_behind"] == 0
    assert set(figures["request_ms"]) == {"synchronous", "asynchronous"}
