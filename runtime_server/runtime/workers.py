"""The threads that take requests through the components, one running job each.

A job visits the queue of its first component, then of the next, until its last; a worker runs one
component of it, and the component's engines are those of a row, where steps of several jobs become
one run. Knows stages and jobs; not where requests come from, nor who runs together.

Threads and locks. `_changed` is a condition whose lock guards the queue, the forecast, the marks of
every job and the map of rows. It is public to nobody but `ComponentRun`, which takes it for a
moment after each step.

- Order: this lock, then the batcher's, then that of the measured limits; never the other way round:
  a worker runs its component, and so the batcher, without holding this one.
- Under it: the queue's decisions, which are pure, and `DeviceBatcher.open_row` and `cancel`, which
  return at once. Not under it: running a stage, putting an event into a job, emitting.
- Whoever adds to the queue, or frees a thread, wakes one worker; a worker that takes a job wakes
  the next if more wait. A freed worker looks at the queue by itself before it sleeps.
- A job has ended when `ended` is set under the lock; who sets it delivers `Ended`, once, after it
  has let go of the lock. So nothing is delivered after `Ended`.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import closing

from cascade.errors import Cancelled, CascadeError, TransportError
from cascade.events import Accepted, StageFinished
from cascade.stage import EngineStage, PreparedStage
from cascade.system.free_memory import give_back_free_memory
from runtime_server.batching.batch_policy import BatchLimits
from runtime_server.batching.batcher import DeviceBatcher, HostedEngine, Row
from runtime_server.batching.graph_axes import GraphAxes
from runtime_server.batching.role_key import RoleKey
from runtime_server.runtime.component_run import ComponentRun
from runtime_server.runtime.forecast import Forecast
from runtime_server.runtime.job import Ended, Job
from runtime_server.runtime.job_queue import JobCounts, JobQueue, QueueLimits
from runtime_server.runtime.stage_health import StageHealth
from runtime_server.system.clock import Clock
from runtime_server.telemetry.server_events import (
    Emit,
    RequestRefused,
    ignore,
)

CLOSE_POLL_S = 0.005
"""A job that is to end is told so again and again: its engine may be between two steps."""


class Workers:
    """Runs jobs; every public method may be called from any thread."""

    def __init__(
        self,
        stages: Mapping[int, EngineStage],
        batcher: DeviceBatcher,
        limits: QueueLimits,
        health: StageHealth,
        *,
        clock: Clock = time.monotonic,
        emit: Emit = ignore,
    ) -> None:
        """Workers at rest; `start` sets them to work.

        Args:
            stages: the hosted components by position; closed together with the workers.
            batcher: has the engines of them all.
            limits: how much may wait and run.
            health: is told how each component ended.
            clock: monotonic seconds.
            emit: where events go.
        """
        self._stages = dict(stages)
        self._batcher = batcher
        self._clock = clock
        self._emit = emit
        self._changed = threading.Condition()
        self.forecast = Forecast(batcher.limits, stages)
        """How long jobs take; measured while they run."""
        names = {position: stage.names[0] for position, stage in stages.items()}
        self._queue = JobQueue(names, limits, self.forecast)
        self._rows: dict[Job, Row] = {}
        self._run = ComponentRun(
            clock=clock,
            lock=self._changed,
            forecast=self.forecast,
            health=health,
            emit=emit,
            progress_interval_s=limits.progress_interval_s,
        )
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
    def counts(self) -> JobCounts:
        """What is inside now."""
        with self._changed:
            # All at one moment: a job moves from one count to the next under the lock.
            return self._queue.counts

    def submit(self, job: Job) -> Accepted:
        """Put a job into the queue of its first component.

        Raises:
            DeadlineExceeded: its time is over already, or is not enough even for an idle server.
            ServerBusy: no room, or too much before it; the error says when to come back.
            TransportError: the server is shutting down.
        """
        with self._changed:
            admitted = self._queue.admit(job, self._batcher.limits.caps, self._clock())
            if isinstance(admitted, Accepted):
                # One more job is one more thread's work at most.
                self._changed.notify()
                return admitted
        # Not under the lock: listeners are not ours.
        self._emit(RequestRefused(admitted.why))
        raise admitted.error

    def check_capacity(self, position: int, caller: str) -> None:
        """Refuse now what `submit` would refuse for want of room, before more is done about it.

        Args:
            position: of the component that it would begin with.
            caller: who asks.

        Raises:
            ServerBusy: no room; the error says when to come back.
            TransportError: the server is shutting down.
        """
        with self._changed:
            refused = self._queue.refusal(position, caller)
        if refused is not None:
            self._emit(RequestRefused(refused.why))
            raise refused.error

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
            if job in self._rows:
                # The worker finds `stop` after its step, if the engine was not in one.
                self._batcher.cancel(self._rows[job], job.stop)
                return True
            self._queue.waiting.remove(job)
            job.ended = True
        job.events.put(Ended(job.stop))
        return False

    def release(self, job: Job) -> bool:
        """Forget a job whose results are delivered or no longer wanted; see `stop`."""
        with self._changed:
            # Before it is stopped: whoever asks for the counts then sees the place free.
            self._queue.admitted.discard(job)
        return self.stop(job, Cancelled("the caller gave up"))

    def refuse_new(self) -> None:
        """Admit nothing more; what is inside goes on."""
        with self._changed:
            self._queue.refuses_new = True

    def close(self) -> None:
        """End everything and release the stages."""
        with self._changed:
            # Both at once, or a job admitted in between would never run and never end.
            self._queue.refuses_new = self._closing = True
            inside = [*self._queue.waiting, *self._rows]
        # Not under the lock: a worker needs it to settle the job that is to end.
        while inside:
            inside = [job for job in inside if self.stop(job, TransportError("server stopped"))]
            time.sleep(CLOSE_POLL_S if inside else 0)
        with self._changed:
            # Those that sleep look at `_closing` only when they are woken.
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for stage in self._stages.values():
            stage.close()

    def _work(self) -> None:
        """A thread: take, run, settle."""
        while (taken := self._take()) is not None:
            job, row = taken
            self._prepare_next(job)
            with closing(row):
                finished, error = self._run.attempt(job, self._stages[job.position], row)
            self._settle(job, finished, error)
            if self._is_idle():
                # After the answer: nothing waits for it. Of a picture of 1024x1024 it is 30 MB.
                give_back_free_memory()

    def _is_idle(self) -> bool:
        """Whether no job waits or runs."""
        with self._changed:
            return not (self._queue.waiting or self._queue.running)

    def _prepare_next(self, job: Job) -> None:
        """Let the component after this one begin with what it knows already."""
        if job.position == job.last:
            return
        # Not every family has anything to begin with.
        following: object = self._stages.get(job.position + 1)
        if isinstance(following, PreparedStage):
            following.prepare(job.plan.request)

    def _take(self) -> tuple[Job, Row] | None:
        """Wait for the next job; None when the workers close."""
        with self._changed:
            while not self._closing:
                # Looked at again after every wait: another thread may have taken what it was woken
                # for.
                index = self._queue.next_index(self._batcher.limits.caps)
                if index is not None:
                    job = self._queue.start(index, self._clock())
                    row = self._rows[job] = self._batcher.open_row(
                        job.position,
                        priority_deadline=job.priority_deadline,
                        request=job.request,
                        runs=job.plan.costs[job.position].runs,
                    )
                    if self._queue.waiting:
                        # Another may be able to join: one call of `notify` woke this thread alone.
                        self._changed.notify()
                    return job, row
                self._changed.wait()
            return None

    def _settle(self, job: Job, finished: StageFinished | None, error: Exception | None) -> None:
        """Pass a job on to its next component, or end it."""
        if finished is not None:
            # Before the job can be taken by another thread, whose events must come after it.
            job.events.put(finished)
        with self._changed:
            # Who can begin now is taken by this thread, which wakes the next.
            self._queue.running.discard(job)
            del self._rows[job]
            # Somebody may have asked for its end while the last step was done.
            error = job.stop or error
            if finished is not None and error is None and job.position < job.last:
                job.handoff = finished.handoff
                self._queue.go_on(job, self._clock())
                return
            job.ended = True
        job.events.put(Ended(error))


def hosted_engines(
    stages: Mapping[int, EngineStage], axes: Mapping[RoleKey, GraphAxes]
) -> dict[RoleKey, HostedEngine]:
    """The engines of all stages, for a batcher.

    Args:
        stages: by position.
        axes: of their graphs; one of which nothing is known is left out.
    """
    return {
        (key := RoleKey(position, role)): HostedEngine(
            engine=engine, stage=stage.names[0], axes=axes.get(key, GraphAxes())
        )
        for position, stage in stages.items()
        for role, engine in stage.engines.items()
    }


def limits_of(
    engines: Mapping[RoleKey, HostedEngine], by_position: Mapping[int, BatchLimits]
) -> dict[RoleKey, BatchLimits]:
    """Limits of one run for each engine, from those of its component; one row where not given."""
    one_row = BatchLimits(max_rows=1, max_bytes=0)
    return {key: by_position.get(key.position, one_row) for key in engines}
