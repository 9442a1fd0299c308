"""One component's work for one job: the stage's events, timed and passed on until it is done.

Runs the stage as a device would, on the thread of a worker and without any lock.
Knows a job, a stage and its row; not what comes before or after.
"""

import threading
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import cast

from cascade.errors import CascadeError, StageError
from cascade.events import Event, Progress, ProgressThrottle, StageFinished
from cascade.stage import EngineStage
from runtime_server.batching.batcher import Row
from runtime_server.batching.role_key import RoleKey
from runtime_server.runtime.forecast import Forecast
from runtime_server.runtime.job import Job
from runtime_server.runtime.queue_policy import stop_reason
from runtime_server.runtime.stage_health import StageHealth
from runtime_server.system.clock import Clock
from runtime_server.telemetry.server_events import Emit, QueueLeft, StageEnded


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentRun:
    """How every component is run."""

    clock: Clock
    lock: threading.Condition
    """Of the workers: taken for a moment after each step, to note it in job and forecast."""
    forecast: Forecast
    health: StageHealth
    emit: Emit
    progress_interval_s: float

    def attempt(
        self, job: Job, stage: EngineStage, row: Row
    ) -> tuple[StageFinished | None, Exception | None]:
        """Run the job's present component; its result or why there is none, told to everybody."""
        begun = self.clock()
        try:
            finished = self.finish(job, stage, row)
        except Exception as exc:  # noqa: BLE001 - raised again by whoever waits for the job
            code = exc.code if isinstance(exc, CascadeError) else "INTERNAL"
            self.health.failed(RoleKey(job.position, row.failed_role), code)
            self._tell_end(job, stage, begun, code)
            return None, exc
        self.health.succeeded(job.position)
        self._tell_end(job, stage, begun, "OK")
        return finished, None

    def _tell_end(self, job: Job, stage: EngineStage, begun: float, code: str) -> None:
        """Emit how the component went."""
        seconds = self.clock() - begun
        self.emit(StageEnded(stage.names[0], job.request, begun, seconds, code))

    def finish(self, job: Job, stage: EngineStage, row: Row) -> StageFinished:
        """Run the job's present component to its end; its result is not delivered yet.

        Args:
            job: every other event is delivered to it.
            stage: the component, at rest.
            row: whose engines it is run on.

        Raises:
            CascadeError: the job was stopped, its time is over, or the stage failed.
        """
        self._check_goes_on(job)
        self.emit(QueueLeft(stage.names[0], job.waited_s))
        batched = stage.with_engines(row.engines)
        # Every stage is a generator, closed where it is left; the protocol promises an iterator.
        events = cast(Generator[Event, None, None], batched.run(job.plan.request, job.handoff))
        progress = ProgressThrottle(self.clock, interval_s=self.progress_interval_s)
        finished: StageFinished | None = None
        # A step is what lies between two events, without the waits for the device in it.
        begun = before = self.clock()
        waited = 0.0
        with closing(events):
            for event in events:
                # Between two steps is where a job can be ended without ending an engine.
                self._check_goes_on(job)
                now = self.clock()
                self._note(job, row, event, now - before - (row.waited_s - waited))
                before, waited = now, row.waited_s
                if isinstance(event, StageFinished):
                    finished = event
                elif progress.passes(event):
                    job.events.put(event)
        if finished is None:
            raise StageError(f"{stage.names[-1]} ended without a result")
        seconds = without_waiting(finished.seconds, row.waited_s)
        engine_s = max(0.0, finished.engine_s - row.waited_s - row.worked_s)
        if job.units:
            host_s = before - begun - row.waited_s - engine_s
            with self.lock:
                self.forecast.note_host(job.position, max(0.0, host_s) / job.units)
        return replace(
            finished,
            seconds={**seconds, "queue": job.waited_s + row.waited_s},
            engine_s=engine_s,
        )

    def _check_goes_on(self, job: Job) -> None:
        """Raise when the job is to end."""
        reason = stop_reason(job.stop, job.deadline, self.clock())
        if reason is not None:
            raise reason

    def _note(self, job: Job, row: Row, event: Event, seconds: float) -> None:
        """Note a step's time; a component without steps counts as one."""
        with self.lock:
            # Refusals of others are counted from it: how much of this job is still before them.
            units = 1
            if isinstance(event, Progress):
                # A caller's own picture takes several runs between two events.
                units = max(1, event.done - job.steps_done)
                job.steps_done = event.done
            elif not isinstance(event, StageFinished) or job.steps_done or not job.units:
                return
            key = RoleKey(job.position, row.last_role)
            self.forecast.note(key, seconds / units, self.clock())


def without_waiting(seconds: Mapping[str, float], waited_s: float) -> dict[str, float]:
    """A stage's times without what it waited for the device: that is part of the longest one."""
    if not seconds:
        return {}
    longest = max(seconds, key=lambda name: seconds[name])
    return {**seconds, longest: max(0.0, seconds[longest] - waited_s)}
