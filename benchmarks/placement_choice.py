"""How near is the cut that chooses itself to the best fixed cut, on every link?

    python -m benchmarks.placement_choice                     # the whole grid, in virtual time
    python -m benchmarks.placement_choice --grid grid.json    # of a grid that was measured
    python -m benchmarks.placement_choice --session           # a measured link that changes twice

Without a grid, links and servers of several speeds are simulated. The device takes what `--here-ms`
says of each component for a request, or what a record of `cascade bench grid` has measured of the
last cut (`--times`). With a grid, it is read: measure it by
`cascade bench grid -o grid.json --cuts 0 1 2 3 4 auto --requests 24`. Ratios, not milliseconds, say
something on a machine that is busy: all cuts of a link take turns, request by request.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.link.child import LinkChild
from bench.link.shape import LinkShape
from bench.record import GRID_FORMAT, read_record
from bench.systems.cascade_system import HostedServer
from bench.workload import read_workload
from benchmarks.lib.placement_session import Session, cut_name, faster_server
from benchmarks.lib.placement_world import World
from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.default_bundle import bundle_or_default
from cascade.families import cost_of, family_of
from runtime_client.client import Client
from runtime_client.config import ClientConfig

RTTS_S = (0.0, 0.005, 0.03, 0.08, 0.2)
RATES = (0.0, 1e8, 1e7, 1e6)
SPEEDS = (1.0, 4.0, 20.0)
"""How many times as fast as the device a server is."""
TIMES = Path("docs/bench/emoji-1.json.gz")
NOISE = 0.05
WARM_UP = 2
LIMIT = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Regret:
    """One link and server: what was taken, what would have been best."""

    rtt_s: float
    bit_s: float
    speed: float
    taken: str
    best: str
    slower: float
    """As a share of the best."""


def measured_times(bundle: Bundle, path: Path) -> dict[str, float]:
    """Seconds of a unit of each component here, out of a measured grid: medians of its last cut."""
    grid = read_record(path, (GRID_FORMAT,))
    components = bundle.manifest.components
    cells = [
        cell
        for cell in grid["cells"].values()
        if cell["cut"] == len(components) and cell["load"] == "single"
    ]
    found = {}
    for spec in components:
        rows = family_of(spec).time_rows(spec)
        seconds = [
            sum(cell["hops"].get(row, {}).get("median_s", 0.0) for row in rows) for cell in cells
        ]
        found[spec.name] = statistics.median(seconds) / cost_of(spec).units
    return found


def told_times(bundle: Bundle, text: str) -> dict[str, float]:
    """Seconds of a unit of each component, from milliseconds of a request."""
    told = dict(word.split("=") for word in text.split(","))
    return {
        spec.name: float(told[spec.name]) / 1000 / cost_of(spec).units
        for spec in bundle.manifest.components
    }


def simulated(bundle: Bundle, here_s: Mapping[str, float], *, cuts_only: bool) -> list[Regret]:
    """Every link and speed: the third request against the best fixed placement."""
    found = []
    for speed in SPEEDS:
        for bit_s in RATES:
            for rtt_s in RTTS_S:
                world = World(
                    rtt_s=rtt_s, up_bit_s=bit_s, down_bit_s=bit_s, here_s=here_s, there_s={},
                    noise=NOISE,
                )  # fmt: skip
                session = Session(
                    bundle.manifest.components, faster_server(world, speed), cuts_only=cuts_only
                )
                for _ in range(WARM_UP):
                    session.step()
                found.append(regret_of(session, speed))
    return found


def regret_of(session: Session, speed: float) -> Regret:
    """What the session would take now, against the best."""
    places = session.plan().places
    best, seconds = session.best()
    return Regret(
        rtt_s=session.world.rtt_s,
        bit_s=session.world.down_bit_s,
        speed=speed,
        taken=cut_name(places),
        best=cut_name(best),
        slower=session.true_seconds(places) / seconds - 1,
    )


def requests_to_follow(bundle: Bundle, here_s: Mapping[str, float]) -> dict[str, int]:
    """From each link to each other: requests until the choice is within the limit again."""
    found = {}
    links = [(rtt_s, bit_s) for rtt_s in RTTS_S for bit_s in RATES]
    for before in links:
        for after in links:
            worlds = [
                faster_server(
                    World(
                        rtt_s=rtt_s, up_bit_s=bit_s, down_bit_s=bit_s, here_s=here_s, there_s={},
                        noise=NOISE,
                    ),
                    SPEEDS[-1],
                )
                for rtt_s, bit_s in (before, after)
            ]  # fmt: skip
            session = Session(bundle.manifest.components, worlds[0])
            for _ in range(WARM_UP):
                session.step()
            session.change(worlds[1])
            needed = 0
            while regret_of(session, SPEEDS[-1]).slower > LIMIT and needed < 20:
                session.step()
                needed += 1
            found[f"{before} to {after}"] = needed
    return found


def of_grid(grid: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per link of a measured grid: the best fixed cut, and how much longer `auto` took."""
    links: dict[str, dict[Any, float]] = {}
    for cell in grid["cells"].values():
        if cell["load"] == "single" and cell["latency_s"]["median"] is not None:
            links.setdefault(cell["link_name"], {})[cell["cut"]] = cell["latency_s"]["median"]
    rows = []
    for name, by_cut in links.items():
        fixed = {cut: s for cut, s in by_cut.items() if isinstance(cut, int)}
        if "auto" not in by_cut or not fixed:
            continue
        best = min(fixed, key=lambda cut: fixed[cut])
        slower = by_cut["auto"] / fixed[best] - 1
        rows.append({"link": name, "best": best, "best_s": fixed[best], "slower": slower})
    return rows


