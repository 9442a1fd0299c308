"""Bounded queues, one per component, and the one thread that runs the stages.

A job visits the queue of its first component, then of the next, until its last. The thread runs one
component of one job at a time. Knows stages and jobs; not where requests come from.
"""

import threading
import time
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import cast

from cascade.errors import Cancelled, CascadeError, ServerBusy, StageError, TransportError
from cascade.events import Accepted, Event, Progress, StageFinished
from cascade.generate import generate
from cascade.stage import Stage
from runtime_server.budgeted_store import Clock
from runtime_server.jobs import Ended, Job
from runtime_server.scheduling import (
    SHORTEST_RETRY_S,
    StepTimes,
    next_position,
    refuse_when_full,
    remaining_steps,
    stop_reason,
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests inside the server now."""

    queued: int
    running: int
    in_flight: int
    """Admitted and not yet released by whoever delivers their results."""

    @property
    def idle(self) -> bool:
        """Whether nothing is left."""
        return not (self.queued or self.running or self.in_flight)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueLimits:
    """How much may wait."""

    max_queued_per_stage: int
    max_in_flight: int


class Executor:
    """Runs jobs; every public method may be called from any thread."""

    def __init__(
        self, stages: Mapping[int, Stage], limits: QueueLimits, clock: Clock = time.monotonic
    ) -> None:
        """An executor at rest; `start` sets it to work.

        Args:
            stages: the hosted components by position; closed together with the executor.
            limits: how much may wait.
            clock: monotonic seconds.
        """
        self._stages = dict(stages)
        self._limits = limits
        self._clock = clock
        self._times = StepTimes()
        self._changed = threading.Condition()
        self._queues: dict[int, deque[Job]] = {position: deque() for position in stages}
        self._open: set[Job] = set()
        self._running: Job | None = None
        self._refusing = False
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="stages", daemon=True)

    def start(self) -> None:
        """Begin to run jobs."""
        self._thread.start()

    @property
    def counts(self) -> Counts:
        """What is inside now."""
        with self._changed:
            queued = sum(len(queue) for queue in self._queues.values())
            return Counts(queued, int(self._running is not None), len(self._open))

    def queued(self, position: int) -> int:
        """Requests waiting for one component."""
        with self._changed:
            return len(self._queues[position])

    def seconds_per_step(self, position: int) -> float:
        """Median of the last steps of one component; 0 before the first."""
        with self._changed:
            return self._times.seconds_per_step(position)

    def submit(self, job: Job) -> Accepted:
        """Put a job into the queue of its first component.

        Raises:
            DeadlineExceeded: its time is over already.
            ServerBusy: no room; the error says when to come back.
            TransportError: the server is shutting down.
        """
        with self._changed:
            now = self._clock()
            reason = stop_reason(job.stop, job.deadline, now)
            if reason is not None:
                raise reason
            self._check_room(job)
            ahead = self._ahead_of(job.position)
            job.enqueued_at = now
            self._queues[job.position].append(job)
            self._open.add(job)
            self._changed.notify_all()
            return Accepted(len(ahead), sum(self._estimate_s(other) for other in ahead))

    def stop(self, job: Job, error: CascadeError) -> bool:
        """End a job with `error`: at once when it waits, inside its step when it runs.

        Returns:
            Whether it still runs. The engine may have been between two steps: ask again a little
            later until it does not.
        """
        with self._changed:
            if job.ended:
                return False
            job.stop = job.stop or error
            if job is self._running:
                # Under the lock, so that the run that is ended can only be this job's.
                self._stages[job.position].terminate()
                return True
            self._queues[job.position].remove(job)
            job.ended = True
        job.deliver(Ended(job.stop))
        return False

    def release(self, job: Job) -> bool:
        """Forget a job whose results are delivered or no longer wanted; see `stop`."""
        with self._changed:
            self._open.discard(job)
        return self.stop(job, Cancelled("the caller gave up"))

    def refuse_new(self) -> None:
        """Admit nothing more; what is inside goes on."""
        with self._changed:
            self._refusing = True

    def close(self) -> None:
        """End everything and release the stages."""
        with self._changed:
            self._refusing = self._closing = True
            inside = [job for queue in self._queues.values() for job in queue]
            if self._running is not None:
                inside.append(self._running)
        while inside:
            inside = [job for job in inside if self.stop(job, TransportError("server stopped"))]
            time.sleep(0.005 if inside else 0)
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        for stage in self._stages.values():
            stage.close()

    def _check_room(self, job: Job) -> None:
        """Refuse a job when the server leaves, holds too many, or its first queue is full."""
        if self._refusing:
            raise TransportError("the server is shutting down: use another one or try again later")
        if len(self._open) >= self._limits.max_in_flight:
            raise ServerBusy(
                f"{len(self._open)} requests are in flight, no more are accepted",
                retry_after_s=max(SHORTEST_RETRY_S, self._estimate_running_s()),
            )
        refuse_when_full(
            self._stages[job.position].names[0],
            len(self._queues[job.position]),
            self._limits.max_queued_per_stage,
            [self._estimate_s(other) for other in self._ahead_of(job.position + 1)],
        )

    def _ahead_of(self, position: int) -> list[Job]:
        """The running job, and all that wait for this position or a later one."""
        ahead = [] if self._running is None else [self._running]
        for at, queue in self._queues.items():
            if at >= position:
                ahead.extend(queue)
        return ahead

    def _estimate_s(self, job: Job) -> float:
        """Seconds of work left in a job."""
        return self._times.estimate_s(remaining_steps(job.work.steps, job.position, job.steps_done))

    def _estimate_running_s(self) -> float:
        """Seconds until the running job is through."""
        return 0.0 if self._running is None else self._estimate_s(self._running)

    def _work(self) -> None:
        """The thread: take, run, settle."""
        while (job := self._take()) is not None:
            finished: StageFinished | None = None
            error: Exception | None = None
            try:
                finished = self._run(job)
            except Exception as exc:  # noqa: BLE001 - raised again by whoever waits for the job
                error = exc
            self._settle(job, finished, error)

    def _take(self) -> Job | None:
        """Wait for the next job; None when the executor closes."""
        with self._changed:
            while not self._closing:
                position = next_position(self._queues)
                if position is not None:
                    job = self._queues[position].popleft()
                    job.waited_s = self._clock() - job.enqueued_at
                    job.steps_done = 0
                    self._running = job
                    return job
                self._changed.wait()
            return None

    def _run(self, job: Job) -> StageFinished:
        """Run the job's present component to its end."""
        self._check_goes_on(job)
        finished: StageFinished | None = None
        stage = self._stages[job.position]
        events = cast(
            Generator[Event, None, None], generate([stage], job.work.request, job.handoff)
        )
        before = self._clock()
        with closing(events):
            for event in events:
                self._check_goes_on(job)
                now = self._clock()
                self._measure(job, event, now - before)
                before = now
                if isinstance(event, StageFinished):
                    finished = event
                else:
                    job.deliver(event)
        if finished is None:
            raise StageError(f"{stage.names[-1]} ended without a result")
        return replace(finished, seconds={**finished.seconds, "queue": job.waited_s})

    def _check_goes_on(self, job: Job) -> None:
        """Raise when the job is to end."""
        reason = stop_reason(job.stop, job.deadline, self._clock())
        if reason is not None:
            raise reason

    def _measure(self, job: Job, event: Event, seconds: float) -> None:
        """Note a step's time; a component without steps counts as one."""
        with self._changed:
            if isinstance(event, Progress):
                job.steps_done = event.step
                self._times.add(job.position, seconds)
            elif isinstance(event, StageFinished) and not job.steps_done:
                self._times.add(job.position, seconds)

    def _settle(self, job: Job, finished: StageFinished | None, error: Exception | None) -> None:
        """Pass a job on to its next component, or end it."""
        if finished is not None:
            job.deliver(finished)
        with self._changed:
            self._running = None
            error = job.stop or error
            if finished is not None and error is None and job.position < job.work.last:
                job.handoff = finished.handoff
                job.position += 1
                job.steps_done = 0
                job.enqueued_at = self._clock()
                # Not bounded: later components run first, so at most one such job waits.
                self._queues[job.position].append(job)
                return
            job.ended = True
        job.deliver(Ended(error))
