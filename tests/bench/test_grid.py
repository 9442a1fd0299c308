"""A grid on a true bundle in miniature: its cells, going on with it, and its report."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.flags import axes_of_flags
from bench.grid import GridFile, rounded
from bench.link.shape import LinkShape
from bench.report.charts import heat_map, load_lines
from bench.workload import read_workload
from cascade.bundle.bundle import Bundle
from cascade.commands.cli import build_parser, main
from cascade.errors import InvalidRequest
from tests.support.tiny_bundle import write_tiny_bundle

AXES = ("--cuts", "2", "4", "--rtts", "0", "5ms", "--rates", "unshaped", "--requests", "2")
LOADS = ("--loads", "50", "--loaded-links", "5ms,unshaped", "--loaded-requests", "2")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("grid") / "tiny")


@pytest.fixture(scope="module")
def sweep(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs `cascade bench grid` into the same file; returns it."""
    path = tmp_path_factory.mktemp("grid") / "grid.json"

    def run(*more: str) -> Path:
        words = ["bench", "grid", "--bundle", str(bundle.folder), "-o", str(path), "--threads", "1"]
        assert main([*words, "--quiet", *AXES, *more]) == 0
        return path

    run(*LOADS)
    return run


def test_every_cell_is_there(sweep: Callable[..., Path]) -> None:
    """Two cuts over two links, the capacity and one load of one cut; all pictures right."""
    cells = json.loads(sweep(*LOADS).read_text())["cells"]
    assert set(cells) == {
        "cut 2, unshaped, single", "cut 4, unshaped, single",
        "cut 2, RTT 5 ms, unshaped, single", "cut 4, RTT 5 ms, unshaped, single",
        "cut 2, RTT 5 ms, unshaped, capacity", "cut 2, RTT 5 ms, unshaped, 50 %",
    }  # fmt: skip
    for cell in cells.values():
        assert (cell["finished"], cell["pictures"]) == (
            2, {"equal": 6, "different": 0, "unchecked": 0},
        )  # fmt: skip
    far = cells["cut 2, RTT 5 ms, unshaped, single"]
    assert far["latency_s"]["min"] >= 0.005
    assert set(far["usage"]) == {"client", "server"}
    assert set(cells["cut 4, unshaped, single"]["usage"]) == {"client"}
    loaded = cells["cut 2, RTT 5 ms, unshaped, 50 %"]
    capacity = cells["cut 2, RTT 5 ms, unshaped, capacity"]["throughput_per_s"]
    assert loaded["rate_per_s"] == pytest.approx(capacity / 2, rel=1e-4)
    assert loaded["goodput"]["objective_s"] == pytest.approx(
        3 * far["latency_s"]["median"], abs=3e-5
    )


def test_cells_that_are_there_are_not_measured_again(sweep: Callable[..., Path]) -> None:
    """The file stays as it is, to the byte."""
    before = sweep(*LOADS).read_bytes()
    assert sweep(*LOADS).read_bytes() == before
    assert sweep().read_bytes() == before


def test_a_grid_of_something_else_is_not_continued(
    sweep: Callable[..., Path], bundle: Bundle, tmp_path: Path
) -> None:
    """Another bundle or other seeds need another file."""
    path = sweep(*LOADS)
    with pytest.raises(InvalidRequest, match="another workload"):
        GridFile(path, bundle, read_workload(None, 1))
    other = write_tiny_bundle(tmp_path / "other", steps=2)
    with pytest.raises(InvalidRequest, match="another bundle_id"):
        GridFile(path, other, read_workload(None))


def test_the_report_is_one_file(sweep: Callable[..., Path], tmp_path: Path) -> None:
    """No script and nothing to fetch; every chart is well-formed and every cell is in the table."""
    page = tmp_path / "report.html"
    assert main(["bench", "report", str(sweep(*LOADS)), "-o", str(page)]) == 0
    text = page.read_text()
    assert re.search(r"<script|<link|<img|https?:|url\(|@import", text) is None
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 2 + 2 + 1
    for chart in charts:
        ET.fromstring(chart)  # noqa: S314 - made above
    assert text.count("<td>single</td>") == 4
    assert "36 equal to the local run&#x27;s, 0 different" in text


def cell(cut: int, rtt_s: float, median: float | None, **more: Any) -> dict[str, Any]:
    """As much of a cell as a chart reads."""
    link = LinkShape(rtt_s=rtt_s).as_json()
    latency = {"median": median, "max": median}
    return {"cut": cut, "link": link, "load": "single", "latency_s": latency, **more}


