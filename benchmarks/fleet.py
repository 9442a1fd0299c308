"""How many servers, how routed, and what is full first? Up to 1,000 replicas, simulated.

    python -m benchmarks.fleet [--requests 20000] [--service-ms 650] [--json FILE] [--plot FILE]
    python -m benchmarks.fleet --arrivals trace --trace FILE

Four questions. By router and load: what a request waits on sixteen replicas whose reports are a
second old. By age of reports: what stale knowledge costs. By number of replicas: how busy doors and
their lines are where replicas are at 80 %, with so many doors as are needed for none to be full. By
number of replicas and kind of arrivals (even, in bursts, a day with a busy half): where requests
wait longest behind a single door.
Nothing is measured here: service time, door time and bytes are arguments, and their defaults are
figures of docs/how-to/scale-out.md.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.arrivals import Arrivals, schedule
from benchmarks.lib.fleet_model import (
    ROUTERS,
    Fleet,
    FleetWaits,
    Seconds,
    WaitPanel,
    percentiles,
    simulate,
)
from benchmarks.lib.record import write_record

LOADS = (0.5, 0.7, 0.8, 0.9, 0.95)
AGES_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
SIZES = (1, 2, 10, 100, 1000)
LIMIT_SIZES = (10, 100, 300, 1000)
USUAL_LOAD = 0.8
SWING = 0.2
"""Of a day's rate, up and down: at 80 % on average its busiest hour is at 96 %."""
MANY = 16
"""Replicas of the first two tables."""
FULLEST_DOOR = 0.7
"""Share of its time, or of its line, from which on another door is added."""


def arrivals_of(args: argparse.Namespace, rate_per_s: float) -> Seconds:
    """When requests come."""
    kind = args.arrivals
    trace = args.trace if kind == "trace" else None
    process = Arrivals(kind=kind, rate_per_s=rate_per_s, shape=args.shape, trace=trace)
    times = schedule(process, args.requests)
    # A trace has a rate of its own; stretched, it comes at the one that is asked about.
    return times * (len(times) / times[-1] / rate_per_s) if trace else times


def row(waits: FleetWaits) -> dict[str, Any]:
    """One line of a table."""
    median, late = percentiles(waits.waited_s)
    return {
        "p50_ms": median,
        "p99_ms": late,
        "replica_busy": round(waits.replica_busy, 3),
        "door_busy": round(waits.door_busy, 3),
        "line_busy": round(waits.line_busy, 3),
    }


def doors_for(fleet: Fleet, rate_per_s: float) -> int:
    """Doors at which none is fuller than it should be."""
    by_time = rate_per_s * fleet.door_s
    by_line = rate_per_s * fleet.picture_bytes / fleet.door_bytes_s
    return max(1, math.ceil(max(by_time, by_line) / FULLEST_DOOR))


def by_router(args: argparse.Namespace, fleet: Fleet) -> dict[str, dict[str, Any]]:
    """Every router at every load."""
    table: dict[str, dict[str, Any]] = {}
    for router in ROUTERS:
        for load in LOADS:
            rate = load * fleet.replicas / fleet.service_s
            waits = simulate(replace(fleet, router=router), arrivals_of(args, rate))
            table.setdefault(router, {})[f"{load:g}"] = row(waits)
    return table


def by_age(args: argparse.Namespace, fleet: Fleet) -> dict[str, dict[str, Any]]:
    """Stale reports: of the router that counts what it sent, and of the one that does not."""
    rate = USUAL_LOAD * fleet.replicas / fleet.service_s
    return {
        router: {
            f"{age:g}": row(
                simulate(replace(fleet, router=router, report_every_s=age), arrivals_of(args, rate))
            )
            for age in AGES_S
        }
        for router in ("two choices", "least backlog")
    }


def by_size(args: argparse.Namespace, fleet: Fleet) -> dict[str, dict[str, Any]]:
    """From one replica to a thousand, with one door and with as many as are needed."""
    table: dict[str, dict[str, Any]] = {}
    for count in SIZES:
        rate = USUAL_LOAD * count / fleet.service_s
        sized = replace(fleet, replicas=count)
        needed = doors_for(sized, rate)
        waits = simulate(replace(sized, doors=needed), arrivals_of(args, rate))
        one_door = rate * sized.door_s
        one_line = rate * sized.picture_bytes / sized.door_bytes_s
        table[str(count)] = {
            "pictures_per_s": round(rate, 1),
            "doors": needed,
            "one_door_would_be": round(one_door, 2),
            "its_line_would_be": round(one_line, 2),
            **row(waits),
        }
    return table


def daily(count: int, rate_per_s: float) -> Seconds:
    """Arrivals of two days whose rate rises and falls by `SWING`; `rate_per_s` on average."""
    even = schedule(Arrivals(kind="poisson", rate_per_s=rate_per_s), count)
    days = np.linspace(0, 2 * 2 * np.pi, 4096)
    # So much of the work has come by then: its inverse stretches even arrivals.
    done = days + SWING * (1 - np.cos(days))
    return even[-1] * np.interp(even / even[-1] * done[-1], done, days) / days[-1]


