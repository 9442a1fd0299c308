"""A grid: every cut over every link, and one link under every load; resumable after any cell.

The cuts of one link take turns, request by request, so that a machine that drifts drifts for all of
them alike. All cuts share one server and keep one client each, whose link changes between cells.
Knows cells and windows; no HTML.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.arrivals import Arrivals, digest, schedule
from bench.audit import LocalPictures, PictureCheck
from bench.budget import TimeBudget
from bench.figures import window_figures
from bench.link.shape import LinkShape
from bench.load import Window, closed_loop, open_loop
from bench.record import GRID_FORMAT, load_average, read_record, surroundings, write_json
from bench.resources import ResourceMeter, Usage
from bench.run import WARM_UP_FROM, workload_facts
from bench.systems.cascade_system import CascadeChoice, CascadeSystem, HostedServer
from bench.workload import Workload
from cascade.assignments import AUTO
from cascade.bundle.bundle import Bundle
from cascade.errors import InvalidRequest
from runtime_client.config import ClientConfig
from runtime_client.placement import parse_placement

SINGLE, CAPACITY = "single", "capacity"
CLIENTS = 4
"""Of the closed loop that finds the capacity: more than the server runs at once."""
OBJECTIVE = 3.0
DECIMALS = 5
FLOOR = "floor"
FEWEST = 4
"""Requests of a loaded cell, however little time it has."""


Cut = int | str
"""How many components run here, `auto`, or places by name as `--placement` takes them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GridAxes:
    """What is swept.

    Attributes:
        cuts: each over every link, single stream; `auto` and placements by name among them.
        links: in this order.
        loads: shares of capacity, 0.5 for a half; over `loaded` links only.
        loaded: links that get a capacity and every load.
        loaded_cuts: at these cuts.
        requests: of a single-stream cell.
        loaded_requests: of a loaded cell.
        seconds: no request of a single-stream cell is sent after so long.
    """

    cuts: tuple[Cut, ...]
    links: tuple[LinkShape, ...]
    loads: tuple[float, ...] = ()
    loaded: tuple[LinkShape, ...] = ()
    loaded_cuts: tuple[Cut, ...] = ()
    requests: int = 12
    loaded_requests: int = 24
    seconds: float = 60.0


def load_name(share: float) -> str:
    """`80 %` of capacity."""
    return f"{100 * share:g} %"


def key_of(cut: Cut, link: LinkShape, load: str) -> str:
    """A cell's name."""
    return f"cut {cut}, {link.name}, {load}"


def placed_at(config: ClientConfig, cut: Cut) -> ClientConfig:
    """A configuration at a cut, or with components placed by name."""
    if isinstance(cut, int):
        return replace(config, cut=cut)
    if cut == AUTO:
        return replace(config, cut="auto")
    return replace(config, placement=parse_placement(cut))


