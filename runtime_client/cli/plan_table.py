"""A placement's plan as a table for people.

Knows a plan's object; plans nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cascade.quantities import rate_name

TITLE = ("placement", "ms", "here", "there", "queue", "link", "bytes up", "bytes down")
LOSSLESS = "lossless"
OBJECTIVES = {
    "time": "the least time",
    "bytes": "the fewest bytes",
    "energy": "the least work here",
}


def render_plan(plan: Mapping[str, Any]) -> str:
    """What is known of link and components, and what each placement would take.

    Args:
        plan: as `PlacementPlan.as_object` has it; `*` marks the placement that is taken.
    """
    lines = [render_wish(plan), render_link(plan), *render_components(plan["components"]), ""]
    energy = any(run["here_joules"] is not None for run in plan["placements"])
    title = [*TITLE, "here J" if energy else "here CPU s"]
    table = [title, *(cells_of(run, energy=energy) for run in plan["placements"])]
    lines += in_columns(table)
    hidden = plan["runs_possible"] - len(plan["placements"])
    return "\n".join([*lines, f"{hidden} more that are worse"] if hidden > 0 else lines)


def render_wish(plan: Mapping[str, Any]) -> str:
    """What was wanted, and whether it can be had."""
    wish = plan["wish"]
    words = OBJECTIVES[plan["objective"]]
    if wish["within_s"] is not None:
        words += f" within {wish['within_s']:g} s"
        words += "" if plan["met"] else ", which no placement keeps: the fastest"
    if plan["format"] != LOSSLESS:
        words += f"; pictures as {plan['format']}, which loses pixels: without loss they are late"
    if wish["words_stay_here"]:
        words += ", words stay here"
    return f"wanted: {words}"


def render_link(plan: Mapping[str, Any]) -> str:
    """The way to the server."""
    link = plan["link"]
    up, down = (rate_name(float(f"{link[way]:.3g}")) for way in ("up_bit_s", "down_bit_s"))
    source = link["from"]
    return (
        f"link: {plan['server']} over {plan['network']}, RTT {link['rtt_ms']:.1f} ms "
        f"({source['rtt']}), up {up} ({source['up']}), down {down} ({source['down']})"
    )


def render_components(components: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each component takes on either side, and how that is known."""
    table = [["component", "here ms", "from", "open ms", "there ms", "from", "queue ms"]]
    for spec in components:
        row = [spec["name"], number(spec["here_ms"]), spec["here_from"], number(spec["load_ms"])]
        row += [number(spec["there_ms"]), spec["there_from"], number(spec["queue_ms"])]
        table.append(row)
    return in_columns(table)


def cells_of(run: Mapping[str, Any], *, energy: bool) -> list[str]:
    """One placement."""
    here, there = ", ".join(run["here"]), ", ".join(run["there"])
    name = f"{here} here; {there} there" if here and there else f"all {'here' if here else 'there'}"
    if run["format"] != LOSSLESS:
        name += f"; {run['format']}"
    times = [number(run[key]) for key in ("ms", "here_ms", "there_ms", "queue_ms", "link_ms")]
    sizes = [f"{run['bytes_up']:,}", f"{run['bytes_down']:,}"]
    spent = run["here_joules"] if energy else run["here_cpu_s"]
    return [("* " if run["chosen"] else "  ") + name, *times, *sizes, f"{spent:.2f}"]


def number(value: float | None) -> str:
    """A figure; a dash where that side cannot do it."""
    return "-" if value is None else f"{value:.1f}"


def in_columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text: the first column to the left, the others to the right."""
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