def by_limit(args: argparse.Namespace, fleet: Fleet) -> dict[str, dict[str, Any]]:
    """Behind one door: the part in which the 99th percentile of requests waits longest."""
    table: dict[str, dict[str, Any]] = {}
    for count in LIMIT_SIZES:
        rate = USUAL_LOAD * count / fleet.service_s
        comes = {
            "even": schedule(Arrivals(kind="poisson", rate_per_s=rate), args.requests),
            "bursts": schedule(
                Arrivals(kind="gamma", rate_per_s=rate, shape=args.shape), args.requests
            ),
            "daily": daily(args.requests, rate),
        }
        for kind, times in comes.items():
            waits = simulate(replace(fleet, replicas=count, doors=1), times)
            parts = {
                "door": waits.at_door_s, "queue": waits.queued_s, "line": waits.on_line_s
            }  # fmt: skip
            late = {name: round(percentiles(found)[1], 1) for name, found in parts.items()}
            limit = max(late, key=lambda name: late[name])
            table[f"{count} {kind}"] = {"pictures_per_s": round(rate, 1), **late, "limit": limit}
    return table


def render_limits(table: dict[str, dict[str, Any]]) -> str:
    """The table of limits: milliseconds at the 99th percentile of each part."""
    heads = ("pictures_per_s", "door", "queue", "line", "limit")
    lines = [f"{'behind one door, ms p99':24}" + "".join(f"{head:>16}" for head in heads)]
    lines += [
        f"{name:24}" + "".join(f"{cells[head]:>16}" for head in heads)
        for name, cells in table.items()
    ]
    return "\n".join(lines)


def render(title: str, table: dict[str, dict[str, Any]], columns: Sequence[str]) -> str:
    """A table of tables as text: rows by name, p50 / p99 in milliseconds."""
    lines = [title, f"{'':16}" + "".join(f"{column:>18}" for column in columns)]
    for name, cells in table.items():
        told = (f"{cells[c]['p50_ms']:.0f} / {cells[c]['p99_ms']:.0f}" for c in columns)
        lines.append(f"{name:16}" + "".join(f"{text:>18}" for text in told))
    return "\n".join(lines)


def render_sizes(table: dict[str, dict[str, Any]]) -> str:
    """The table by number of replicas."""
    heads = (
        "pictures_per_s",
        "one_door_would_be",
        "its_line_would_be",
        "doors",
        "p50_ms",
        "p99_ms",
    )
    lines = [f"{'replicas':10}" + "".join(f"{head:>20}" for head in heads)]
    lines += [
        f"{name:10}" + "".join(f"{cells[head]:>20}" for head in heads)
        for name, cells in table.items()
    ]
    return "\n".join(lines)


def curves(found: dict[str, Any]) -> Sequence[WaitPanel]:
    """The first two tables as panels of a plot."""

    def late(cells: dict[str, Any], keys: Sequence[float]) -> list[float]:
        return [cells[f"{key:g}"]["p99_ms"] / 1000 for key in keys]

    return (
        WaitPanel(
            title=f"{MANY} replicas, reports {found['reports_s']:g} s old",
            along="load",
            at=LOADS,
            lines={router: late(cells, LOADS) for router, cells in found["routers"].items()},
        ),
        WaitPanel(
            title=f"{MANY} replicas at {USUAL_LOAD:.0%}",
            along="age of reports, s",
            at=AGES_S,
            lines={router: late(cells, AGES_S) for router, cells in found["ages"].items()},
        ),
    )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--requests", type=int, default=20000, help="of each simulation")
    add("--service-ms", type=float, default=650.0, help="of a replica for one picture")
    add("--door-ms", type=float, default=6.0, help="processor time of a door for one picture")
    add(
        "--picture-kb", type=float, default=600.0, help="bytes of one request's pictures, thousands"
    )
    add("--line-mbit", type=float, default=1000.0, help="of one door's line")
    add("--reports-s", type=float, default=1.0, help="how old reports are")
    add("--arrivals", choices=("poisson", "constant", "gamma", "trace"), default="poisson")
    add("--shape", type=float, default=0.25, help="of gamma: below 1 arrivals come in bursts")
    add("--trace", type=Path, help="due times, a line each; with --arrivals trace")
    add("--json", type=Path)
    add("--plot", type=Path)
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Every simulation of a command line."""
    fleet = Fleet(
        replicas=MANY,
        service_s=args.service_ms / 1000,
        report_every_s=args.reports_s,
        door_s=args.door_ms / 1000,
        picture_bytes=1000 * args.picture_kb,
        door_bytes_s=args.line_mbit * 1e6 / 8,
    )
    return {
        "reports_s": args.reports_s,
        "routers": by_router(args, fleet),
        "ages": by_age(args, replace(fleet, door_s=0.0, picture_bytes=0.0)),
        "sizes": by_size(args, fleet),
        "limits": by_limit(args, fleet),
    }


def main() -> None:
    """Simulate and print."""
    args = parse_arguments()
    found = measure(args)
    loads = [f"{x:g}" for x in LOADS]
    print(render("wait by router and load, ms p50 / p99", found["routers"], loads))
    print(render("wait by age of reports, s", found["ages"], [f"{x:g}" for x in AGES_S]))
    print(render_sizes(found["sizes"]))
    print(render_limits(found["limits"]))
    if args.plot:
        from benchmarks.lib.plots import plot_fleet  # noqa: PLC0415  matplotlib is an extra

        plot_fleet(curves(found), args.plot)
    write_record(args.json, found)


if __name__ == "__main__":
    main()