class GridFile:
    """The cells that are there, written after each new one."""

    def __init__(self, path: Path, bundle: Bundle, workload: Workload) -> None:
        """Read what an earlier run has left.

        Args:
            path: of the JSON.
            bundle: that is measured.
            workload: that is asked for.

        Raises:
            InvalidRequest: the file holds a grid of something else, or of another machine.
        """
        self._path = path
        here = surroundings()
        self.value: dict[str, Any] = {
            "format": GRID_FORMAT,
            "surroundings": here,
            "bundle": bundle.manifest.name,
            "bundle_id": bundle.bundle_id,
            "components": [component.name for component in bundle.manifest.components],
            "workload": workload_facts(workload),
            "cells": {},
        }
        if path.exists():
            earlier = read_record(path, (GRID_FORMAT,))
            for name in ("bundle_id", "workload"):
                self._require_same(name, earlier[name], self.value[name])
            for name in ("processor", "cores", "software"):
                self._require_same(name, earlier["surroundings"][name], here[name])
            self.value = earlier

    def _require_same(self, name: str, earlier: object, now: object) -> None:
        if earlier != now:
            raise InvalidRequest(
                f"output: {self._path.name} holds a grid of another {name}: name a new file",
                field="output",
            )

    def note_minutes(self, minutes: float | None) -> None:
        """Keep how long it may take, for the report; None says nothing of it."""
        if minutes is not None:
            self.value["minutes"] = minutes

    def has(self, key: str) -> bool:
        """Whether a cell is there; one in which nothing was finished is to be measured again."""
        return bool(self.value["cells"].get(key, {}).get("finished"))

    def cell(self, key: str) -> Mapping[str, Any]:
        """A cell that is there."""
        found: Mapping[str, Any] = self.value["cells"][key]
        return found

    def add(self, key: str, cell: Mapping[str, Any]) -> None:
        """Take in a cell and write the file."""
        self.value["cells"][key] = rounded(cell)
        write_json(self._path, self.value, indent=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class GridPlan:
    """One grid to be measured.

    Attributes:
        bundle: opened.
        config: of every client but for its cut; may name a server.
        workload: what is asked for, from its first item on in every cell.
        axes: what is swept.
        say: told of every link.
        seconds: for the whole grid; slow cells then get fewer requests.
    """

    bundle: Bundle
    config: ClientConfig
    workload: Workload
    axes: GridAxes
    say: Callable[[str], None]
    seconds: float = float("inf")


class GridRun:
    """A grid under way."""

    def __init__(self, plan: GridPlan, file: GridFile) -> None:
        """Nothing is opened.

        Args:
            plan: what to measure.
            file: where to.
        """
        self._plan = plan
        self._file = file
        self._systems: dict[Cut, CascadeSystem] = {}
        self._truth: dict[int, dict[str, str]] = {}

    def run(self) -> int:
        """Every cell that is not there yet, as far as the time allows.

        Returns:
            How many groups of cells (a link's cuts, a cut's loads) there was no time for.

        Raises:
            KeyboardInterrupt: what is finished stands in the file.
            CascadeError: a system cannot be opened.
        """
        axes = self._plan.axes
        missing = [link for link in axes.links if self._cuts_missing(link)]
        loaded = [
            (cut, link)
            for link in axes.loaded
            for cut in axes.loaded_cuts
            if not all(self._file.has(key_of(cut, link, name)) for name in self._loads())
        ]
        for cut, link in loaded:
            self._require_single(cut, link)
        work = [partial(self._single_cells, link) for link in missing]
        work += [partial(self._loaded_cells, cut, link) for cut, link in loaded]
        if not work:
            return 0
        budget, done = TimeBudget(self._plan.seconds, len(work)), 0
        with ExitStack() as stack:
            self._open(stack)
            for piece in work:
                if not budget.left_s:
                    break
                piece(budget.share_s())
                done += 1
        return len(work) - done

    def _require_single(self, cut: Cut, link: LinkShape) -> None:
        """Raise `InvalidRequest` where nothing would say what an unloaded request takes."""
        axes = self._plan.axes
        if cut not in axes.cuts or link not in axes.links:
            raise InvalidRequest(
                f"loads: {link.name} at cut {cut} has no single-stream cell: add it to the axes",
                field="loads",
            )

    def _loads(self) -> list[str]:
        """Names of the loaded cells of one cut and link."""
        return [CAPACITY, *map(load_name, self._plan.axes.loads)]

    def _cuts_missing(self, link: LinkShape) -> list[Cut]:
        """Of one link."""
        cuts = self._plan.axes.cuts
        return [cut for cut in cuts if not self._file.has(key_of(cut, link, SINGLE))]

    def _open(self, stack: ExitStack) -> None:
        """The truth, the server, a client per cut, each warmed up by one picture."""
        plan = self._plan
        numbers = range(max(plan.axes.requests, plan.axes.loaded_requests))
        plan.say("local pictures")
        local = LocalPictures(plan.bundle, plan.config)
        self._truth = local.hashes(plan.workload, numbers[: plan.axes.requests])
        both = dict.fromkeys((*plan.axes.cuts, *(plan.axes.loaded_cuts if plan.axes.loads else ())))
        choices = {
            cut: CascadeChoice(
                bundle=plan.bundle, config=placed_at(plan.config, cut), link=LinkShape()
            )
            for cut in both
        }
        server = None
        if plan.config.server is None and any(c.needs_server for c in choices.values()):
            server = HostedServer(plan.bundle, plan.config)
            stack.callback(server.close)
        for number, (cut, choice) in enumerate(choices.items()):
            plan.say(f"cut {cut}: warm-up")
            system = CascadeSystem(choice, server, shaped=True)
            stack.callback(system.close)
            system.run(plan.workload.item(WARM_UP_FROM + number), lambda _stage, _image: None)
            self._systems[cut] = system

    def _single_cells(self, link: LinkShape, share_s: float) -> None:
        """The cuts of one link, in turns, at least once and for about so long."""
        axes, cuts = self._plan.axes, self._cuts_missing(link)
        self._plan.say(f"{link.name}: cuts {cuts}")
        checks = {cut: self._check() for cut in cuts}
        windows = {
            cut: Window(self._systems[cut], self._plan.workload, checks[cut].note) for cut in cuts
        }
        uses: dict[Cut, list[dict[str, Usage]]] = {cut: [] for cut in cuts}
        began = load_average()
        for cut in cuts:
            self._systems[cut].reshape(link)
            windows[cut].begin()
        begun, limit_s = time.perf_counter(), min(share_s, axes.seconds * len(cuts))
        for number in range(axes.requests):
            spent_s = time.perf_counter() - begun
            # Another round takes as long as those before it.
            if number and spent_s * (number + 1) / number > limit_s:
                break
            # Whoever is first after a change finds another machine than the last: take turns.
            for cut in [*cuts[number % len(cuts) :], *cuts[: number % len(cuts)]]:
                meter = ResourceMeter(self._systems[cut].processes())
                windows[cut].attempt(number)
                uses[cut].append(meter.usage())
        for cut in cuts:
            window = windows[cut]
            done = [a.latency_s for a in window.attempts if not a.error]
            window.seconds = sum(done)
            objective_s = OBJECTIVE * statistics.median(done) if done else None
            cell = self._cell(cut, link, SINGLE, window, objective_s)
            cell |= {"usage": summed(uses[cut]), "load_average": began}
            cell["pictures"] = checks[cut].report(None)
            self._file.add(key_of(cut, link, SINGLE), cell)

    def _loaded_cells(self, cut: Cut, link: LinkShape, share_s: float) -> None:
        """The capacity of one cut over one link, and every share of it, for about so long."""
        axes, system = self._plan.axes, self._systems[cut]
        system.reshape(link)
        single = key_of(cut, link, SINGLE)
        if not self._file.has(single):
            self._plan.say(f"{single}: nothing was finished, no loads")
            return
        objective_s = OBJECTIVE * self._file.cell(single)["latency_s"]["median"]
        capacity_key = key_of(cut, link, CAPACITY)
        shares: list[float | None] = [None, *axes.loads]
        budget = TimeBudget(share_s, len(shares))
        for share in shares:
            limit_s = budget.share_s()
            name = CAPACITY if share is None else load_name(share)
            key = key_of(cut, link, name)
            if self._file.has(key):
                continue
            self._plan.say(key)
            check, began = self._check(), load_average()
            window = Window(system, self._plan.workload, check.note)
            meter = ResourceMeter(system.processes())
            extra: dict[str, Any] = {}
            if share is None:
                closed_loop(window, range(axes.loaded_requests), CLIENTS, limit_s)
            else:
                if not self._file.has(capacity_key):
                    return
                rate = share * self._file.cell(capacity_key)["throughput_per_s"]
                arrivals = Arrivals(rate_per_s=rate, seed=0)
                due = schedule(arrivals, count_within(limit_s, rate, axes.loaded_requests))
                extra = {"rate_per_s": rate, "schedule_sha256": digest(due)}
                open_loop(window, [float(d) for d in due])
            cell = self._cell(cut, link, name, window, objective_s) | extra
            cell |= {"usage": as_json(meter.usage()), "load_average": began}
            cell["pictures"] = check.report(None)
            self._file.add(key, cell)

    def _check(self) -> PictureCheck:
        return PictureCheck(self._plan.workload, self._truth)

    @staticmethod
    def _cell(
        cut: Cut, link: LinkShape, load: str, window: Window, objective_s: float | None
    ) -> dict[str, Any]:
        """Figures of one cell."""
        figures = window_figures(list(window.attempts), window.seconds, objective_s)
        return {"cut": cut, "link": link.as_json(), "link_name": link.name, "load": load, **figures}


def count_within(seconds: float, rate_per_s: float, most: int) -> int:
    """Requests that arrive in so many seconds, but `FEWEST` at least, and `most` at most."""
    return min(most, max(FEWEST, int(min(seconds * rate_per_s, most))))


def summed(uses: Sequence[Mapping[str, Usage]]) -> dict[str, Any]:
    """Use of single requests as that of all: seconds added, the highest peak."""
    sides = list(dict.fromkeys(side for use in uses for side in use))
    found = {}
    for side in sides:
        cpu = [use[side].cpu_s for use in uses if side in use]
        peaks = [use[side].peak_mib for use in uses if side in use]
        found[side] = {
            "cpu_s": None if None in cpu else sum(c for c in cpu if c is not None),
            "peak_mib": max((p for p in peaks if p is not None), default=None),
        }
    return found


def as_json(usage: Mapping[str, Usage]) -> dict[str, Any]:
    """Use by side."""
    return {side: asdict(use) for side, use in usage.items()}


def rounded(value: Any) -> Any:
    """The same with floats of five decimals, and without floors, which are the same everywhere."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, Mapping):
        return {name: rounded(inner) for name, inner in value.items() if name != FLOOR}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return value


def links_of(rtts_s: Sequence[float], rates: Sequence[tuple[float, float]]) -> Iterator[LinkShape]:
    """Every round trip with every pair of rates, down and up."""
    for down, up in rates:
        for rtt_s in rtts_s:
            yield LinkShape(rtt_s=rtt_s, down_bit_s=down, up_bit_s=up)


def in_weather(
    links: Iterable[LinkShape], losses: Sequence[float], stalls: Sequence[tuple[float, float]]
) -> Iterator[LinkShape]:
    """Every link with every chance of loss and every stall; all links of one weather come together.

    Args:
        links: without either.
        losses: 0 to 0.5.
        stalls: how long and how often, seconds; 0 and 0 is none.
    """
    calm = tuple(links)
    for stall_s, every_s in stalls:
        for loss in losses:
            for link in calm:
                yield replace(link, loss=loss, stall_s=stall_s, stall_every_s=every_s)