def test_the_heat_map_shows_the_best_cut() -> None:
    """Of each link; a link without a figure is empty."""
    cells = [cell(0, 0, 2.0), cell(1, 0, 1.0), cell(0, 0.1, 1.0), cell(1, 0.1, 1.5)]
    cells.append(cell(0, 0.2, None))
    chart = ET.fromstring(heat_map(cells, "latency_s", "<best>"))  # noqa: S314 - made here
    shown = [element.text for element in chart.iter("text")]
    assert shown[:3] == ["RTT 0 ms", "RTT 100 ms", "RTT 200 ms"]
    assert shown[4:] == ["cut 1", "1.00 s, next +100%", "cut 0", "1.00 s, next +50%"]
    cells[1]["latency_s"]["max"] = 2.0
    assert ">cut 1?</text>" in heat_map(cells, "latency_s", "chance")
    assert "not measured" in [element.text for element in chart.iter("title")]


def test_percentiles_without_enough_samples_are_not_drawn() -> None:
    """Only what is known becomes a line."""

    def loaded(share: str, p90: float | None) -> dict[str, Any]:
        known = {"p50": 1.0, "p90": p90, "p95": None, "p99": None}
        latency = {"min": 0.5, "max": 4.0, "median": 1.0}
        latency |= {name: {"value": value} for name, value in known.items()}
        return {**cell(2, 0, 1.0), "load": share, "latency_s": latency}

    chart = load_lines([loaded("50 %", None), loaded("120 %", 3.0)], "load")
    lines = ET.fromstring(chart).findall("polyline")  # noqa: S314 - made here
    assert [len(line.attrib["points"].split()) for line in lines] == [2, 1]


def test_flags_become_axes() -> None:
    """Each its field; rates may differ by way."""
    words = ["bench", "grid", "-o", "x.json", "--cuts", "1", "--rtts", "80ms", "--seconds", "9"]
    words += ["--rates", "10Mbit/s:1Mbit/s", "--loads", "80", "--loaded-links", "0,1Mbit/s"]
    words += ["--loaded-cuts", "3", "--requests", "5", "--loaded-requests", "6"]
    words += ["--placements", "base=here,*=there"]
    axes = axes_of_flags(build_parser(["bench"]).parse_args(words), 4)
    assert axes.cuts == (1, "base=here,*=there")
    assert axes.links == (LinkShape(rtt_s=0.08, down_bit_s=1e7, up_bit_s=1e6),)
    assert (axes.loads, axes.loaded_cuts) == ((0.8,), (3,))
    assert axes.loaded == (LinkShape(down_bit_s=1e6, up_bit_s=1e6),)
    assert (axes.requests, axes.loaded_requests, axes.seconds) == (5, 6, 9)


def test_every_link_is_measured_in_every_weather() -> None:
    """First without loss, then with; a stall goes with both."""
    words = ["bench", "grid", "-o", "x.json", "--rtts", "0", "5ms", "--rates", "1Mbit/s"]
    words += ["--losses", "0", "0.01", "--stalls", "0", "500ms/10s"]
    links = axes_of_flags(build_parser(["bench"]).parse_args(words), 4).links
    assert [(x.rtt_s, x.loss, x.stall_s, x.stall_every_s) for x in links] == [
        (0.0, 0.0, 0.0, 0.0), (0.005, 0.0, 0.0, 0.0), (0.0, 0.01, 0.0, 0.0),
        (0.005, 0.01, 0.0, 0.0),
        (0.0, 0.0, 0.5, 10.0), (0.005, 0.0, 0.5, 10.0), (0.0, 0.01, 0.5, 10.0),
        (0.005, 0.01, 0.5, 10.0),
    ]  # fmt: skip
    assert len({link.name for link in links}) == 8


@pytest.mark.parametrize(
    "wrong",
    [
        ("--cuts", "9"), ("--placements", "base"), ("--loads", "0"), ("--rtts", "5"),
        ("--requests", "0"), ("--losses", "0.6"), ("--stalls", "1s"),
    ],
)  # fmt: skip
def test_wrong_axes_are_refused(wrong: tuple[str, str]) -> None:
    """Before anything is opened."""
    args = build_parser(["bench"]).parse_args(["bench", "grid", "-o", "x.json", *wrong])
    with pytest.raises(InvalidRequest):
        axes_of_flags(args, 4)


def test_a_grid_keeps_five_decimals() -> None:
    """Of every number in it, wherever it stands; no floors, of which a record has one each."""
    assert rounded({"a": [0.12345678, 1], "b": None, "floor": 64}) == {"a": [0.12346, 1], "b": None}
