"""The three charts of a report: best cut per link, hops per cut, percentiles over load.

Knows the cells of a grid; colours are those of Okabe and Ito, which colour-blind readers tell
apart.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.grid import CAPACITY, SINGLE
from bench.quantiles import PERCENTILES
from bench.report.svg import box, path, rule, svg, words
from cascade.quantities import rate_name

Cell = Mapping[str, Any]
CUT_COLOURS = ("#56b4e9", "#009e73", "#f0e442", "#e69f00", "#cc79a7", "#999999", "#d55e00")
PALE_COLOURS = ("#d5edfa", "#c8e8dd", "#fbf8cf", "#f9e4bd", "#f2dee9", "#e6e6e6", "#f5d6c2")
"""The same for a cut that may be best by chance."""
HOP_COLOURS = {
    "load": "#777777", "tokenise": "#b3cde3", "encode": "#8cb3d9", "connect": "#c0a0a0",
    "pack": "#e0c068", "upload": "#d55e00", "queue": "#4d4d4d", "server pack": "#e69f00",
    "download": "#f4a582", "unpack": "#f0e442", "write": "#cc79a7", "residual": "#d9d9d9",
}  # fmt: skip
STAGE_COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#66c2a5", "#6a51a3", "#9e9ac8")
LINE_COLOURS = {50: "#0072b2", 90: "#009e73", 95: "#e69f00", 99: "#d55e00"}
ROW, LABEL = 26.0, 150.0


def seconds_text(seconds: float | None) -> str:
    """A time in the unit that suits it."""
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def rates_of(cell: Cell) -> str:
    """The rates of a cell's link, once where both ways are equal."""
    down, up = cell["link"]["down_bit_s"], cell["link"]["up_bit_s"]
    return rate_name(down) if down == up else f"{rate_name(down)} / {rate_name(up)}"


def rate_order(cell: Cell) -> tuple[float, float]:
    """Fastest first; 0 is unshaped, the fastest of all."""
    link = cell["link"]
    return -(link["down_bit_s"] or math.inf), -(link["up_bit_s"] or math.inf)


def singles(cells: Sequence[Cell]) -> list[Cell]:
    """The single-stream cells."""
    return [cell for cell in cells if cell["load"] == SINGLE]


def cut_order(cell: Cell) -> tuple[bool, int, str]:
    """Cuts by their number, then what chooses itself or is placed by name."""
    cut = cell["cut"]
    return (False, cut, "") if isinstance(cut, int) else (True, 0, cut)


def heat_map(cells: Sequence[Cell], measure: str, title: str) -> str:
    """The best cut of every link: round trips across, rates down.

    Args:
        cells: of the grid.
        measure: whose median decides.
        title: of the chart.
    """
    # What chooses itself or is placed by name has no colour: the map is of cuts.
    single = [cell for cell in singles(cells) if isinstance(cell["cut"], int)]
    rtts = sorted({cell["link"]["rtt_s"] for cell in single})
    rates = [rates_of(cell) for cell in sorted(single, key=rate_order)]
    rates = list(dict.fromkeys(rates))
    wide, high, top = 132.0, 46.0, 26.0
    parts = [
        words((LABEL + wide * (at + 0.5), 16), f"RTT {1000 * rtt:g} ms", "axis", "middle")
        for at, rtt in enumerate(rtts)
    ]
    for row, rate in enumerate(rates):
        y = top + high * row
        parts.append(words((LABEL - 8, y + high / 2 + 4), rate, "axis", "end"))
        for column, rtt in enumerate(rtts):
            found = [c for c in single if c["link"]["rtt_s"] == rtt and rates_of(c) == rate]
            known = [c for c in found if c[measure]["median"] is not None]
            corner = (LABEL + wide * column + 1, y + 1)
            parts += heat_cell(known, measure, corner, (wide - 2, high - 2))
    return svg(LABEL + wide * len(rtts) + 4, top + high * len(rates) + 4, parts, title)


def heat_cell(
    cells: Sequence[Cell], measure: str, corner: tuple[float, float], size: tuple[float, float]
) -> list[str]:
    """One link: the colour of the best cut, its time, and how much longer the next takes."""
    if not cells:
        return [box(corner, size, "#f4f4f4", "not measured")]
    ranked = sorted(cells, key=lambda cell: cell[measure]["median"])
    best = ranked[0]
    tip = "; ".join(f"cut {c['cut']}: {seconds_text(c[measure]['median'])}" for c in ranked)
    middle = corner[0] + size[0] / 2
    # Where the next best lies within the best's own spread, their order may be chance.
    open_ = len(ranked) > 1 and ranked[1][measure]["median"] <= best[measure]["max"]
    colours = PALE_COLOURS if open_ else CUT_COLOURS
    name = f"cut {best['cut']}{'?' if open_ else ''}"
    shown = [
        box(corner, size, colours[best["cut"] % len(colours)], tip),
        words((middle, corner[1] + 18), name, "strong", "middle"),
    ]
    time = seconds_text(best[measure]["median"])
    if len(ranked) > 1:
        more = ranked[1][measure]["median"] / best[measure]["median"] - 1
        time += f", next +{more:.0%}"
    return [*shown, words((middle, corner[1] + 35), time, "small", "middle")]


