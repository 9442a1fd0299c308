"""What the report tells beside its charts: the cut that chooses itself, and the machine."""

from pathlib import Path
from typing import Any

import pytest

from bench.record import GRID_FORMAT, read_record
from bench.report.page import (
    auto_row,
    by_link,
    by_weather,
    html_of,
    section_auto,
    span_of,
    warning,
)

BENCH = Path(__file__).parents[2] / "docs" / "bench"


def cell(cut: int | str, seconds: float | None, link: str = "near") -> dict[str, Any]:
    """A single-stream cell with a median."""
    return {
        "cut": cut, "load": "single", "link_name": link,
        "time_to_last_picture_s": {"median": seconds},
    }  # fmt: skip


def test_auto_is_held_to_the_best_fixed_cut() -> None:
    """A tenth slower than cut 2, the fastest; a placement by name is no cut."""
    cells = [cell(0, 3.0), cell(2, 2.0), cell("*=here", 1.0), cell("auto", 2.2)]
    columns = ("near", "2", "2.00 s", "2.20 s", "+10.0%")
    assert auto_row("near", cells) == "<tr>" + "".join(f"<td>{c}</td>" for c in columns) + "</tr>"
    assert section_auto(cells).count("<tr>") == 2


def test_a_grid_without_auto_has_no_such_section() -> None:
    """Nor one in which it never finished."""
    assert section_auto([cell(0, 3.0)]) == ""
    assert section_auto([cell(0, 3.0), cell("auto", None)]) == ""
    assert list(by_link([cell(0, None), cell(1, 1.0, "far")])) == ["far"]


def test_maps_are_drawn_by_weather() -> None:
    """Links that lose or stall are others, and have maps of their own."""
    links = [
        {"loss": 0.0, "stall_s": 0.0, "stall_every_s": 0.0},
        {"loss": 0.01, "stall_s": 0.5, "stall_every_s": 10.0},
    ]
    found = by_weather([{"link": link} for link in links])
    assert list(found) == ["", ", loss 0.01, stalls of 0.5 s every 10 s"]


def test_a_busy_machine_is_named_before_any_figure() -> None:
    """From 1.5 waiting per core on."""
    assert warning([0.5, 3.0], 2) == ""
    assert warning([], 2) == ""
    assert "The machine was not idle." in warning([0.5, 3.1], 2)


@pytest.mark.parametrize(("counts", "text"), [([], "-"), ([2, 2], "2"), ([1, 12], "1 to 12")])
def test_counts_are_a_span(counts: list[int], text: str) -> None:
    """One number where all are equal."""
    assert span_of(counts) == text


def test_the_committed_data_make_reports() -> None:
    """Less than a megabyte; a report names its bundle and every link, and draws something."""
    files = sorted(BENCH.iterdir())
    assert 0 < sum(file.stat().st_size for file in files) < 1_000_000
    for file in files:
        record = read_record(file, (GRID_FORMAT,))
        links, cuts = ({c[key] for c in record["cells"].values()} for key in ("link_name", "cut"))
        page = html_of(record)
        assert f"<title>{file.name.removesuffix('.json.gz')}: cascade bench</title>" in page
        assert [link for link in links if link not in page] == []
        assert page.count("<svg") == page.count("</svg>") > len(cuts)