def measured_session(bundle: Bundle, links: Sequence[LinkShape], requests: int) -> list[Any]:
    """One client over links that change, each for so many requests: cut, predicted, taken."""
    config = ClientConfig(cut="auto", picture_format="webp")
    server = HostedServer(bundle, config)
    workload, rows, number = read_workload(None), [], 0
    try:
        with LinkChild(links[0], server.address) as way:
            config = replace(config, server=way.address)
            with Client(bundle, config) as client:
                for link in links:
                    way.reshape(link)
                    for _ in range(requests):
                        item = workload.item(number)
                        result = client.generate(item.prompt, seed=item.seed)
                        predicted = next(r["ms"] for r in (result.plan or {})["placements"])
                        taken = round(1000 * result.seconds["total"])
                        row = {"link": link.name, "cut": result.cut, "ms": taken}
                        rows.append({**row, "predicted_ms": predicted})
                        client.wait_ahead()
                        number += 1
    finally:
        server.close()
    return rows


def table_of(regrets: Sequence[Regret]) -> str:
    """A row per rate and round trip, a pair of columns per speed of the server."""
    title = "| rate | RTT, ms |" + "".join(
        f" server {speed:g}x: best | auto slower by |" for speed in SPEEDS
    )
    lines = [title, "|---|---|" + "---|---|" * len(SPEEDS)]
    for bit_s in RATES:
        for rtt_s in RTTS_S:
            cells = [f"{bit_s / 1e6:g} Mbit/s" if bit_s else "unshaped", f"{1000 * rtt_s:g}"]
            for speed in SPEEDS:
                (one,) = (
                    r for r in regrets if (r.rtt_s, r.bit_s, r.speed) == (rtt_s, bit_s, speed)
                )
                cells += [one.best, f"{one.slower:.1%}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(slower: Sequence[float]) -> str:
    """Mean, worst, and whether both are as wanted."""
    mean, worst = statistics.mean(slower), max(slower)
    verdict = "as wanted" if mean <= 0.01 and worst <= LIMIT else "more than wanted"
    return f"{len(slower)} links: {mean:.2%} slower on average, {worst:.2%} at worst: {verdict}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--times", type=Path, default=TIMES, help="component times: a grid")
    parser.add_argument("--here-ms", metavar="NAME=MS,...", help="component times instead of these")
    parser.add_argument("--grid", type=Path, help="a measured grid with auto among its cuts")
    parser.add_argument("--session", action="store_true", help="measure a link that changes")
    parser.add_argument("--requests", type=int, default=5, help="of each link of the session")
    parser.add_argument("--json", type=Path, help="write what is printed there too")
    args = parser.parse_args()
    bundle = open_bundle(bundle_or_default(args.bundle), runs=())
    if args.grid is not None:
        found = print_grid(read_record(args.grid, (GRID_FORMAT,)))
    elif args.session:
        found = print_session(open_bundle(bundle.folder), args.requests)
    else:
        told = args.here_ms is not None
        here_s = told_times(bundle, args.here_ms) if told else measured_times(bundle, args.times)
        found = print_simulated(bundle, here_s)
    write_record(args.json, found)


def print_grid(grid: Mapping[str, Any]) -> dict[str, Any]:
    """A measured grid, link by link."""
    rows = of_grid(grid)
    for row in rows:
        print(f"{row['link']:<28} best cut {row['best']}  auto {row['slower']:+.1%}")
    print(summary([row["slower"] for row in rows]))
    return {"links": rows}


def print_session(bundle: Bundle, requests: int) -> dict[str, Any]:
    """A measured link that becomes bad and good again."""
    near = LinkShape(rtt_s=0.005, down_bit_s=1e8, up_bit_s=1e8)
    far = LinkShape(rtt_s=0.08, down_bit_s=2e6, up_bit_s=1e6)
    rows = measured_session(bundle, [near, far, near], requests)
    for row in rows:
        print(" ".join(f"{key} {value}" for key, value in row.items()))
    return {"requests": rows}


def print_simulated(bundle: Bundle, here_s: Mapping[str, float]) -> dict[str, Any]:
    """The whole grid in virtual time."""
    cuts = simulated(bundle, here_s, cuts_only=True)
    every = simulated(bundle, here_s, cuts_only=False)
    follow = requests_to_follow(bundle, here_s)
    print(table_of(cuts))
    print(f"cuts: {summary([r.slower for r in cuts])}")
    print(f"placements: {summary([r.slower for r in every])}")
    print(f"{len(follow)} changes of the link: followed after {max(follow.values())} at most")
    return {"cuts": [r.slower for r in cuts], "placements": [r.slower for r in every]}


if __name__ == "__main__":
    main()
