"""Pictures of measurements: bars per way to run a stage, and a metric over evaluations.

The only file that imports matplotlib. Knows rows of figures; not how they were measured.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

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
