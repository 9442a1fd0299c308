"""Three ways to serve rows from one device, simulated event by event on the same arrivals.

One request at a time; batches of whole requests; and rows that join and leave between steps, which
asks the server's own pure functions who begins and who runs. Host work between steps goes through
one place, as Python's does. Knows times; nothing here waits for a clock.
"""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from runtime_server.batching.batch_policy import (
    BatchLimits,
    ExpectedRun,
    RunNow,
    RunRequest,
    WaitUntil,
    decide,
    row_cap,
    saving_s,
)
from runtime_server.batching.role_key import RoleKey
from runtime_server.runtime.fair_shares import FairTurn
from runtime_server.runtime.queue_policy import next_to_start, priority_deadline_of

PATIENCE_S = 30.0
MAX_RUNNING = 8
MAX_BETWEEN = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class StageTiming:
    """One component of the cascade on the device."""

    name: str
    steps: int
    run_s: Mapping[int, float]
    """Rows to seconds of one run, at least for one row."""
    host_s: float = 0.0
    """Host work of one row after each run."""
    max_rows: int = 0
    """Set by an operator; 0 lets the times decide."""

    @property
    def cap(self) -> int:
        """Rows that share a run, as the server decides it."""
        return self.max_rows or row_cap({n: s for n, s in self.run_s.items() if n & (n - 1) == 0})

    @property
    def alone_s(self) -> float:
        """Seconds of one row by itself."""
        return self.steps * (self.run_s[1] + self.host_s)

    def seconds(self, rows: int) -> float:
        """A run of so many rows: what was measured, and straight lines between."""
        known = sorted(self.run_s)
        if rows in self.run_s or len(known) == 1:
            return self.run_s.get(rows, rows * self.run_s[known[0]])
        low = max([n for n in known if n < rows], default=known[0])
        high = min([n for n in known if n > rows], default=known[-1])
        if low == high:
            return self.run_s[low] * rows / low
        part = (rows - low) / (high - low)
        return self.run_s[low] + part * (self.run_s[high] - self.run_s[low])


Policy = Callable[[Sequence[float], Sequence[StageTiming]], list[float]]
"""Arrival times and the cascade to the time at which each request is through."""


def one_at_a_time(arrivals: Sequence[float], timings: Sequence[StageTiming]) -> list[float]:
    """Each request from its first step to its last, then the next."""
    alone_s = sum(timing.alone_s for timing in timings)
    free, ends = 0.0, []
    for arrival in arrivals:
        free = max(free, arrival) + alone_s
        ends.append(free)
    return ends


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeRequests:
    """Batches of requests that begin and end together; joining means waiting for the next one."""

    size: int
    delay_s: float
    """How long the first of a batch waits for others."""

    def __call__(self, arrivals: Sequence[float], timings: Sequence[StageTiming]) -> list[float]:
        """See `Policy`."""
        free, ends, index = 0.0, [], 0
        while index < len(arrivals):
            opens = max(free, arrivals[index])
            last = index + self.size - 1
            full = arrivals[last] if last < len(arrivals) else math.inf
            closes = max(opens, min(arrivals[index] + self.delay_s, full))
            waiting = sum(a <= closes for a in arrivals[index : index + self.size])
            free = closes + sum(
                s.steps * (s.seconds(waiting) + waiting * s.host_s) for s in timings
            )
            ends += [free] * waiting
            index += waiting
        return ends


@dataclass(eq=False, slots=True)
class SimulatedJob:
    """A request on its way; what the choice of the next one looks at has the same names there."""

    number: int
    priority_deadline: float
    last: int
    position: int = 0
    steps_done: int = 0
    expected_at: float | None = None
    """When it asks again, between two runs."""
    caller: str = "one"
    turn: FairTurn = field(default_factory=FairTurn)

    @property
    def begun(self) -> bool:
        """Whether a component of it is done."""
        return self.position > 0


