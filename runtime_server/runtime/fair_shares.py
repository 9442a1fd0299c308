"""Fair shares of a device between callers: start-time fair queueing, weighted, by cost.

Every caller has a virtual clock that each of its requests moves on by cost over weight; the request
whose start tag is least is next. Within one caller the earliest deadline is first, so with a single
caller this is earliest deadline first and nothing else. Knows numbers and names of callers; neither
threads nor real clocks. Used under the lock of the workers.

References:
    Goyal, Vin and Cheng 1996, "Start-time fair queueing: a scheduling algorithm for integrated
    services packet switching networks", section 2: start tags, finish tags, virtual time.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


@dataclass(slots=True)
class FairTurn:
    """When a request has its turn, in virtual seconds; the only thing that sharing changes."""

    start_tag: float = 0.0
    """What those that wait are sorted by."""
    charged_at: float | None = None
    """Where its caller's clock stood when its first component began: its cost is charged once, for
    all its components. None before."""


class SharingJob(Protocol):
    """What sharing looks at."""

    @property
    def caller(self) -> str:
        """Who asked for it."""
        ...

    @property
    def priority_deadline(self) -> float:
        """Earliest first among those of one caller."""
        ...

    @property
    def turn(self) -> FairTurn:
        """Written here."""
        ...


Job = TypeVar("Job", bound=SharingJob)


class FairShares(Generic[Job]):
    """The virtual time of one device, and how far each caller's clock is."""

    def __init__(self, weights: Mapping[str, float], cost_s: Callable[[Job], float]) -> None:
        """Nothing was charged yet.

        Args:
            weights: of callers, above 0; who is not named has 1.
            cost_s: seconds of the engines that a request takes in all.
        """
        self._weights = weights
        self._cost_s = cost_s
        self._now = 0.0
        self._finish: dict[str, float] = {}
        """Of each caller's last charge; only where it is above `_now`."""

    def tag(self, waiting: Iterable[Job]) -> None:
        """Bring the start tags of those that wait up to date.

        Each is what it would be charged at if its caller's requests started by their deadlines:
        sorted by tag and then by deadline they are in the order in which they will start.
        """
        by_caller: defaultdict[str, list[Job]] = defaultdict(list)
        for job in waiting:
            by_caller[job.caller].append(job)
        for caller, jobs in by_caller.items():
            clock, latest = self._clock(caller), 0.0
            for job in sorted(jobs, key=lambda j: j.priority_deadline):
                turn = job.turn
                at = clock if turn.charged_at is None else turn.charged_at
                # Never before one of the same caller with an earlier deadline.
                turn.start_tag = latest = max(latest, at)
                clock += self._charge(job) if turn.charged_at is None else 0.0

    def started(self, job: Job) -> None:
        """Charge a request that begins; later components of it cost nothing more."""
        turn = job.turn
        if turn.charged_at is not None:
            turn.start_tag = turn.charged_at
            return
        tag = turn.start_tag = turn.charged_at = self._clock(job.caller)
        self._now = max(self._now, tag)
        self._finish[job.caller] = tag + self._charge(job)
        # Who is behind the virtual time starts at it: as if never charged, so nothing to keep.
        self._finish = {c: end for c, end in self._finish.items() if end > self._now}

    def idle(self) -> None:
        """Nothing waits and nothing runs: what was charged is forgotten."""
        self._now = 0.0
        self._finish.clear()

    def _clock(self, caller: str) -> float:
        """Where a caller's next request would start."""
        return max(self._now, self._finish.get(caller, 0.0))

    def _charge(self, job: Job) -> float:
        """Virtual seconds of a request."""
        return self._cost_s(job) / self._weights.get(job.caller, 1.0)
