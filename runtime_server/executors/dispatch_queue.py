"""The queue of a server with replicas: who waits at the server, and which replica takes it.

A job waits here until a replica has room, and is bound to one as late as that: no replica has a
line of its own that others could have worked off. Decisions over lists of its own; pure but for
them. Not locked: the executor uses it under its lock.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cascade.events import Accepted
from runtime_server.executors.replica_work import ReplicaReport
from runtime_server.runtime.fair_shares import FairShares
from runtime_server.runtime.forecast import STALE_S, STALE_SHARE
from runtime_server.runtime.job import Job
from runtime_server.runtime.job_queue import JobCounts, QueueLimits, Refused
from runtime_server.runtime.queue_policy import (
    draining_error,
    full_error,
    in_flight_error,
    late_error,
    priority_deadline_of,
    stop_reason,
    urgency,
)


@dataclass(eq=False, kw_only=True, slots=True)
class ReplicaState:
    """One replica as the queue sees it."""

    number: int
    """Of its place, from 0; a replacement takes the place of the one that was lost."""
    ready: bool = False
    report: ReplicaReport = field(default_factory=ReplicaReport)
    jobs: set[Job] = field(default_factory=set)
    """Sent to it and not ended."""

    def rows(self, position: int) -> int:
        """Rows that may share a run of a component there."""
        return max(1, self.report.max_rows.get(position, 1))

    def window(self, most: int) -> int:
        """Jobs that it may have: those that share runs, and one that begins without a gap.

        Args:
            most: that run at once in one process.
        """
        return min(most, max(self.report.max_rows.values(), default=1)) + 1

    def could_join(self, position: int) -> bool:
        """Whether one more row of a component would share runs of jobs that are there."""
        return 0 < sum(job.position == position for job in self.jobs) < self.rows(position)


class DispatchQueue:
    """Waiting and admitted jobs, and the replicas that take them."""

    def __init__(self, names: Mapping[int, str], limits: QueueLimits) -> None:
        """Nothing inside and no replica.

        Args:
            names: of the hosted components, by position.
            limits: how much may wait here; `max_running` is of each replica.
        """
        self._names = names
        self._limits = limits
        self._shares: FairShares[Job] = FairShares(
            limits.caller_weights, lambda job: self.alone_s(job.plan.steps)
        )
        self.replicas: list[ReplicaState] = []
        self.waiting: list[Job] = []
        self.admitted: set[Job] = set()
        """Until their results are delivered or no longer wanted."""
        self.refuses_new = False
        self.heard_at = 0.0
        """When a step was last heard of."""
        self._opening_s = 0.0

    @property
    def running(self) -> Iterator[Job]:
        """Jobs that some replica has."""
        return (job for replica in self.replicas for job in replica.jobs)

    @property
    def counts(self) -> JobCounts:
        """What is inside."""
        running = list(self.running)
        return JobCounts(
            queued=len(self.waiting),
            running=len(running),
            in_flight=len(self.admitted),
            queued_at=Counter(job.position for job in self.waiting),
            backlog_s=sum(self.left_s(job) for job in (*self.waiting, *running)),
        )

    def step_s(self, position: int) -> float:
        """Seconds of a step, the median over the replicas that know it; 0 where none does."""
        known = [replica.report.step_s.get(position, 0.0) for replica in self.replicas]
        return statistics.median([s for s in known if s] or [0.0])

    def alone_s(self, steps: Mapping[int, int]) -> float:
        """Seconds of a request by itself."""
        return sum(n * self.step_s(position) for position, n in steps.items())

    def left_s(self, job: Job) -> float:
        """Seconds of work left in a job by itself."""
        return self.alone_s(job.steps_left)

    def opened(self, seconds: float) -> None:
        """A replica took so long to be ready."""
        self._opening_s = seconds

    def refusal(self, position: int, caller: str) -> Refused | None:
        """Why a caller is not admitted to a component now; None when there is room.

        A full queue still has a place for a caller that has none waiting there, as `JobQueue` has.
        """
        if self.refuses_new:
            return Refused("draining", draining_error())
        if len(self.admitted) >= self._limits.max_in_flight:
            soonest = min((self.left_s(job) for job in self.running), default=0.0)
            error = in_flight_error(len(self.admitted), soonest)
            return Refused("in_flight", error)
        if not any(job.position == position and job.caller == caller for job in self.waiting):
            return None
        queued = sum(job.position == position for job in self.waiting)
        waits_s = self._shared(self.running)
        full = full_error(
            self._names[position], queued, self._limits.max_queued_per_stage, [waits_s]
        )
        return None if full is None else Refused("queue_full", full)

    def admit(self, job: Job, now: float) -> Accepted | Refused:
        """Let a job wait for a replica.

        Args:
            job: new here.
            now: the time.
        """
        over = stop_reason(job.stop, job.deadline, now)
        if over is not None:
            return Refused("deadline", over)
        job.priority_deadline = priority_deadline_of(
            job.deadline, now, self._limits.max_queue_age_s
        )
        refused = self.refusal(job.position, job.caller)
        if refused is not None:
            return refused
        if not (self.waiting or any(self.running)):
            self._shares.idle()
        self._shares.tag([*self.waiting, job])
        ahead = [other for other in self.waiting if urgency(other) <= urgency(job)]
        wait_s = 0.0
        if self._place(job) is None or ahead:
            wait_s = self._shared((*self.running, *ahead))
        refused = self._refuse_late(job, wait_s, now)
        if refused is not None:
            return refused
        job.enqueued_at = now
        self.waiting.append(job)
        self.admitted.add(job)
        return Accepted(len(ahead), wait_s)

    def again(self, job: Job, now: float) -> None:
        """Let a job whose replica was lost wait for another one; its turn is as it was."""
        job.steps_done = 0
        job.enqueued_at = now
        self.waiting.append(job)

    def next_pair(self, now: float) -> tuple[Job, ReplicaState] | None:
        """The most urgent job with the replica that takes it; None where none has room."""
        self._shares.tag(self.waiting)
        if not self.waiting:
            return None
        job = min(self.waiting, key=urgency)
        replica = self._place(job)
        if replica is None:
            return None
        self.waiting.remove(job)
        self._shares.started(job)
        job.waited_s += now - job.enqueued_at
        replica.jobs.add(job)
        return job, replica

    def _place(self, job: Job) -> ReplicaState | None:
        """The replica for a job: an idle one, then one whose rows it joins, then the least work."""
        most = self._limits.max_running
        able = [r for r in self.replicas if r.ready and len(r.jobs) < r.window(most)]

        def rank(replica: ReplicaState) -> tuple[bool, int, float, int]:
            broken = not replica.report.works.get(job.position, True)
            kind = 0 if not replica.jobs else 1 if replica.could_join(job.position) else 2
            left_s = sum(self.left_s(other) for other in replica.jobs)
            return broken, kind, left_s, replica.number

        return min(able, key=rank, default=None)

    def _shared(self, jobs: Iterable[Job]) -> float:
        """Seconds of the work left in jobs whose rows share runs, over the replicas that are ready.

        Nothing moves before one is ready.
        """
        ready = [replica.report for replica in self.replicas if replica.ready]
        work_s = sum(
            n * self.step_s(position) * self._row_share(position)
            for job in jobs
            for position, n in job.steps_left.items()
        )
        return work_s / max(1, len(ready)) + (0.0 if ready else self._opening_s)

    def _row_share(self, position: int) -> float:
        """What a row costs in a shared run, in runs of its own."""
        ready = (replica.report for replica in self.replicas if replica.ready)
        shares = [report.row_share.get(position, 1.0) for report in ready]
        return max(shares, default=1.0)

    def _refuse_late(self, job: Job, wait_s: float, now: float) -> Refused | None:
        """Refuse a job that cannot be through in time, where step times are known."""
        if job.deadline is None or not self._limits.refuse_late:
            return None
        if not all(self.step_s(position) for position, n in job.plan.steps.items() if n):
            return None
        share = 1.0 if now - self.heard_at <= STALE_S else STALE_SHARE
        alone_s = self.left_s(job)
        error = late_error(job.deadline - now, share * alone_s, share * (wait_s + alone_s))
        return None if error is None else Refused("deadline", error)
