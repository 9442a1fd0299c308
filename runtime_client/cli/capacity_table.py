"""A capacity plan as tables for people.

Knows a plan's object; computes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from runtime_client.cli.plan_table import in_columns, number

FLEETS = (1.0, 10.0, 100.0, 1000.0)
"""Pictures per second that replicas are counted for."""
TITLE = ("component", "engine", "prec", "from", "ms alone", "ms shared", "rows", "host ms", "MB")


def render_capacity(plan: Mapping[str, Any]) -> str:
    """What a replica takes for a picture, what follows per second, and how many are needed.

    Args:
        plan: as `CapacityPlan.as_object` has it.
    """
    lines = [f"replica: {plan['replica']}, {plan['device']}, {plan['cores']} cores"]
    lines += in_columns([list(TITLE), *(component_cells(c) for c in plan["components"])])
    lines += ["", *render_totals(plan), ""]
    return "\n".join([*lines, *in_columns(fleet_table(plan["fleets"]))])


def component_cells(component: Mapping[str, Any]) -> list[str]:
    """One component's row."""
    times = [number(component[key]) for key in ("alone_ms", "shared_ms")]
    return [
        *(component[key] for key in ("name", "engine", "precision", "from")),
        *times,
        str(component["max_rows"]),
        number(component["host_ms"]),
        f"{component['memory_bytes'] / 1e6:,.0f}",
    ]


def render_totals(plan: Mapping[str, Any]) -> list[str]:
    """The three figures of a replica, and what they are made of."""
    memory = f"{plan['memory_bytes'] / 1e6:,.0f} MB ({plan['memory_from']})"
    moved = f"{plan['bytes_up']:,} up, {plan['bytes_down']:,} down ({plan['bytes_from']})"
    return [
        f"pictures per second: {plan['pictures_per_s']:.2f}, one takes {plan['alone_ms']:.0f} ms",
        f"memory per replica: {memory}",
        f"bytes per picture: {moved}; "
        f"1 Gbit/s carries {plan['pictures_per_s_of_1_gbit']:,.0f} pictures per second",
    ]


def fleet_table(fleets: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Replicas and lines by pictures per second."""
    title = ["pictures/s", "replicas below 70 %", "lines of 1 Gbit/s below 70 %"]
    rows = [
        [f"{f['pictures_per_s']:g}", f"{f['replicas']:,}", f"{f['lines_of_1_gbit']:,}"]
        for f in fleets
    ]
    return [title, *rows]
