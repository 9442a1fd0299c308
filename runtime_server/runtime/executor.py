"""Bounded queues, one per component, and the threads that take requests through the components.

A job visits the queue of its first component, then of the next, until its last. Each running job
has a thread, which runs `generate` with one stage as a device would; the stage's engine is a seat
at the meeting point, where steps of several jobs become one run. Knows stages and jobs; not where
requests come from, nor who runs together.
"""

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import cast

from cascade.errors import Cancelled, CascadeError, ServerBusy, StageError, TransportError
from cascade.events import (
    PROGRESS_INTERVAL_S,
    Accepted,
    Event,
    Progress,
    ProgressThrottle,
    StageFinished,
)
from cascade.generate import generate
from cascade.graph_spec import NET
from cascade.stage import EngineStage
from runtime_server.admission.concurrency_limits import SHORTEST_RETRY_S
from runtime_server.batching.batch_policy import BatchLimits
from runtime_server.batching.batcher import DeviceBatcher, Seat
from runtime_server.batching.scheduling import (
    forecast_s,
    next_to_start,
    priority_deadline,
    refuse_when_full,
    refuse_when_late,
    remaining_steps,
    stop_reason,
)
from runtime_server.batching.step_times import StepTimes
from runtime_server.runtime.jobs import Ended, Job
from runtime_server.system.clock import Clock
from runtime_server.telemetry.observer import Failure, NullObserver, Observer, Refusal

STALE_S = 30.0
"""Step times older than this, and those of the warm-up, count `STALE_SHARE` where they would refuse
somebody: a machine that was busy then may be idle now, and a server that refuses learns nothing."""
STALE_SHARE = 0.1


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
    """How much may wait, and how much may run."""

    max_queued_per_stage: int
    max_in_flight: int
    refuse_late: bool = True
    """Whether what cannot meet its deadline is refused when it comes."""
    max_running: int = 8
    """Threads, and requests whose pictures in the making are held at once."""
    max_waiting_between: int = 2
    """No request begins a component while more than so many wait for the one after it."""
    max_queue_age_s: float = 30.0
    """The turn of a request without a deadline comes so long after it was admitted."""
    progress_interval_s: float = PROGRESS_INTERVAL_S
    """Least time between two that are told of a component; its first and last always are."""


ONE_ROW = BatchLimits(max_rows=1, max_bytes=0)
"""Rows run one by one."""


