"""One run: its phases in order, and the record that they fill.

Truth, cold, warm-up, unloaded, measured window, repeats. A phase that fails or is interrupted
leaves the record incomplete and readable: what was measured stands in it. Knows a way to open the
system.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bench.arrivals import Arrivals, digest, schedule
from bench.audit import LocalPictures, PictureCheck, repeat_audit
from bench.compare import LEAST_PAIRS, paired, ratio_of
from bench.figures import send_lag, window_figures
from bench.load import Window, closed_loop, in_turns, open_loop, single_stream
from bench.record import FORMAT, load_average, samples_of, surroundings
from bench.resources import ResourceMeter
from bench.systems.system import System
from bench.workload import Workload
from cascade.errors import CascadeError

LoadKind = Literal["single", "closed", "open"]
WARM_UP_FROM, UNLOADED_FROM, AUDIT_FROM, COLD_FROM = 10**6, 2 * 10**6, 3 * 10**6, 4 * 10**6
"""Numbers of the items that each phase asks for: none shares a seed with the measured window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What one run does.

    Attributes:
        load: who sends when.
        arrivals: of an open loop.
        clients: of a closed loop.
        requests: in the measured window, at most.
        seconds: no request is sent in the window after so long.
        warm_up: requests before anything is counted.
        unloaded: single requests before a loaded window, for the objective.
        cold: first requests, each of a system opened anew.
        repeats: pairs of a new request and a repeated one.
        check: requests whose pictures are compared with the local run's.
        objective: times the unloaded median within which a request counts for goodput.
    """

    load: LoadKind = "single"
    arrivals: Arrivals = field(default_factory=Arrivals)
    clients: int = 4
    requests: int = 64
    seconds: float = float("inf")
    warm_up: int = 3
    unloaded: int = 11
    cold: int = 1
    repeats: int = 11
    check: int = 64
    objective: float = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """A system that can be opened, and what to do with it.

    Attributes:
        open_system: anew; what it needs to start from nothing included.
        workload: what is asked for.
        plan: the phases.
        local: the truth; None for a system whose pictures are others.
        say: told of every phase.
        against: another system for the same requests, in turns with this one's single stream.
    """

    open_system: Callable[[], System]
    workload: Workload
    plan: RunPlan
    local: LocalPictures | None
    say: Callable[[str], None]
    against: Callable[[], System] | None = None


class BenchmarkRun:
    """A benchmark under way; `record` is valid at any moment."""

    def __init__(self, benchmark: Benchmark) -> None:
        """Nothing has run.

        Args:
            benchmark: what to do.
        """
        self._benchmark = benchmark
        plan = benchmark.plan
        self._check = PictureCheck(benchmark.workload)
        self._objective_s: float | None = None
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "complete": False,
            "ended_by": "",
            "degraded": None,
            "surroundings": surroundings(),
            "workload": workload_facts(benchmark.workload),
            "load": load_facts(plan),
            "phases": {},
        }

    def run(self) -> None:
        """Every phase.

        Raises:
            KeyboardInterrupt: the record says where.
            CascadeError: likewise; failures of single requests are counted and not raised.
        """
        begun = time.perf_counter()
        try:
            self._phases()
            self.record["complete"] = True
        except (KeyboardInterrupt, CascadeError) as exc:
            name = getattr(exc, "reason", "") or "INTERRUPTED"
            self.record["ended_by"] = f"{name}: {exc}"
            raise
        finally:
            self.record["seconds"] = time.perf_counter() - begun
            self.record["load_average_at_end"] = load_average()

    def _phases(self) -> None:
        """In order."""
        benchmark, plan = self._benchmark, self._benchmark.plan
        if benchmark.local is not None and plan.check:
            benchmark.say(f"local pictures: {min(plan.check, plan.requests)}")
            numbers = range(min(plan.check, plan.requests))
            self._check.truth = benchmark.local.hashes(benchmark.workload, numbers)
        self._cold()
        with opened(benchmark.open_system) as system:
            self._warm_up(system)
            self._unloaded(system)
            self._measure(system)
            self._repeats(system)
            self.record["system"] = dict(system.describe())

    def _cold(self) -> None:
        """First requests of systems opened anew, server included where it is ours."""
        firsts = []
        for number in range(COLD_FROM, COLD_FROM + self._benchmark.plan.cold):
            self._benchmark.say("cold")
            begun = time.perf_counter()
            with opened(self._benchmark.open_system) as system:
                opening_s = time.perf_counter() - begun
                window = self._window(system)
                single_stream(window, [number])
                firsts.append(cold_facts(window, opening_s))
        self.record["phases"]["cold"] = firsts

    def _warm_up(self, system: System) -> None:
        """Not counted, and not waited out: what the last one left running runs on."""
        plan = self._benchmark.plan
        self._benchmark.say(f"warm-up: {plan.warm_up}")
        window = self._window(system)
        single_stream(window, range(WARM_UP_FROM, WARM_UP_FROM + plan.warm_up))
        self.record["phases"]["warm_up"] = {"requests": plan.warm_up, "counted": False}
        self.record["system"] = dict(system.describe())

    def _unloaded(self, system: System) -> None:
        """Single requests, for the objective; a single stream is its own."""
        plan = self._benchmark.plan
        if plan.load == "single" or not plan.unloaded:
            return
        self._benchmark.say(f"unloaded: {plan.unloaded}")
        window = self._window(system)
        with self._kept("unloaded", window):
            single_stream(window, range(UNLOADED_FROM, UNLOADED_FROM + plan.unloaded))
        self._objective_s = objective_of(window, plan.objective)

    def _measure(self, system: System) -> None:
        """The window that the run is about."""
        plan = self._benchmark.plan
        self._benchmark.say(f"{plan.load}: up to {plan.requests} requests")
        window = Window(system, self._benchmark.workload, self._check.note)
        meter = ResourceMeter(system.processes())
        try:
            with self._kept("measured", window):
                if self._benchmark.against is None:
                    send(window, plan, self.record)
                else:
                    self._in_turns(window, self._benchmark.against)
        finally:
            if plan.load == "single":
                self._objective_s = objective_of(window, plan.objective)
            measured = self.record["phases"]["measured"] = self._figures(window)
            measured["usage"] = {side: asdict(use) for side, use in meter.usage().items()}
            measured["joules"] = meter.joules()
            measured["samples"] = samples_of(window.attempts)
            measured["pictures"] = self._check.report(self._benchmark.local)
            self.record["degraded"] = send_lag(window.attempts)["degraded"]

    def _in_turns(self, window: Window, open_other: Callable[[], System]) -> None:
        """The window's single stream beside another system's."""
        plan = self._benchmark.plan
        with opened(open_other) as other:
            single_stream(self._window(other), range(WARM_UP_FROM, WARM_UP_FROM + plan.warm_up))
            beside = self._window(other)
            try:
                in_turns([window, beside], range(plan.requests), plan.seconds)
            finally:
                self.record["against"] = against_facts(other, beside, window)

    def _repeats(self, system: System) -> None:
        """New and repeated requests in turns."""
        plan = self._benchmark.plan
        if not plan.repeats:
            return
        self._benchmark.say(f"repeats: {plan.repeats}")
        window = self._window(system)
        again = AUDIT_FROM + plan.repeats
        numbers = [n for at in range(plan.repeats) for n in (AUDIT_FROM + at, again)]
        # Asked for once before, so that every measured one is a repeat.
        single_stream(self._window(system), [again])
        with self._kept("repeats", window):
            single_stream(window, numbers)
        repeated = [a.latency_s for a in window.attempts if a.number == again and not a.error]
        new = [a.latency_s for a in window.attempts if a.number != again and not a.error]
        audit = repeat_audit(new, repeated, system.caching)
        self.record["phases"]["repeats"] |= {"audit": audit}

    @contextmanager
    def _kept(self, name: str, window: Window) -> Iterator[None]:
        """Keep what a window has measured, however it ends."""
        try:
            yield
        finally:
            self.record["phases"][name] = self._figures(window)

    def _figures(self, window: Window) -> dict[str, Any]:
        return window_figures(list(window.attempts), window.seconds, self._objective_s)

    def _window(self, system: System) -> Window:
        return Window(system, self._benchmark.workload)


@contextmanager
def opened(open_system: Callable[[], System]) -> Iterator[System]:
    """A system for the length of a block."""
    with contextlib.closing(open_system()) as system:
        yield system


def send(window: Window, plan: RunPlan, record: dict[str, Any]) -> None:
    """The measured window's requests, as the plan says; a schedule is put into the record."""
    match plan.load:
        case "open":
            due = schedule(plan.arrivals, plan.requests)
            due = due[due <= plan.seconds]
            record["load"] |= {"schedule_sha256": digest(due), "requests": len(due)}
            open_loop(window, [float(d) for d in due])
        case "closed":
            closed_loop(window, range(plan.requests), plan.clients, plan.seconds)
        case _:
            single_stream(window, range(plan.requests), plan.seconds)


