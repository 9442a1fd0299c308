"""Flags that several subcommands of `cascade bench` share, and the values that they come to.

Knows argparse; runs nothing.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
from dataclasses import replace
from pathlib import Path

from bench.arrivals import ARRIVAL_KINDS, Arrivals
from bench.grid import GridAxes, in_weather, links_of
from bench.link.shape import LinkShape, parse_stalls
from bench.run import RunPlan
from cascade.assignments import AUTO
from cascade.diffusion.request_options import MAX_STEPS
from cascade.errors import InvalidRequest
from cascade.quantities import parse_duration, parse_rate
from runtime_client.cli.connection_flags import add_connection_flags, connection_config
from runtime_client.cli.placement_flags import (
    add_chosen_placement_flags,
    cut_or_auto,
    with_placement,
)
from runtime_client.config import DEFAULT_CUT, ClientConfig, is_on_this_machine
from runtime_client.placement import parse_placement

LOADS = ("single", "closed", "open")
MOST_REQUESTS = 1_000_000
MOST_MINUTES = 1440
WRITTEN = ("none", "png", "webp", "jpg")


def add_system_flags(parser: argparse.ArgumentParser) -> None:
    """The bundle, the server, engines, and what is asked for."""
    add = parser.add_argument
    # fmt: off
    add("--prompts", type=Path, metavar="FILE", help="a prompt per line, after a tab its seed if it has one (default: 64 built-in prompts)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the first request without one; each later request has the next (default: 0)")
    add("--threads", type=int, default=0, metavar="N", help="threads of the engines here; 0 is one per core allowed (default: 0)")
    add("--engine", default=AUTO, metavar="E", help="as of `cascade generate` (default: auto)")
    add("--precision", default=AUTO, metavar="P", help="as of `cascade generate` (default: auto)")
    add("-q", "--quiet", action="store_true", help="no progress on standard error (default: off)")
    # fmt: on
    add_connection_flags(
        parser, "host:port or unix:PATH (default: start a private server of every component)"
    )


def add_link_flags(parser: argparse.ArgumentParser) -> None:
    """One link."""
    add = parser.add_argument
    # fmt: off
    add("--rtt", default="0", metavar="T", help="round trip of a shaped link to the server, such as 80ms (default: 0)")
    add("--down", default="unshaped", metavar="RATE", help="its rate to the client, such as 10Mbit/s (default: unshaped)")
    add("--up", default="unshaped", metavar="RATE", help="its rate to the server (default: unshaped)")
    add("--loss", type=float, default=0.0, metavar="P", help="chance that a segment is lost and comes a round trip later, 0 to 0.5 (default: 0)")
    add("--stalls", default="0", metavar="T/T", help="how long the link stands still and how often, such as 500ms/10s (default: 0)")
    add("--link-seed", type=int, default=0, metavar="N", help="of the losses (default: 0)")
    # fmt: on


def add_load_flags(parser: argparse.ArgumentParser) -> None:
    """Who sends when, and the phases of a run."""
    add = parser.add_argument
    # fmt: off
    add("--load", choices=LOADS, default="single", help="one request after the other, --clients that each wait for theirs, or arrivals whatever comes back (default: single)")
    add("--arrivals", choices=ARRIVAL_KINDS, default="poisson", help="of an open loop (default: poisson)")
    add("--rate", type=float, default=1.0, metavar="R", help="mean arrivals per second of an open loop (default: 1)")
    add("--shape", type=float, default=1.0, metavar="K", help="of gamma arrivals: below 1 in bursts, above 1 evenly (default: 1)")
    add("--trace", type=Path, metavar="FILE", help="due times in seconds, one per line, for --arrivals trace (default: none)")
    add("--arrival-seed", type=int, default=0, metavar="N", help="of the schedule (default: 0)")
    add("--clients", type=int, default=4, metavar="N", help="of a closed loop, 1 to 256 (default: 4)")
    add("--requests", type=int, default=64, metavar="N", help="in the measured window at most; 64 are the least for p90, 662 for p99 (default: 64)")
    add("--seconds", type=float, metavar="S", help="send nothing in the window after so long (default: no limit)")
    add("--warm-up", type=int, default=3, metavar="N", help="requests before anything counts (default: 3)")
    add("--unloaded", type=int, default=11, metavar="N", help="single requests before a loaded window, for the objective (default: 11)")
    add("--objective", type=float, default=3.0, metavar="X", help="a request counts for goodput within so many times the unloaded median (default: 3)")
    add("--cold", type=int, default=1, metavar="N", help="first requests of a system opened anew (default: 1)")
    add("--repeats", type=int, default=11, metavar="N", help="pairs of a new and a repeated request for the audit of caches (default: 11)")
    add("--check", type=int, default=64, metavar="N", help="requests whose pictures must equal those of a local run (default: 64)")
    add("--against", metavar="SYSTEM", help="another system for the same requests, in turns: torch:MODULE:FACTORY, system:MODULE:FACTORY, diffusers:DIR, or an HTTP address of an images endpoint (default: none)")
    add("--against-steps", type=int, default=0, metavar="N", help="steps of a pipeline of diffusers; 0 is as many as the bundle's first stage takes (default: 0)")
    add("--write", choices=WRITTEN, default="none", help="write each last picture to a file of that format, as a hop of its own (default: none)")
    # fmt: on
    add_chosen_placement_flags(parser)


def add_axis_flags(parser: argparse.ArgumentParser) -> None:
    """The axes of a grid."""
    add = parser.add_argument
    # fmt: off
    add("--cuts", type=cut_or_auto, nargs="+", metavar="N", help="cuts, each over every link; auto is the cut that chooses itself (default: all numbers)")
    add("--placements", nargs="+", default=[], metavar="MAP", help="placements beside them, such as text_encoder=there,*=here (default: none)")
    add("--rtts", nargs="+", default=["0", "5ms", "30ms", "80ms", "200ms"], metavar="T", help="round trips (default: 0 5ms 30ms 80ms 200ms)")
    add("--rates", nargs="+", default=["unshaped", "100Mbit/s", "10Mbit/s", "1Mbit/s"], metavar="RATE", help="rates both ways, or DOWN:UP (default: unshaped 100Mbit/s 10Mbit/s 1Mbit/s)")
    add("--losses", type=float, nargs="+", default=[0.0], metavar="P", help="chances of loss, each with every link, as of `bench run --loss` (default: 0)")
    add("--stalls", nargs="+", default=["0"], metavar="T/T", help="stalls, each with every link, as of `bench run --stalls` (default: 0)")
    add("--loads", type=float, nargs="*", default=[], metavar="PERCENT", help="open loops at so many percent of capacity, such as 50 80 95 120 (default: none)")
    add("--loaded-links", nargs="+", default=["30ms,100Mbit/s"], metavar="RTT,RATE", help="links that get every load (default: 30ms,100Mbit/s)")
    add("--loaded-cuts", type=int, nargs="+", default=[DEFAULT_CUT], metavar="N", help=f"at these cuts (default: {DEFAULT_CUT})")
    add("--requests", type=int, default=12, metavar="N", help="of each single-stream cell (default: 12)")
    add("--loaded-requests", type=int, default=24, metavar="N", help="of each loaded cell (default: 24)")
    add("--seconds", type=float, default=60.0, metavar="S", help="no request of a single-stream cell is sent after so long (default: 60)")
    add("--minutes", type=float, metavar="M", help="of the whole grid: slow cells then get fewer requests, and the report states it (default: no limit)")
    # fmt: on


def axes_of_flags(args: argparse.Namespace, components: int) -> GridAxes:
    """The axes that the flags describe."""
    for name in ("requests", "loaded_requests"):
        check_count(name, getattr(args, name), 1, MOST_REQUESTS)
    cuts = tuple(args.cuts if args.cuts is not None else range(components + 1))
    for name, values in (("cuts", cuts), ("loaded_cuts", tuple(args.loaded_cuts))):
        for cut in values:
            if isinstance(cut, int):
                check_count(name, cut, 0, components)
    for text in args.placements:
        parse_placement(text)
    if not all(1 <= load <= 1000 for load in args.loads):
        raise InvalidRequest("loads: expected percent of capacity, 1 to 1000", field="loads")
    rtts = [parse_duration(text, "rtts") for text in args.rtts]
    rates = [parse_rates(text, "rates") for text in args.rates]
    stalls = [parse_stalls(text) for text in args.stalls]
    loaded: list[LinkShape] = []
    for text in args.loaded_links if args.loads else []:
        rtt, _, rate = text.partition(",")
        pair = parse_rates(rate, "loaded-links")
        loaded += links_of([parse_duration(rtt, "loaded-links")], [pair])
    return GridAxes(
        cuts=(*cuts, *args.placements),
        links=tuple(in_weather(links_of(rtts, rates), args.losses, stalls)),
        loads=tuple(load / 100 for load in args.loads),
        loaded=tuple(loaded),
        loaded_cuts=tuple(args.loaded_cuts),
        requests=args.requests,
        loaded_requests=args.loaded_requests,
        seconds=args.seconds,
    )


def seconds_of(minutes: float | None) -> float:
    """How long a grid may take; infinity without a limit."""
    if minutes is None:
        return float("inf")
    if not 0 < minutes <= MOST_MINUTES:
        raise InvalidRequest(
            f"minutes: expected more than 0 and at most {MOST_MINUTES}, got {minutes:g}",
            field="minutes",
        )
    return 60 * minutes


def parse_rates(text: str, field: str) -> tuple[float, float]:
    """`10Mbit/s` or `10Mbit/s:1Mbit/s` as rates down and up."""
    down, _, up = text.partition(":")
    return parse_rate(down, field), parse_rate(up or down, field)


def link_of(args: argparse.Namespace) -> LinkShape:
    """The link that the flags describe."""
    stall_s, every_s = parse_stalls(args.stalls)
    return LinkShape(
        rtt_s=parse_duration(args.rtt, "rtt"),
        down_bit_s=parse_rate(args.down, "down"),
        up_bit_s=parse_rate(args.up, "up"),
        loss=args.loss,
        stall_s=stall_s,
        stall_every_s=every_s,
        seed=args.link_seed,
    )


def plan_of(args: argparse.Namespace) -> RunPlan:
    """The phases that the flags describe."""
    counts = ("requests", "warm_up", "unloaded", "cold", "repeats", "check")
    for name in counts:
        check_count(name, getattr(args, name), 1 if name == "requests" else 0, MOST_REQUESTS)
    check_count("clients", args.clients, 1, 256)
    check_count("against_steps", args.against_steps, 0, MAX_STEPS)
    if not 1 <= args.objective <= 1000:
        raise InvalidRequest(
            f"objective: expected 1 to 1000, got {args.objective:g}", field="objective"
        )
    if args.seconds is not None and not 0 < args.seconds <= 86400:
        raise InvalidRequest(
            f"seconds: expected more than 0 and at most a day, got {args.seconds:g}",
            field="seconds",
        )
    if args.against is not None and args.load != "single":
        raise InvalidRequest(
            "against: systems take turns in a single stream alone; leave --load out",
            field="against",
        )
    arrivals = Arrivals(
        kind=args.arrivals,
        rate_per_s=args.rate,
        shape=args.shape,
        seed=args.arrival_seed,
        trace=args.trace,
    )
    return RunPlan(
        load=args.load,
        arrivals=arrivals,
        clients=args.clients,
        seconds=float("inf") if args.seconds is None else args.seconds,
        objective=args.objective,
        **{name: getattr(args, name) for name in counts},
    )


def check_count(name: str, value: int, least: int, most: int) -> None:
    """Raise `InvalidRequest` unless a count is within its bounds."""
    if not least <= value <= most:
        field = name.replace("_", "-")
        raise InvalidRequest(f"{field}: expected {least} to {most}, got {value}", field=field)


def config_of(args: argparse.Namespace) -> ClientConfig:
    """The client that the flags describe, placed as they say if they do."""
    plain = replace(
        connection_config(args), threads=args.threads, engine=args.engine, precision=args.precision
    )
    if "within" not in args:
        return plain
    placed = with_placement(plain, args)
    if placed.server is None or not placed.chooses_format:
        return placed
    # Without loss as ever: cuts and systems are compared by the same pixels.
    return replace(placed, picture_format="raw" if is_on_this_machine(placed.server) else "webp")
