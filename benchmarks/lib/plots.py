"""Pictures of measurements: bars per way to run a stage, lines over evaluations, requests or time.

The only file that imports matplotlib. Knows rows of figures; not how they were measured.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from benchmarks.lib.fleet_model import WaitPanel

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, THEIRS = "#2a6f4e", "#9aa3ad"


OFF_SCALE = 5.0
"""A bar this many times longer than the shortest runs out of the panel; its number says how far."""


def plot_stages(stages: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Medians as bars from zero with p10 to p90 as whiskers, milliseconds.

    Args:
        stages: rows of each stage; those without a median are left out.
        path: the PNG to write.
    """
    figure, panels = plt.subplots(
        1, len(stages), figsize=(5.6 * len(stages), 4.2), squeeze=False, layout="constrained"
    )
    for axes, (name, rows) in zip(panels[0], stages.items(), strict=True):
        shown = [row for row in rows if "median_s" in row][::-1]
        low, middle, high = (
            np.array([1000 * row[key] for row in shown]) for key in ("p10_s", "median_s", "p90_s")
        )
        edge = high[middle <= OFF_SCALE * middle.min()].max()
        names = [row["family"] for row in shown]
        colours = [OURS if family.startswith("ours") else THEIRS for family in names]
        whiskers = np.maximum([middle - low, high - middle], 0)
        axes.barh(names, middle, xerr=whiskers, color=colours, capsize=2)
        for place, (value, reach) in enumerate(zip(middle, high, strict=True)):
            axes.text(min(reach, edge) + 0.02 * edge, place, f"{value:.1f}", va="center", size=8)
        axes.set_xlim(0, 1.2 * edge)
        axes.set_title(name)
        axes.set_xlabel("ms per evaluation: median, p10 to p90")
        axes.tick_params(labelsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_sweep(
    rows: Sequence[Mapping[str, Any]], winner: Mapping[str, Any], metric: str, path: Path
) -> None:
    """The metric over evaluations of one picture: a line per way that steps alone change.

    Args:
        rows: of `benchmarks.sweep`.
        winner: one of them.
        metric: its name in the rows.
        path: the PNG to write.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        parts = [row["network"], row["sampler"], f"w {row['guidance']:g}"]
        if row["augmentation"] is not None:
            parts.append(f"s {row['augmentation']:g}")
        lines.setdefault(", ".join(parts), []).append((row["evaluations"], row[metric]))
    figure, axes = plt.subplots(figsize=(8.5, 5.0), layout="constrained")
    for name, points in lines.items():
        evaluations, values = zip(*sorted(points), strict=True)
        axes.plot(evaluations, values, marker="o", markersize=4, linewidth=1, label=name)
    axes.scatter(
        [winner["evaluations"]], [winner[metric]], s=160, facecolors="none", edgecolors="black",
        label="winner", zorder=3,
    )  # fmt: skip
    axes.set_xlabel("evaluations of the network for one picture")
    axes.set_ylabel(metric)
    axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_dashboard(
    panels: list[tuple[str, str, dict[str, list[float]]]], times_s: list[float], path: Path
) -> None:
    """Lines over time, nine panels to a picture.

    Args:
        panels: title, unit, and lines by name; each line as long as `times_s`.
        times_s: of the readings, in seconds.
        path: PNG to write.
    """
    figure, axes = plt.subplots(3, 3, figsize=(16, 10), layout="constrained", sharex=True)
    for axis, (title, unit, lines) in zip(axes.flat, panels, strict=True):
        for name, values in lines.items():
            axis.plot(times_s, values, linewidth=1.2, label=name or None)
        axis.set_title(title, fontsize=11, loc="left")
        axis.set_ylabel(unit)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        if any(lines):
            axis.legend(fontsize=8, loc="upper right")
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_memory(readings: Sequence[Sequence[float]], warm_up: int, path: Path) -> None:
    """Resident memory, MiB, over requests.

    Args:
        readings: request number, MiB, and what else was read.
        warm_up: requests before the slope is taken; shaded.
        path: the PNG to write.
    """
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    axes.plot([r[0] for r in readings], [r[1] for r in readings], color=OURS)
    axes.axvspan(0, warm_up, color=THEIRS, alpha=0.25, lw=0, label="warm-up")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("requests: good, cancelled, expired, malformed")
    axes.set_ylabel("resident memory, MiB")
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_overload(figures: Mapping[str, Any], path: Path) -> None:
    """Four panels over seconds: what is inside, served and refused, latencies, memory.

    Args:
        figures: as `benchmarks.overload` records them.
        path: the PNG to write.
    """
    readings, seconds = figures["readings"], figures["seconds"]
    at = [reading["at_s"] for reading in readings]
    edges = np.arange(0, np.ceil(seconds) + 1)
    figure, panels = plt.subplots(4, 1, figsize=(8, 8.6), sharex=True, layout="constrained")
    for name, colour in (("in_flight", THEIRS), ("queue_depth", OURS)):
        panels[0].plot(at, [r[name] for r in readings], color=colour, label=f"cascade_{name}")
    panels[0].set_ylabel("requests inside")
    for name, colour in (("served", OURS), ("refused", THEIRS)):
        counts, _ = np.histogram([when for when, _ in figures[f"{name}_at"]], edges)
        panels[1].stairs(counts, edges, color=colour, label=f"{name} per second")
    panels[1].axhline(figures["capacity_per_s"], color="black", lw=0.8, ls=":", label="capacity")
    panels[1].set_yscale("symlog", linthresh=10)
    for name, colour in (("served", OURS), ("refused", THEIRS)):
        points = np.array(figures[f"{name}_at"] or [(0, np.nan)])
        panels[2].plot(points[:, 0], 1000 * points[:, 1], ".", ms=2, color=colour, label=name)
    panels[2].set_yscale("log")
    panels[2].set_ylabel("latency, ms")
    panels[3].plot(at, [r["rss_mib"] for r in readings], color=OURS)
    panels[3].set_ylim(bottom=0)
    panels[3].set_ylabel("resident memory, MiB")
    panels[3].set_xlabel("seconds since the load began")
    for axes in panels[:3]:
        axes.legend(loc="upper right", fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


COLOURS = (THEIRS, "#c98b2b", OURS)


def plot_waits(cases: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """The p95 wait over the load, one panel per case and one line per policy.

    Args:
        cases: case to policy to load, as text, to figures with `p95_s`.
        path: the PNG to write.
    """
    figure, panels = plt.subplots(
        1, len(cases), figsize=(3.6 * len(cases), 3.4), squeeze=False, layout="constrained"
    )
    for axes, (name, policies) in zip(panels[0], cases.items(), strict=True):
        for (policy, by_load), colour in zip(policies.items(), COLOURS, strict=True):
            loads = [100 * float(load) for load in by_load]
            seconds = [max(0.0, figures["p95_s"]) for figures in by_load.values()]
            width = 3.5 if colour == THEIRS else 1.6
            axes.plot(loads, seconds, color=colour, label=policy, marker="o", ms=3, lw=width)
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_title(name, size=10)
        axes.set_xlabel("load, % of one at a time")
        axes.tick_params(labelsize=8)
    panels[0][0].set_ylabel("p95 wait, s")
    panels[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_fleet(panels: Sequence[WaitPanel], path: Path) -> None:
    """The 99th percentile of the wait, a line per router, on a logarithmic axis.

    Args:
        panels: side by side.
        path: the picture to write.
    """
    figure, shown = plt.subplots(
        1, len(panels), figsize=(5.5 * len(panels), 4.2), squeeze=False, layout="constrained"
    )
    for axes, panel in zip(shown[0], panels, strict=True):
        for router, seconds in panel.lines.items():
            axes.plot(panel.at, seconds, "o-", label=router)
        axes.set(xlabel=panel.along, ylabel="99th percentile of the wait, s", yscale="log")
        axes.set_title(panel.title)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_learning(
    rows: Sequence[Mapping[str, Any]], wanted: Mapping[str, float], before: int, path: Path
) -> None:
    """Shares over samples seen, what is wanted as a dashed line of the same colour.

    Args:
        rows: of `benchmarks.learning_curve`.
        wanted: names in the rows, and the share wanted of each.
        before: samples seen before those that the rows count.
        path: the PNG to write.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    samples = [(before + row["samples"]) / 1000 for row in rows]
    for name, share in wanted.items():
        (line,) = axes.plot(samples, [row[name] for row in rows], marker="o", label=name)
        axes.axhline(share, color=line.get_color(), linestyle="--", linewidth=0.8)
    axes.set_xlabel("samples seen, thousands")
    axes.set_ylabel("share of the pictures; dashed: wanted")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
