"""The queue of one bundle: jobs that wait for a component, that run, or are being delivered.

Decides who is admitted and who begins; changes nothing but its own lists. Pure but for them: the
time is passed in, and nothing is told to anybody. Not locked: the workers use it under their lock.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cascade.errors import CascadeError
from cascade.events import PROGRESS_INTERVAL_S, Accepted
from runtime_server.runtime.fair_shares import FairShares
from runtime_server.runtime.forecast import Forecast
from runtime_server.runtime.job import Job
from runtime_server.runtime.queue_policy import (
    draining_error,
    full_error,
    in_flight_error,
    late_error,
    next_to_start,
    overtakes,
    priority_deadline_of,
    stop_reason,
    urgency,
)
from runtime_server.telemetry.server_events import Refusal


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Requests inside the server now."""

    queued: int
    running: int
    in_flight: int
    """Admitted and not yet released by whoever delivers their results."""
    queued_at: Mapping[int, int]
    """Those that wait for a component, by its position; a Counter: 0 for all others."""
    backlog_s: float = 0.0
    """Seconds of work left in all of them, each as if alone, by the last steps' times."""

    @property
    def idle(self) -> bool:
        """Whether nothing is left."""
        return not (self.queued or self.running or self.in_flight)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueLimits:
    """How much may wait, and how much may run."""

    max_queued_per_stage: int
    max_in_flight: int
    refuse_late: bool = True
    """Whether what cannot meet its deadline is refused when it comes."""
    max_running: int = 8
    """Threads, and requests whose pictures in the making are held at once."""
    max_waiting_between: int = 2
    """Inter-stage queue limit: while more wait for a component, none begins the one before it."""
    max_queue_age_s: float = 30.0
    """The turn of a request without a deadline comes so long after it was admitted."""
    caller_weights: Mapping[str, float] = field(default_factory=dict)
    """Shares of callers where several wait; who is not named has 1."""
    progress_interval_s: float = PROGRESS_INTERVAL_S
    """Least time between two that are told of a component; its first and last always are."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that is not admitted."""

    why: Refusal
    error: CascadeError
    """What its caller is told."""


class JobQueue:
    """Waiting, running and admitted jobs."""

    def __init__(self, names: Mapping[int, str], limits: QueueLimits, forecast: Forecast) -> None:
        """Nobody inside.

        Args:
            names: of the hosted components, by position.
            limits: how much may wait and run.
            forecast: how long jobs take.
        """
        self._names = names
        self._limits = limits
        self._forecast = forecast
        self._shares: FairShares[Job] = FairShares(
            limits.caller_weights, lambda job: forecast.alone_s(job.plan.steps)
        )
        self.waiting: list[Job] = []
        self.running: set[Job] = set()
        self.admitted: set[Job] = set()
        """Until whoever delivers their results releases them."""
        self.refuses_new = False

    @property
    def counts(self) -> JobCounts:
        """What is inside."""
        queued_at = Counter(job.position for job in self.waiting)
        backlog_s = sum(
            self._left_s(job) for group in (self.waiting, self.running) for job in group
        )
        return JobCounts(
            len(self.waiting), len(self.running), len(self.admitted), queued_at, backlog_s
        )

    def queued(self, position: int) -> int:
        """Jobs waiting for one component."""
        return sum(job.position == position for job in self.waiting)

    def admit(self, job: Job, caps: Mapping[int, int], now: float) -> Accepted | Refused:
        """Let a job wait for its first component.

        Args:
            job: new here.
            caps: see `next_index`.
            now: the time.
        """
        over = stop_reason(job.stop, job.deadline, now)
        if over is not None:
            return Refused("deadline", over)
        job.priority_deadline = priority_deadline_of(
            job.deadline, now, self._limits.max_queue_age_s
        )
        # Overload must cost less than work: a forecast is made only for those who find room.
        refused = self.refusal(job.position, job.caller)
        if refused is not None:
            return refused
        if not (self.waiting or self.running):
            self._shares.idle()
        self._shares.tag([*self.waiting, job])
        ahead = self._ahead_of(job)
        own = job.steps_left
        alone_s = self._forecast.through_s(own, [])
        through_s = self._forecast.through_s(own, [other.steps_left for other in ahead])
        refused = self._refuse_late(job, now, alone_s, through_s)
        if refused is not None:
            return refused
        job.enqueued_at = now
        self.waiting.append(job)
        self.admitted.add(job)
        # The decision itself, not an estimate of it: what it says is what a worker does next.
        starts = self.next_index(caps) == len(self.waiting) - 1
        return Accepted(0 if starts else len(ahead), max(0.0, through_s - alone_s))

    def refusal(self, position: int, caller: str) -> Refused | None:
        """Why a caller is not admitted to that component now; None when there is room.

        A full queue still has a place for a caller that has none waiting there: one caller's burst
        does not keep another out. `max_in_flight` bounds those.
        """
        if self.refuses_new:
            return Refused("draining", draining_error())
        if len(self.admitted) >= self._limits.max_in_flight:
            # A place becomes free when a running request is through, not when a waiting one begins.
            soonest = min((self._left_s(other) for other in self.running), default=0.0)
            return Refused("in_flight", in_flight_error(len(self.admitted), soonest))
        if not any(q.position == position and q.caller == caller for q in self.waiting):
            return None
        further = (other for other in self.waiting if other.position > position)
        full = full_error(
            self._names[position],
            self.queued(position),
            self._limits.max_queued_per_stage,
            (self._left_s(other) for group in (self.running, further) for other in group),
        )
        return None if full is None else Refused("queue_full", full)

    def next_index(self, caps: Mapping[int, int]) -> int | None:
        """Index in `waiting` of the job that begins now; None when nobody does.

        Args:
            caps: rows that may share a run, by position.
        """
        self._shares.tag(self.waiting)
        return next_to_start(
            self.waiting,
            list(self.running),
            caps,
            max_running=self._limits.max_running,
            max_waiting_between=self._limits.max_waiting_between,
        )

    def start(self, index: int, now: float) -> Job:
        """Let a waiting job begin its component."""
        job = self.waiting.pop(index)
        self._shares.started(job)
        # Told with the result, and as the time in this component's queue alone.
        job.waited_s = now - job.enqueued_at
        job.steps_done = 0
        self.running.add(job)
        return job

    def go_on(self, job: Job, now: float) -> None:
        """Let a job that has finished a component wait for its next one."""
        job.position += 1
        job.steps_done = 0
        job.enqueued_at = now
        self.waiting.append(job)

    def _ahead_of(self, job: Job) -> list[Job]:
        """Who goes first: who is due earlier, and whoever runs where no thread is left."""
        # Where a thread is left, one that is more urgent runs beside a less urgent one.
        full = len(self.running) >= self._limits.max_running
        running = [r for r in self.running if full or not overtakes(job, r)]
        return running + [q for q in self.waiting if urgency(q) <= urgency(job)]

    def _left_s(self, job: Job) -> float:
        """Seconds of work left in a job by itself."""
        return self._forecast.alone_s(job.steps_left)

    def _refuse_late(
        self, job: Job, now: float, alone_s: float, through_s: float
    ) -> Refused | None:
        """Refuse a job that cannot be through in time, where step times are known."""
        if job.deadline is None or not self._limits.refuse_late:
            return None
        # Nobody is refused on a guess: an unknown step counts 0 and would make it look short.
        if not self._forecast.knows(job.plan.steps):
            return None
        # Old times count a tenth: a server that refuses all learns no new ones.
        share = self._forecast.trust(now)
        error = late_error(job.deadline - now, share * alone_s, share * through_s)
        return None if error is None else Refused("deadline", error)
