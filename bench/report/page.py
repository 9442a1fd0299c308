"""The page around the charts. Knows a grid; opens no file."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bench.grid import CAPACITY, SINGLE
from bench.report.charts import (
    CUT_COLOURS,
    Cell,
    cut_order,
    heat_map,
    hop_legend,
    hop_stacks,
    load_lines,
    rate_order,
    seconds_text,
    singles,
)
from cascade.assignments import AUTO

LAST = "time_to_last_picture_s"
MEASURES = {
    "Time to the last picture": LAST,
    "Time to the first picture": "time_to_first_picture_s",
}
MOST_LOAD = 1.5
"""Per core: a request alone keeps a core busy, and so does the server's next one."""
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:880px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.6em}h2{margin-top:2em;border-bottom:1px solid #ddd}
svg{max-width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:#222}
svg .strong{font-weight:bold;font-size:14px}svg .small{font-size:11px}
table{border-collapse:collapse;font-size:13px}td,th{padding:2px 8px;border-bottom:1px solid #eee}
td{text-align:right}.facts td{text-align:left}td:first-child,th:first-child{text-align:left}
.key{display:inline-block;margin-right:1em;white-space:nowrap;font-size:13px}
.key i{display:inline-block;width:12px;height:12px;margin-right:4px}
details{margin:.4em 0}summary{cursor:pointer}
.note{color:#555;font-size:14px}
"""


def html_of(grid: Mapping[str, Any]) -> str:
    """The report of a grid, one file."""
    cells = sorted(
        grid["cells"].values(), key=lambda c: (rate_order(c), c["link"]["rtt_s"], *cut_order(c))
    )
    name = escape(f"{grid['bundle']}: cascade bench")
    body = [
        f"<h1>{name}</h1>",
        facts(grid, cells),
        section_best(cells),
        section_auto(cells),
        section_hops(cells, grid["components"]),
        section_load(cells),
        section_table(cells),
    ]
    head = f'<meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>'
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'
    )


def facts(grid: Mapping[str, Any], cells: Sequence[Cell]) -> str:
    """Machine, versions, load, and whether the pictures are right."""
    here = grid["surroundings"]
    loads = [cell["load_average"] for cell in cells if cell["load_average"] is not None]
    equal = sum(cell["pictures"]["equal"] for cell in cells)
    different = sum(cell["pictures"]["different"] for cell in cells)
    counts = [cell["finished"] for cell in singles(cells)]
    rows = {
        "bundle": f"{grid['bundle']}, {grid['bundle_id'][:16]}",
        "machine": f"{here['processor']}, {here['cores']} cores, both sides on it",
        "begun": f"{here['at']}, Edge Cascade {here['software']}, commit {here['commit'] or '-'}",
        "load average": f"{min(loads):.1f} to {max(loads):.1f}" if loads else "-",
        "requests per cell": span_of(counts),
        "pictures": f"{equal} equal to the local run's, {different} different",
    }
    if "minutes" in grid:
        rows["time allowed"] = (
            f"{grid['minutes']:g} minutes: slow links have fewer requests, and what has fewer than "
            "11 has no bound of its median"
        )
    lines = "".join(f"<tr><td>{n}</td><td>{escape(v)}</td></tr>" for n, v in rows.items())
    return f'<table class="facts">{lines}</table>{warning(loads, here["cores"])}'


def span_of(counts: Sequence[int]) -> str:
    """From the fewest to the most, once where both are equal."""
    if not counts:
        return "-"
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def warning(loads: Sequence[float], cores: int) -> str:
    """What a reader must know before any figure; empty where the machine was idle enough."""
    if not loads or max(loads) <= MOST_LOAD * cores:
        return ""
    return (
        f"<p><b>The machine was not idle.</b> A load average above {MOST_LOAD:g} per core makes "
        "every time longer, and the order of cuts less certain. Compare ratios alone.</p>"
    )


def section_best(cells: Sequence[Cell]) -> str:
    """Heat maps of the best cut."""
    cuts = sorted({cell["cut"] for cell in cells if isinstance(cell["cut"], int)})
    keys = "".join(
        f'<span class="key"><i style="background:{CUT_COLOURS[cut % len(CUT_COLOURS)]}"></i>'
        f"cut {cut}</span>"
        for cut in cuts
    )
    maps = "".join(
        f"<h3>{title}{weather}</h3>{heat_map(own, measure, f'best cut: {title}{weather}')}"
        for weather, own in by_weather(cells).items()
        for title, measure in MEASURES.items()
    )
    return (
        "<h2>Best cut</h2><p>The cut with the least median, single stream, and how much longer the "
        "next best takes. Pale, with a question mark: the next best lies within the spread of the "
        "best, so their order may be chance. Rates are the same both ways unless two are given.</p>"
        f"<p>{keys}</p>{maps}"
    )


def by_weather(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells by what is lost and what stands still on their links; empty where nothing is."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        link = cell["link"]
        name = f", loss {link['loss']:g}" if link["loss"] else ""
        if link["stall_s"]:
            name += f", stalls of {link['stall_s']:g} s every {link['stall_every_s']:g} s"
        found.setdefault(name, []).append(cell)
    return found


def section_auto(cells: Sequence[Cell]) -> str:
    """The cut that chooses itself against the best fixed one, where both were measured."""
    rows = "".join(auto_row(name, of_link) for name, of_link in by_link(cells).items())
    if not rows:
        return ""
    return (
        "<h2>The cut that chooses itself</h2><p>Medians of the last picture, single stream. Below "
        "0 % it was faster than every fixed cut, which is chance or a placement that no cut is.</p>"
        "<details open><summary>by link</summary><table><tr><th>link</th><th>best cut</th>"
        f"<th>its time</th><th>auto</th><th>difference</th></tr>{rows}</table></details>"
    )


def by_link(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Single-stream cells that have finished something, by the name of their link."""
    found: dict[str, list[Cell]] = {}
    for cell in singles(cells):
        if cell[LAST]["median"] is not None:
            found.setdefault(cell["link_name"], []).append(cell)
    return found


def auto_row(name: str, cells: Sequence[Cell]) -> str:
    """One link; empty where there is nothing to compare."""
    fixed = [cell for cell in cells if isinstance(cell["cut"], int)]
    auto = next((cell[LAST]["median"] for cell in cells if cell["cut"] == AUTO), None)
    if auto is None or not fixed:
        return ""
    best = min(fixed, key=lambda cell: cell[LAST]["median"])
    least = best[LAST]["median"]
    values = [
        name,
        best["cut"],
        seconds_text(least),
        seconds_text(auto),
        f"{auto / least - 1:+.1%}",
    ]
    return "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in values) + "</tr>"


def section_hops(cells: Sequence[Cell], components: Sequence[str]) -> str:
    """Stacks per link; the middle round trip of every rate is open."""
    single = singles(cells)
    names = list(dict.fromkeys(cell["link_name"] for cell in single))
    rtts = sorted({cell["link"]["rtt_s"] for cell in single})
    shown = []
    for name in names:
        of_link = [cell for cell in single if cell["link_name"] == name]
        middle = of_link[0]["link"]["rtt_s"] == rtts[len(rtts) // 2]
        chart = hop_stacks(of_link, components, f"hops by cut, {name}")
        mark = " open" if middle else ""
        shown.append(f"<details{mark}><summary>{escape(name)}</summary>{chart}</details>")
    return (
        "<h2>Where the time goes</h2><p>Mean of a request by hop, in the order of the work; the "
        "residual is what no hop explains. Bars of one link share a scale.</p>"
        f"<p>{hop_legend(single, components)}</p>{''.join(shown)}"
    )


def section_load(cells: Sequence[Cell]) -> str:
    """Percentiles over load, where loads were measured."""
    pairs = [(c["cut"], c["link_name"]) for c in cells if c["load"] not in (SINGLE, CAPACITY)]
    shown = []
    for cut, link in dict.fromkeys(pairs):
        of_pair = [c for c in cells if (c["cut"], c["link_name"]) == (cut, link)]
        capacity = next(c["throughput_per_s"] for c in of_pair if c["load"] == CAPACITY)
        chart = load_lines(of_pair, f"latency over load, cut {cut}, {link}")
        rows = "".join(load_row(c) for c in of_pair if c["load"] not in (SINGLE, CAPACITY))
        shown.append(
            f"<h3>cut {cut}, {escape(link)}</h3><p>Capacity {capacity:.2f} pictures per second: "
            f"a closed loop of 4 clients.</p>{chart}<table><tr><th>load</th><th>sent</th>"
            "<th>median</th><th>largest</th><th>within the objective</th><th>goodput / s</th>"
            f"<th>send lag p99</th></tr>{rows}</table>"
        )
    if not shown:
        return ""
    return (
        "<h2>Latency over load</h2><p>Open loop, Poisson; latency counts from when a request was "
        "due. Percentiles below their floor (11, 64, 130, 662 samples) are not drawn; bars reach "
        f"from the least to the largest sample, with a mark at the median.</p>{''.join(shown)}"
    )


def load_row(cell: Cell) -> str:
    """One load."""
    latency, goodput, lag = cell["latency_s"], cell["goodput"], cell["send_lag"]
    values = [
        str(cell["load"]),
        str(cell["sent"]),
        seconds_text(latency["median"]),
        seconds_text(latency["max"]),
        f"{goodput['attainment'] or 0:.0%}",
        f"{goodput['goodput_per_s'] or 0:.2f}",
        seconds_text(lag["p99_s"]) + (" degraded" if lag["degraded"] else ""),
    ]
    return "<tr>" + "".join(f"<td>{escape(value)}</td>" for value in values) + "</tr>"


def section_table(cells: Sequence[Cell]) -> str:
    """Every cell."""
    titles = (
        "link", "cut", "load", "done", "first", "last", "bytes up", "bytes down", "client s",
        "server s", "equal",
    )  # fmt: skip
    head = "".join(f"<th>{title}</th>" for title in titles)
    rows = "".join(table_row(cell) for cell in cells)
    return (
        "<h2>Every cell</h2><p>Medians; processor seconds per finished picture by side.</p>"
        f"<details><summary>table</summary><table><tr>{head}</tr>{rows}</table></details>"
    )


def table_row(cell: Cell) -> str:
    """One cell."""
    done = cell["finished"]
    pictures = cell["pictures"]
    cpu = [cell["usage"].get(side, {}).get("cpu_s") for side in ("client", "server")]
    values = [
        cell["link_name"],
        str(cell["cut"]),
        str(cell["load"]),
        f"{done} of {cell['sent']}",
        seconds_text(cell["time_to_first_picture_s"]["median"]),
        seconds_text(cell["time_to_last_picture_s"]["median"]),
        *(f"{cell['traffic'][way]['median'] or 0:,.0f}" for way in ("bytes_up", "bytes_down")),
        *("-" if c is None or not done else f"{c / done:.2f}" for c in cpu),
        f"{pictures['equal']} of {pictures['equal'] + pictures['different']}",
    ]
    return "<tr>" + "".join(f"<td>{escape(value)}</td>" for value in values) + "</tr>"