def objective_of(window: Window, factor: float) -> float | None:
    """So many times the median of what was finished; None where nothing was."""
    done = [a.latency_s for a in window.attempts if not a.error]
    return factor * statistics.median(done) if done else None


def against_facts(other: System, beside: Window, window: Window) -> dict[str, Any]:
    """The other system's window, and how many times as long it takes, pair by pair."""
    samples = [samples_of(list(w.attempts)) for w in (window, beside)]
    pairs = paired(*({"samples": s} for s in samples))
    return {
        "system": dict(other.describe()),
        # Another system's pictures are others: times are compared, hashes are not.
        "pictures_compared": False,
        "measured": {
            **window_figures(list(beside.attempts), beside.seconds, None),
            "samples": samples[1],
        },
        "ratios": [
            asdict(ratio_of(name, *sides))
            for name, sides in pairs.items()
            if len(sides[0]) >= LEAST_PAIRS
        ],
    }


def cold_facts(window: Window, opening_s: float) -> dict[str, Any]:
    """One first request: opening (a private server that listens), then its pictures."""
    (attempt,) = window.attempts
    done = attempt.done_s
    return {
        "opening_s": opening_s,
        "time_to_first_picture_s": attempt.picture_latency_s(0),
        "latency_s": done,
        "with_opening_s": None if done is None else opening_s + done,
        "hops": dict(attempt.hops),
        "error": attempt.error,
    }


def workload_facts(workload: Workload) -> dict[str, Any]:
    """What was asked for, so that it can be asked again."""
    return {
        "source": workload.source,
        "sha256": workload.sha256,
        "prompts": len(workload.prompts),
        "first_seed": workload.first_seed,
        "seeds_in_file": any(seed is not None for seed in workload.seeds),
    }


def load_facts(plan: RunPlan) -> dict[str, Any]:
    """Who sends when."""
    found: dict[str, Any] = {
        "kind": plan.load,
        "requests": plan.requests,
        "seconds": None if plan.seconds == float("inf") else plan.seconds,
        "objective": plan.objective,
    }
    if plan.load == "closed":
        found["clients"] = plan.clients
    if plan.load == "open":
        trace = plan.arrivals.trace
        found["arrivals"] = {
            **asdict(plan.arrivals),
            "trace": None if trace is None else trace.name,
        }
    return found