def hop_colour(hop: str, stages: Sequence[str]) -> str:
    """Of a hop: fixed for what every cascade has, in turns for its stages."""
    if hop in HOP_COLOURS:
        return HOP_COLOURS[hop]
    return STAGE_COLOURS[stages.index(hop) % len(STAGE_COLOURS)] if hop in stages else "#000000"


def hop_stacks(cells: Sequence[Cell], stages: Sequence[str], title: str) -> str:
    """A bar per cut: mean seconds by hop in the order of the work.

    Args:
        cells: of one link.
        stages: names of components.
        title: of the chart.
    """
    bars = sorted(singles(cells), key=cut_order)
    totals = [sum(max(0.0, hop["mean_s"]) for hop in cell["hops"].values()) for cell in bars]
    longest, width = max(totals, default=0.0) or 1.0, 640.0
    parts = []
    for row, (cell, total) in enumerate(zip(bars, totals, strict=True)):
        x, y = 60.0, 4 + ROW * row
        parts.append(words((x - 8, y + 17), f"cut {cell['cut']}", "axis", "end"))
        for hop, spent in cell["hops"].items():
            length = width * max(0.0, spent["mean_s"]) / longest
            tip = f"{hop}: {seconds_text(spent['mean_s'])}"
            parts.append(box((x, y + 2), (length, ROW - 6), hop_colour(hop, stages), tip))
            x += length
        parts.append(words((x + 6, y + 17), seconds_text(total), "small"))
    return svg(60 + width + 80, 8 + ROW * len(bars), parts, title)


def hop_legend(cells: Sequence[Cell], stages: Sequence[str]) -> str:
    """Every hop with its colour, in the order of the work."""
    # What runs on the device first: at the highest cut it has all stages in order.
    ordered = sorted(cells, key=lambda cell: tuple(-at for at in cut_order(cell)[:2]))
    hops = list(dict.fromkeys(hop for cell in ordered for hop in cell["hops"]))
    hops = [hop for hop in hops if hop != "residual"] + ["residual"]
    return "".join(
        f'<span class="key"><i style="background:{hop_colour(hop, stages)}"></i>{hop}</span>'
        for hop in hops
    )


def load_lines(cells: Sequence[Cell], title: str) -> str:
    """Percentiles over the share of capacity; a band from the least to the largest sample.

    Args:
        cells: of one cut and one link.
        title: of the chart.
    """
    loaded = [(share_of(c), c) for c in cells if c["load"] not in (SINGLE, CAPACITY)]
    loaded.sort(key=lambda pair: pair[0])
    if not loaded:
        return ""
    highest = max(cell["latency_s"]["max"] or 0.0 for _, cell in loaded) or 1.0
    most = max(share for share, _ in loaded)
    width, height, left, top = 560.0, 240.0, 70.0, 14.0

    def place(share: float, seconds: float) -> tuple[float, float]:
        return left + width * share / most, top + height * (1 - seconds / highest)

    parts = [rule(place(0, 0), place(most, 0)), rule(place(0, 0), place(0, highest))]
    for seconds in (0.0, highest / 2, highest):
        x, y = place(0, seconds)
        parts += [words((x - 6, y + 4), seconds_text(seconds), "small", "end")]
        parts.append(rule((x, y), (left + width, y), "#eee"))
    for share, cell in loaded:
        x, y = place(share, 0)
        parts.append(words((x, y + 16), f"{share:g} %", "small", "middle"))
        ends = [cell["latency_s"][end] or 0.0 for end in ("min", "max")]
        (low, high) = (place(share, end) for end in ends)
        parts.append(box((x - 7, high[1]), (14, low[1] - high[1]), "#c6d4e3", "least to largest"))
        median = place(share, cell["latency_s"]["median"] or 0.0)
        parts.append(rule((x - 7, median[1]), (x + 7, median[1]), "#222"))
    for percent in PERCENTILES:
        known = [(s, c["latency_s"][f"p{percent}"]["value"]) for s, c in loaded]
        points = [place(share, value) for share, value in known if value is not None]
        parts.append(path(points, LINE_COLOURS[percent]))
        if points:
            x, y = points[-1]
            parts.append(words((x + 8, y + 4), f"p{percent}", "small"))
    return svg(left + width + 50, top + height + 26, parts, title)


def share_of(cell: Cell) -> float:
    """Percent of capacity in a loaded cell's name."""
    return float(str(cell["load"]).removesuffix(" %"))
