"""Many servers behind doors, simulated: where does a picture wait, by how requests are routed?

A door passes a request on to one of its replicas and the picture back; a replica makes one picture
after the other. What a door knows of a replica is what that reported last, plus what this door has
sent there since. Numbers alone: no server, no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Router = Literal["random", "round robin", "two choices", "least backlog"]
ROUTERS: tuple[Router, ...] = get_args(Router)
Seconds = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """What is simulated."""

    replicas: int
    service_s: float
    """Of a replica for one picture."""
    router: Router = "least backlog"
    report_every_s: float = 0.0
    """How old a report may be; 0 knows everything."""
    doors: int = 1
    door_s: float = 0.0
    """Of a door for one picture, both ways."""
    picture_bytes: float = 0.0
    door_bytes_s: float = float("inf")
    """Of one door's line to its callers."""
    spread: float = 0.0
    """Coefficient of variation of the service time; 0 is constant, 1 exponential."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetWaits:
    """What requests waited, and how busy each part was."""

    at_door_s: Seconds
    """Before and in a door, `[requests]`."""
    queued_s: Seconds
    """Before a replica began, `[requests]`."""
    on_line_s: Seconds
    """From the end of a replica's work to the last byte at the caller, `[requests]`."""
    door_busy: float
    replica_busy: float
    line_busy: float
    """Shares of the time from the first arrival to the last end."""

    @property
    def waited_s(self) -> Seconds:
        """All that is not a replica's work, `[requests]`."""
        return self.at_door_s + self.queued_s + self.on_line_s


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitPanel:
    """One panel of a plot: the 99th percentile of the wait along something, a line per router."""

    title: str
    along: str
    at: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    """Seconds at each of `at`, by router."""


def in_turn(comes: Seconds, takes: Seconds | float) -> Seconds:
    """Ends of what one server does in order of arrival, `[requests]`.

    Args:
        comes: `[requests]`, ascending.
        takes: seconds of each, or of every one.
    """
    # Lindley's recursion as a running maximum: end = total so far + the latest idle start.
    total = np.cumsum(np.broadcast_to(takes, comes.shape))
    idle: Seconds = np.maximum.accumulate(comes - (total - takes))
    return total + idle


def by_server(comes: Seconds, server: NDArray[np.int64], takes: float) -> Seconds:
    """Ends of what several servers do, each in order of arrival, `[requests]`."""
    ends = np.empty_like(comes)
    for number in np.unique(server):
        mine = np.flatnonzero(server == number)
        order = mine[np.argsort(comes[mine], kind="stable")]
        ends[order] = in_turn(comes[order], takes)
    return ends


class RoutedReplicas:
    """Replicas, and what doors know of them."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        """All idle."""
        self._fleet = fleet
        self._draw = np.random.Generator(np.random.PCG64(seed))
        self._free = np.zeros(fleet.replicas)
        self._reported = np.zeros(fleet.replicas)
        self._sent = np.zeros((fleet.doors, fleet.replicas))
        self._reported_at = 0.0
        self._turn = 0

    def run(self, comes: Seconds, doors: NDArray[np.int64]) -> tuple[Seconds, Seconds]:
        """Begins and ends of each request, `[requests]` each.

        Args:
            comes: when each leaves its door, `[requests]`, ascending.
            doors: which that is.
        """
        begins, ends = np.empty_like(comes), np.empty_like(comes)
        for number, (now, door) in enumerate(zip(comes, doors, strict=True)):
            self._report(now)
            replica = self._route(door, now)
            begins[number] = max(now, self._free[replica])
            ends[number] = begins[number] + self._service()
            self._free[replica] = ends[number]
            self._sent[door, replica] += self._fleet.service_s
        return begins, ends

    def _service(self) -> float:
        """Seconds of one picture."""
        spread = self._fleet.spread
        if not spread:
            return self._fleet.service_s
        shape = spread**-2
        return float(self._draw.gamma(shape, self._fleet.service_s / shape))

    def _report(self, now: float) -> None:
        """What replicas have said by now."""
        every = self._fleet.report_every_s
        if every and now < self._reported_at + every:
            return
        if every:
            self._reported_at = now - now % every
        at = self._reported_at if every else now
        np.maximum(self._free - at, 0.0, out=self._reported)
        self._sent[:] = 0.0

    def _route(self, door: int, now: float) -> int:
        """Which replica a door chooses."""
        count = self._fleet.replicas
        match self._fleet.router:
            case "random":
                return int(self._draw.integers(count))
            case "round robin":
                self._turn += 1
                return self._turn % count
            case "two choices":
                # By reports alone: what this door has sent since is not looked at.
                one, other = self._draw.integers(count, size=2)
                return int(one if self._reported[one] <= self._reported[other] else other)
        done = now - self._reported_at if self._fleet.report_every_s else 0.0
        known = np.maximum(self._reported - done, 0.0) + self._sent[door]
        best = np.flatnonzero(known == known.min())
        # At random among equals: doors that all took the first would meet there.
        return int(best[self._draw.integers(len(best))])


def simulate(fleet: Fleet, arrivals: Seconds, seed: int = 0) -> FleetWaits:
    """What requests wait.

    Args:
        fleet: the machines.
        arrivals: when each request comes, `[requests]`, ascending.
        seed: of every draw.
    """
    draw = np.random.Generator(np.random.PCG64([seed, 1]))
    doors = draw.integers(fleet.doors, size=len(arrivals))
    through = by_server(arrivals, doors, fleet.door_s)
    order = np.argsort(through, kind="stable")
    begins, ends = np.empty_like(arrivals), np.empty_like(arrivals)
    begins[order], ends[order] = RoutedReplicas(fleet, seed).run(through[order], doors[order])
    line_s = fleet.picture_bytes / fleet.door_bytes_s
    arrived = by_server(ends, doors, line_s)
    window = float(arrived.max() - arrivals[0])
    count = len(arrivals)
    return FleetWaits(
        at_door_s=through - arrivals,
        queued_s=begins - through,
        on_line_s=arrived - ends,
        door_busy=count * fleet.door_s / fleet.doors / window,
        replica_busy=float((ends - begins).sum()) / fleet.replicas / window,
        line_busy=count * line_s / fleet.doors / window,
    )


def percentiles(seconds: Seconds, shares: Sequence[float] = (50, 99)) -> list[float]:
    """Percentiles in milliseconds, to a tenth."""
    return [round(1000 * float(value), 1) for value in np.percentile(seconds, shares)]