class Executor:
    """Runs jobs; every public method may be called from any thread."""

    def __init__(
        self,
        stages: Mapping[int, EngineStage],
        limits: QueueLimits,
        batches: Mapping[int, BatchLimits] | None = None,
        *,
        clock: Clock = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        """An executor at rest; `start` sets it to work.

        Args:
            stages: the hosted components by position; closed together with the executor.
            limits: how much may wait and run.
            batches: what one run of an engine may hold, by position; one row where not given.
            clock: monotonic seconds.
            observer: is told what happens.
        """
        self._stages = dict(stages)
        self._limits = limits
        self._clock = clock
        self._observer: Observer = observer or NullObserver()
        self.device = DeviceBatcher(
            {position: stage.engines[NET] for position, stage in stages.items()},
            {position: (batches or {}).get(position, ONE_ROW) for position in stages},
            {position: stage.names[0] for position, stage in stages.items()},
            clock=clock,
            observer=self._observer,
        )
        self._times = StepTimes()
        self._timed_at = 0.0
        self._changed = threading.Condition()
        self._queued: list[Job] = []
        self._running: dict[Job, Seat] = {}
        self._open: set[Job] = set()
        self._refusing = False
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"row {number}", daemon=True)
            for number in range(limits.max_running)
        ]

    def start(self) -> None:
        """Begin to run jobs."""
        for thread in self._threads:
            thread.start()

    @property
    def counts(self) -> Counts:
        """What is inside now."""
        with self._changed:
            return Counts(len(self._queued), len(self._running), len(self._open))

    def queued(self, position: int) -> int:
        """Requests waiting for one component."""
        with self._changed:
            return self._count_queued(position)

    def seconds_per_step(self, position: int) -> float:
        """Median of the last steps of one component, waiting left out; 0 before the first."""
        with self._changed:
            return self._times.seconds((position, 1))

    def submit(self, job: Job) -> Accepted:
        """Put a job into the queue of its first component.

        Raises:
            DeadlineExceeded: its time is over already, or is not enough even for an idle server.
            ServerBusy: no room, or too much before it; the error says when to come back.
            TransportError: the server is shutting down.
        """
        with self._changed:
            now = self._clock()
            reason = stop_reason(job.stop, job.deadline, now)
            if reason is not None:
                self._observer.refused("deadline")
                raise reason
            job.due = priority_deadline(job.deadline, now, self._limits.max_queue_age_s)
            ahead = self._ahead_of(job)
            alone_s, forecast = self._forecast_s(job, []), self._forecast_s(job, ahead)
            self._check_room(job.position)
            self._check_time(job, now, alone_s, forecast)
            job.enqueued_at = now
            self._queued.append(job)
            self._open.add(job)
            starts = self._next() == len(self._queued) - 1
            self._changed.notify()
            return Accepted(0 if starts else len(ahead), max(0.0, forecast - alone_s))

    def check_room(self, position: int) -> None:
        """Refuse now what `submit` would refuse for want of room, before more is done about it.

        Args:
            position: of the component that it would begin with.

        Raises:
            ServerBusy: no room; the error says when to come back.
            TransportError: the server is shutting down.
        """
        with self._changed:
            self._check_room(position)

    def stop(self, job: Job, error: CascadeError) -> bool:
        """End a job with `error`: at once when it waits, inside its step when it runs alone.

        Returns:
            Whether it still runs. The engine may have been between two steps: ask again a little
            later until it does not.
        """
        with self._changed:
            if job.ended:
                return False
            job.stop = job.stop or error
            if job in self._running:
                self.device.drop(self._running[job], job.stop)
                return True
            self._queued.remove(job)
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
            inside = [*self._queued, *self._running]
        while inside:
            inside = [job for job in inside if self.stop(job, TransportError("server stopped"))]
            time.sleep(0.005 if inside else 0)
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for stage in self._stages.values():
            stage.close()

    def _ahead_of(self, job: Job) -> list[Job]:
        """Who goes first: who is due earlier, and whoever runs where no thread is left."""
        full = len(self._running) >= self._limits.max_running
        running = [r for r in self._running if full or r.due <= job.due]
        return running + [q for q in self._queued if q.due <= job.due]

    def _check_room(self, position: int) -> None:
        """Refuse when the server leaves, holds too many, or the queue of that component is full."""
        if self._refusing:
            self._observer.refused("draining")
            raise TransportError("the server is shutting down: use another one or try again later")
        if len(self._open) >= self._limits.max_in_flight:
            self._observer.refused("in_flight")
            soonest = min((self._left_s(other) for other in self._running), default=0.0)
            raise ServerBusy(
                f"{len(self._open)} requests are in flight, no more are accepted",
                retry_after_s=max(SHORTEST_RETRY_S, soonest),
            )
        with counted(self._observer, "queue_full"):
            refuse_when_full(
                self._stages[position].names[0],
                self._count_queued(position),
                self._limits.max_queued_per_stage,
                (
                    self._left_s(other)
                    for other in (*self._running, *self._queued)
                    if other in self._running or other.position > position
                ),
            )

    def _check_time(self, job: Job, now: float, alone_s: float, forecast: float) -> None:
        """Refuse a job that cannot be through in time, where step times are known."""
        known = all(self._step_s(position) for position, n in job.work.steps.items() if n)
        if job.deadline is None or not known or not self._limits.refuse_late:
            return
        share = 1.0 if now - self._timed_at <= STALE_S else STALE_SHARE
        with counted(self._observer, "deadline"):
            refuse_when_late(job.deadline - now, share * alone_s, share * forecast)

    def _step_s(self, position: int) -> float:
        """Seconds of a step: of the last ones, else of the trial before the first; 0 unknown."""
        seen = self._times.seconds((position, 1))
        return seen or min(self.device.run_seconds(position).values(), default=0.0)

    def _forecast_s(self, job: Job, ahead: list[Job]) -> float:
        """Seconds until a job is through behind these others."""
        return forecast_s(
            left_of(job),
            [left_of(other) for other in ahead],
            {position: self._step_s(position) for position in self._stages},
            {
                position: {
                    rows: seconds
                    for rows, seconds in self.device.run_seconds(position).items()
                    if rows <= self.device.limits(position).max_rows
                }
                for position in self._stages
            },
        )

    def _left_s(self, job: Job) -> float:
        """Seconds of work left in a job by itself: its forecast behind nobody, only cheaper.

        Every refusal asks it of everybody inside.
        """
        return sum(n * self._step_s(position) for position, n in left_of(job).items())

    def _count_queued(self, position: int) -> int:
        """Requests waiting for one component."""
        return sum(job.position == position for job in self._queued)

    def _next(self) -> int | None:
        """Index of the waiting job that begins now."""
        return next_to_start(
            self._queued,
            list(self._running),
            {position: self.device.limits(position).max_rows for position in self._stages},
            max_running=self._limits.max_running,
            max_waiting_between=self._limits.max_waiting_between,
        )

    def _work(self) -> None:
        """A thread: take, run, settle."""
        while (taken := self._take()) is not None:
            job, seat = taken
            finished: StageFinished | None = None
            error: Exception | None = None
            begun = self._clock()
            try:
                with closing(seat):
                    finished = self._run(job, seat)
            except Exception as exc:  # noqa: BLE001 - raised again by whoever waits for the job
                error = exc
            self._tell(job, error, begun)
            self._settle(job, finished, error)

    def _tell(self, job: Job, error: Exception | None, begun: float) -> None:
        """Tell how a component went."""
        stage, request_id = self._stages[job.position].names[0], job.work.request_id
        seconds = self._clock() - begun
        if error is None:
            self._observer.stage_finished(stage, request_id, begun, seconds)
        else:
            code = error.code if isinstance(error, CascadeError) else "INTERNAL"
            self._observer.stage_failed(stage, request_id, begun, Failure(code, seconds))

    def _take(self) -> tuple[Job, Seat] | None:
        """Wait for the next job; None when the executor closes."""
        with self._changed:
            while not self._closing:
                index = self._next()
                if index is not None:
                    job = self._queued.pop(index)
                    job.waited_s = self._clock() - job.enqueued_at
                    job.steps_done = 0
                    seat = self.device.seat(
                        job.position,
                        due=job.due,
                        name=job.work.request_id,
                        runs=job.work.steps.get(job.position, 1),
                    )
                    self._running[job] = seat
                    if self._queued:
                        # Another may be able to join.
                        self._changed.notify()
                    return job, seat
                self._changed.wait()
            return None

    def _run(self, job: Job, seat: Seat) -> StageFinished:
        """Run the job's present component to its end."""
        self._check_goes_on(job)
        finished: StageFinished | None = None
        stage = self._stages[job.position].with_engines({NET: seat})
        self._observer.waited(stage.names[0], job.waited_s)
        events = cast(
            Generator[Event, None, None], generate([stage], job.work.request, job.handoff)
        )
        before, waited = self._clock(), 0.0
        progress = ProgressThrottle(self._clock, interval_s=self._limits.progress_interval_s)
        with closing(events):
            for event in events:
                self._check_goes_on(job)
                now = self._clock()
                self._measure(job, event, now - before - (seat.waited_s - waited))
                before, waited = now, seat.waited_s
                if isinstance(event, StageFinished):
                    finished = event
                elif progress.passes(event):
                    job.deliver(event)
        if finished is None:
            raise StageError(f"{stage.names[-1]} ended without a result")
        seconds = without_waiting(finished.seconds, seat.waited_s)
        return replace(finished, seconds={**seconds, "queue": job.waited_s + seat.waited_s})

    def _check_goes_on(self, job: Job) -> None:
        """Raise when the job is to end."""
        reason = stop_reason(job.stop, job.deadline, self._clock())
        if reason is not None:
            raise reason

    def _measure(self, job: Job, event: Event, seconds: float) -> None:
        """Note a step's time; a component without steps counts as one."""
        with self._changed:
            if isinstance(event, Progress):
                job.steps_done = event.done
            elif not isinstance(event, StageFinished) or job.steps_done:
                return
            self._times.add((job.position, 1), seconds)
            self._timed_at = self._clock()

    def _settle(self, job: Job, finished: StageFinished | None, error: Exception | None) -> None:
        """Pass a job on to its next component, or end it."""
        if finished is not None:
            job.deliver(finished)
        with self._changed:
            # Whoever can begin now is taken by this thread, which wakes the next.
            del self._running[job]
            error = job.stop or error
            if finished is not None and error is None and job.position < job.work.last:
                job.handoff = finished.handoff
                job.position += 1
                job.steps_done = 0
                job.enqueued_at = self._clock()
                self._queued.append(job)
                return
            job.ended = True
        job.deliver(Ended(error))


@contextmanager
def counted(observer: Observer, why: Refusal) -> Iterator[None]:
    """Tell of a refusal inside the block."""
    try:
        yield
    except CascadeError:
        observer.refused(why)
        raise


def left_of(job: Job) -> dict[int, int]:
    """Steps left in a job."""
    return remaining_steps(job.work.steps, job.position, job.steps_done)


def without_waiting(seconds: Mapping[str, float], waited_s: float) -> dict[str, float]:
    """A stage's times without what it waited for the device: that is part of the longest one."""
    if not seconds:
        return {}
    longest = max(seconds, key=lambda name: seconds[name])
    return {**seconds, longest: max(0.0, seconds[longest] - waited_s)}