@dataclass
class StepJoining:
    """The server's policy.

    Attributes:
        timings: the cascade.
        rows: of every run, for the report.
    """

    timings: Sequence[StageTiming]
    rows: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Nothing has come yet."""
        self._limits = {
            RoleKey(position): BatchLimits(
                max_rows=s.cap,
                max_bytes=1,
                run_s=s.run_s[1],
                saving_s=saving_s({n: t for n, t in s.run_s.items() if n <= s.cap}),
            )
            for position, s in enumerate(self.timings)
        }
        self._caps = {key.position: limits.max_rows for key, limits in self._limits.items()}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._queued: list[SimulatedJob] = []
        self._running: list[SimulatedJob] = []
        self._asks: dict[RunRequest, SimulatedJob] = {}
        self._busy = False
        self._now = self._free_since = self._host_free = 0.0
        self._ends: dict[int, float] = {}

    def run(self, arrivals: Sequence[float]) -> list[float]:
        """When each request is through."""
        for number, arrival in enumerate(arrivals):
            due = priority_deadline_of(None, arrival, PATIENCE_S)
            job = SimulatedJob(number=number, priority_deadline=due, last=len(self.timings) - 1)
            self._at(arrival, lambda job=job: self._arrive(job))
        while self._events:
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        return [self._ends[number] for number in range(len(arrivals))]

    def _at(self, time: float, happen: Callable[[], None]) -> None:
        """Let something happen later."""
        heapq.heappush(self._events, (time, next(self._order), happen))

    def _arrive(self, job: SimulatedJob) -> None:
        """A request waits for its component."""
        self._queued.append(job)
        self._begin()

    def _begin(self) -> None:
        """Whoever may, begins."""
        while True:
            index = next_to_start(
                self._queued,
                self._running,
                self._caps,
                max_running=MAX_RUNNING,
                max_waiting_between=MAX_BETWEEN,
            )
            if index is None:
                break
            job = self._queued.pop(index)
            job.steps_done = 0
            self._running.append(job)
            self._ask(job)
        self._dispatch()

    def _ask(self, job: SimulatedJob) -> None:
        """A row waits for the device."""
        job.expected_at = None
        ask = RunRequest(
            number=next(self._order),
            key=RoleKey(job.position),
            priority_deadline=job.priority_deadline,
            rows=1,
            size_bytes=0,
            batch_key=None,
            since=self._now,
        )
        self._asks[ask] = job

    def _dispatch(self) -> None:
        """A free device does what is next."""
        if self._busy:
            return
        coming = [
            ExpectedRun(
                key=RoleKey(job.position),
                priority_deadline=job.priority_deadline,
                expected_at=job.expected_at,
            )
            for job in self._running
            if job.expected_at is not None
        ]
        decision = decide(
            list(self._asks),
            coming,
            self._limits,
            free_since=self._free_since,
            now=self._now,
        )
        if isinstance(decision, WaitUntil):
            self._at(decision.until, self._dispatch)
        elif isinstance(decision, RunNow):
            jobs = [self._asks.pop(ask) for ask in decision.requests]
            self._busy = True
            self.rows.append(len(jobs))
            seconds = self.timings[jobs[0].position].seconds(len(jobs))
            self._at(self._now + seconds, lambda: self._ran(jobs))

    def _ran(self, jobs: Sequence[SimulatedJob]) -> None:
        """A run is over; its rows' host work begins, one after the other."""
        self._busy = False
        self._free_since = self._now
        for job in jobs:
            timing = self.timings[job.position]
            self._host_free = max(self._host_free, self._now) + timing.host_s
            job.steps_done += 1
            if job.steps_done < timing.steps:
                job.expected_at = self._now + timing.host_s
            self._at(self._host_free, lambda job=job: self._step_done(job))
        self._dispatch()

    def _step_done(self, job: SimulatedJob) -> None:
        """A row asks again, goes on to its next component, or is through."""
        if job.steps_done < self.timings[job.position].steps:
            self._ask(job)
            self._dispatch()
            return
        self._running.remove(job)
        if job.position < job.last:
            job.position += 1
            self._queued.append(job)
        else:
            self._ends[job.number] = self._now
        self._begin()


def step_joining(arrivals: Sequence[float], timings: Sequence[StageTiming]) -> list[float]:
    """See `StepJoining`."""
    return StepJoining(timings).run(arrivals)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """What sharing cost: latency beyond what the request takes alone, in seconds."""

    p50_s: float
    p95_s: float
    p99_s: float
    latency_p95_s: float
    goodput: float
    """Requests through within three times what they take alone, of all per second offered."""


def waits(arrivals: Sequence[float], ends: Sequence[float], alone_s: float) -> Waits:
    """Percentiles of the waits."""
    latencies = sorted(end - arrival for arrival, end in zip(arrivals, ends, strict=True))

    def rank(share: float) -> float:
        return latencies[min(len(latencies) - 1, math.ceil(share * len(latencies)) - 1)]

    return Waits(
        p50_s=rank(0.5) - alone_s,
        p95_s=rank(0.95) - alone_s,
        p99_s=rank(0.99) - alone_s,
        latency_p95_s=rank(0.95),
        goodput=sum(latency <= 3 * alone_s for latency in latencies) / len(latencies),
    )


def poisson(alone_s: float, load: float, requests: int) -> list[float]:
    """Arrival times at a share of what one at a time could serve; the same ones every time."""
    gaps = np.random.default_rng(0).exponential(alone_s / load, requests)
    return [float(at) for at in np.cumsum(gaps)]
