"""The executor whose engines are in replicas: other processes, on this machine or others.

Jobs wait here and are carried to replicas one attempt at a time. An attempt whose replica is lost
is begun again once, elsewhere, from the last component that was delivered: a request is idempotent,
so the picture is the same. Knows handles of replicas; not what carries calls to them.

Threads and locks. `_lock` guards the queue, the attempts and the marks of every job; it is never
held while an event is put into a job or emitted. Attempts and the supervisor live on an event loop
with a thread of its own.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from cascade.bundle.manifest import Manifest
from cascade.errors import Cancelled, CascadeError, StageError, TransportError
from cascade.events import Accepted, Progress, StageFinished
from cascade.tuning.plan import EnginePlan
from runtime_server.config.config import ServerConfig
from runtime_server.executors.dispatch_queue import DispatchQueue, ReplicaState
from runtime_server.executors.hand_over import HandOver
from runtime_server.executors.job_attempt import (
    JobAttempt,
    Losses,
    check_fits,
    unless_lost,
    with_wait,
)
from runtime_server.executors.local import queue_limits
from runtime_server.executors.replica_work import (
    Parcel,
    ReplicaHello,
    ReplicaLost,
    ReplicaPool,
    ReplicaReport,
    with_clock,
    work_of,
)
from runtime_server.executors.scaling import ReplicaCount, Scaler
from runtime_server.executors.supervisor import Place, Supervisor
from runtime_server.runtime.job import Delivery, Ended, Job
from runtime_server.runtime.job_queue import JobCounts
from runtime_server.system.clock import Clock
from runtime_server.telemetry.load import ReplicaLoad
from runtime_server.telemetry.server_events import (
    Emit,
    LossReason,
    ReplicaReplaced,
    RequestRefused,
    ServerEvent,
    WorkRepeated,
    ignore,
)
from wire.server_info import RunTime

CLOSE_POLL_S = 0.01

T = TypeVar("T")


class ReplicatedExecutor:
    """Runs jobs in replicas; every public method may be called from any thread."""

    def __init__(
        self,
        manifest: Manifest,
        hosted: Iterable[int],
        config: ServerConfig,
        pool: ReplicaPool,
        *,
        clock: Clock = time.monotonic,
        emit: Emit = ignore,
    ) -> None:
        """An executor whose replicas are ready.

        Args:
            manifest: of the bundle.
            hosted: positions of the components that every replica hosts.
            config: limits of the queue here, and how long a replica may be silent.
            pool: where the replicas come from; closed together with the executor.
            clock: monotonic seconds, those of the jobs' deadlines.
            emit: where events go.

        Raises:
            CascadeError: a replica could not be opened.
        """
        self._clock = clock
        self._emit = emit
        self._pool = pool
        self._lock = threading.Lock()
        self._names = {at: manifest.components[at].name for at in hosted}
        self._queue = DispatchQueue(self._names, queue_limits(config))
        self._attempts: dict[Job, JobAttempt] = {}
        self._losses: dict[Job, Losses] = {}
        self._numbers = itertools.count()
        self._measuring = False
        self._messages: set[asyncio.Task[None]] = set()
        self._scaling: asyncio.Task[None] | None = None
        self._hello: ReplicaHello | None = None
        self._bundle_ids = manifest.ids
        self._close_s = config.replica_silence_s
        self._loop = asyncio.new_event_loop()
        self._supervisor = Supervisor(self, pool, clock, config.replica_silence_s)
        self._hand_over = HandOver(self._supervisor, self._queue, self._lock, pool, self._loop)
        self._thread = threading.Thread(target=self._loop.run_forever, name="replicas", daemon=True)
        self._thread.start()
        try:
            self._wait(self._open())
        except BaseException:
            self.close()
            raise

    async def _open(self) -> None:
        """Begin all replicas at once."""
        least, most = self._pool.count, self._pool.most
        self._queue.replicas = [ReplicaState(number=number) for number in range(most)]
        places = (Place(state=state) for state in self._queue.replicas)
        await self._supervisor.open(places, least, self._pool.at_once)
        if most > least:
            count = ReplicaCount(
                self._supervisor, self._queue, self._lock, Scaler(least, most), self._clock
            )
            self._scaling = self._loop.create_task(count.follow())

    @property
    def plan(self) -> EnginePlan:
        """How the replicas run the components."""
        return self._first.plan

    @property
    def warmed(self) -> Mapping[str, float]:
        """Seconds of the warm-up step by component, in the first replica."""
        return self._first.warmed

    @property
    def _first(self) -> ReplicaHello:
        """Of the replica that was ready first."""
        if self._hello is None:
            raise StageError("no replica was ever ready")
        return self._hello

    @property
    def counts(self) -> JobCounts:
        """Jobs inside now."""
        with self._lock:
            return self._queue.counts

    @property
    def replicas(self) -> tuple[ReplicaLoad, ...]:
        """Every replica, at one moment."""
        with self._lock:
            return tuple(
                ReplicaLoad(
                    number=place.state.number,
                    ready=place.state.ready,
                    jobs=len(place.state.jobs),
                    backlog_s=sum(self._queue.left_s(job) for job in place.state.jobs),
                    resident_bytes=place.state.report.resident_bytes,
                )
                for place in self._supervisor.opened
            )

    def submit(self, job: Job) -> Accepted:
        """Let a job wait for a replica; see `Executor.submit`."""
        with self._lock:
            admitted = self._queue.admit(job, self._clock())
            # Here and not on the loop: what is sent at once does not count as waiting.
            paired = self._pair()
        if isinstance(admitted, Accepted):
            self._loop.call_soon_threadsafe(self._send, paired)
            return admitted
        self._emit(RequestRefused(admitted.why))
        raise admitted.error

    def check_capacity(self, position: int, caller: str) -> None:
        """Refuse what `submit` would refuse for want of room; see `Executor.check_capacity`."""
        with self._lock:
            refused = self._queue.refusal(position, caller)
        if refused is not None:
            self._emit(RequestRefused(refused.why))
            raise refused.error

    def stop(self, job: Job, error: CascadeError) -> bool:
        """End a job; whether it still runs; see `Executor.stop`."""
        with self._lock:
            if job.ended:
                return False
            job.stop = job.stop or error
            attempt = self._attempts.get(job)
            if attempt is not None:
                is_new, attempt.told_to_stop = not attempt.told_to_stop, True
            else:
                self._queue.waiting.remove(job)
                job.ended = True
                self._losses.pop(job, None)
        if attempt is None:
            job.events.put(Ended(job.stop))
            return False
        if is_new:
            self._loop.call_soon_threadsafe(self._send_stop, attempt, job.stop)
        return True

    def release(self, job: Job) -> bool:
        """Forget a job; whether it still runs; see `Executor.release`."""
        with self._lock:
            self._queue.admitted.discard(job)
        return self.stop(job, Cancelled("the caller gave up"))

    def step_s(self, position: int) -> float:
        """Median seconds of the last steps of a component; 0 before the first."""
        with self._lock:
            return self._queue.step_s(position)

    def host_step_s(self, position: int) -> float:
        """Mean seconds of the host's work per step, the least of the replicas that know it."""
        known = [report.host_step_s.get(position, 0.0) for report in self._reports()]
        return min((s for s in known if s), default=0.0)

    def run_times(self, position: int) -> tuple[RunTime, ...]:
        """Runs of a component's engines by rows, in the first replica that has any."""
        known = (report.run_times.get(position, ()) for report in self._reports())
        return next((times for times in known if times), ())

    def max_rows(self, position: int) -> int:
        """Rows that may share a run of a component, in the replica that shares least."""
        with self._lock:
            ready = (state for state in self._queue.replicas if state.ready)
            return min((state.rows(position) for state in ready), default=1)

    def works(self, position: int) -> bool:
        """Whether a component works in any replica."""
        return any(report.works.get(position, True) for report in self._reports())

    def _reports(self) -> list[ReplicaReport]:
        """Of the replicas that are ready."""
        with self._lock:
            return [state.report for state in self._queue.replicas if state.ready]

    def measure_now(self) -> None:
        """Profile where batching pays, in every replica."""
        self._wait(self._measure())

    async def _measure(self) -> None:
        """All at once."""
        handles = [place.handle for place in self._supervisor.places if place.handle is not None]
        await asyncio.gather(*(unless_lost(handle.measure(beside=False)) for handle in handles))
        for place in self._supervisor.places:
            if place.handle is not None:
                # Whoever is lost meanwhile is replaced, and reports later.
                with contextlib.suppress(ReplicaLost):
                    self.reported(place, await place.handle.report())

    def measure_beside(self) -> None:
        """The same in between requests, in these replicas and their replacements."""
        self._measuring = True
        for place in self._supervisor.places:
            self._loop.call_soon_threadsafe(self._send_measure, place)

    def give_way(self) -> None:
        """Close one replica where there is no room for another; see `Executor.give_way`."""
        self._hand_over.give_way()

    def take_back(self) -> None:
        """Open it again."""
        self._hand_over.take_back()

    def shrink(self) -> None:
        """Close the replicas that no job needs, where there was no room."""
        self._hand_over.shrink()

    def refuse_new(self) -> None:
        """Admit nothing more; the jobs inside go on."""
        with self._lock:
            self._queue.refuses_new = True

    def close(self) -> None:
        """End every job and every replica."""
        self.refuse_new()
        with self._lock:
            inside = [*self._queue.waiting, *self._attempts]
        until = self._clock() + self._close_s
        while inside and self._clock() < until:
            inside = [job for job in inside if self.stop(job, TransportError("server stopped"))]
            time.sleep(CLOSE_POLL_S if inside else 0)
        self._wait(self._close())
        for job in inside:
            # Their replica answers no more.
            self._settle(job, None)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.close()

    async def _close(self) -> None:
        """End every replica and whatever waits for one."""
        if self._scaling is not None:
            self._scaling.cancel()
        await self._supervisor.close()
        tasks = [*self._messages, *(t for place in self._supervisor.places for t in place.tasks)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    # Below: on the loop.

    def ready(self, place: Place, hello: ReplicaHello, seconds: float) -> None:
        """A replica takes work from now on; see `Owner`."""
        check_fits(hello, self._hello, self._bundle_ids, self._names.values())
        self._hello = self._hello or hello
        with self._lock:
            place.state.report = ReplicaReport()
            place.state.ready = True
            self._queue.opened(seconds)
        if self._measuring:
            self._send_measure(place)
        self._dispatch()

    def reported(self, place: Place, report: ReplicaReport) -> None:
        """A replica said how it is; see `Owner`."""
        events = report.events
        with self._lock:
            place.state.report = replace(report, events=())
        self._pass_on(events, place)
        # Its window may be larger than it was.
        self._dispatch()

    def lost(self, place: Place, reason: LossReason) -> None:
        """A replica is gone; its attempts are begun again elsewhere; see `Owner`."""
        with self._lock:
            place.state.ready = False
        self._emit(ReplicaReplaced(reason))
        for task in list(place.tasks):
            # Those that found it themselves have ended already.
            task.cancel()

    def _pair(self) -> list[tuple[Job, JobAttempt]]:
        """Bind jobs to replicas as long as one has room; under the lock."""
        paired = []
        while (pair := self._queue.next_pair(self._clock())) is not None:
            job, state = pair
            place = self._supervisor.places[state.number]
            assert place.handle is not None  # noqa: S101 - it is ready
            attempt = self._attempts[job] = JobAttempt(
                number=next(self._numbers), place=place, handle=place.handle, lost=place.lost
            )
            if len(state.jobs) == 1:
                place.heard_at = self._clock()
            paired.append((job, attempt))
        return paired

    def _send(self, paired: Iterable[tuple[Job, JobAttempt]]) -> None:
        """Begin to carry jobs to the replicas that they are bound to."""
        for job, attempt in paired:
            task = self._loop.create_task(self._carry(job, attempt))
            attempt.place.tasks.add(task)
            task.add_done_callback(partial(self._carried, job, attempt))
            if attempt.lost.is_set():
                # Lost since it was bound to it.
                task.cancel()

    def _dispatch(self) -> None:
        """Send jobs to replicas as long as one has room."""
        with self._lock:
            paired = self._pair()
        self._send(paired)

    async def _carry(self, job: Job, attempt: JobAttempt) -> None:
        """One attempt at a job, from its sending to its end."""
        work = work_of(job, attempt.number, self._clock())
        try:
            async for parcel in attempt.handle.run(work):
                self._receive(job, attempt, parcel)
        except ReplicaLost:
            # Known before the next report is due; nothing more is sent there.
            attempt.lost.set()
            with self._lock:
                # Another one may have its place by now.
                if attempt.place.lost is attempt.lost:
                    attempt.place.state.ready = False
        except Exception as exc:  # noqa: BLE001 - raised again by whoever waits for the job
            self._settle(job, exc)

    def _carried(self, job: Job, attempt: JobAttempt, task: asyncio.Task[None]) -> None:
        """An attempt is over; its task may have been cancelled before it began."""
        attempt.place.tasks.discard(task)
        if task.cancelled() and not attempt.lost.is_set():
            # The executor closes.
            return
        if not job.ended:
            self._lose(job, attempt)
        self._dispatch()

    def _receive(self, job: Job, attempt: JobAttempt, parcel: Parcel) -> None:
        """What came of an attempt.

        Raises:
            ReplicaLost: the replica closes.
        """
        attempt.place.heard_at = self._queue.heard_at = self._clock()
        attempt.begun = True
        self._pass_on(parcel.events, attempt.place)
        for item in parcel.items:
            if isinstance(item, Ended):
                if isinstance(item.error, TransportError) and job.stop is None:
                    raise ReplicaLost(str(item.error))
                self._settle(job, item.error)
            else:
                self._deliver(job, attempt, item)

    def _deliver(self, job: Job, attempt: JobAttempt, item: Delivery) -> None:
        """Pass one event on, and note how far the job is."""
        with self._lock:
            if isinstance(item, Progress):
                job.steps_done = item.done
            elif isinstance(item, StageFinished):
                item = with_wait(item, job.waited_s)
                job.waited_s = 0.0
                if job.position == job.last:
                    attempt.complete = True
                else:
                    job.position += 1
                    job.handoff = item.handoff
                job.steps_done = 0
        job.events.put(item)

    def _settle(self, job: Job, error: Exception | None) -> None:
        """End a job, once."""
        with self._lock:
            if job.ended:
                return
            job.ended = True
            self._forget(job)
            self._losses.pop(job, None)
        job.events.put(Ended(job.stop or error))

    def _lose(self, job: Job, attempt: JobAttempt) -> None:
        """Begin a job again whose replica was lost, unless it was lost before."""
        if job.stop is not None or attempt.complete:
            self._settle(job, None)
            return
        with self._lock:
            goes_on = self._losses.setdefault(job, Losses()).add(attempt)
            self._forget(job)
            if goes_on:
                self._queue.again(job, self._clock())
        self._emit(WorkRepeated("again" if goes_on else "given up"))
        if not goes_on:
            error = TransportError(
                "two replicas ended while they worked on this request: try again"
            )
            self._settle(job, error)

    def _forget(self, job: Job) -> None:
        """An attempt is over; under the lock."""
        attempt = self._attempts.pop(job, None)
        if attempt is not None:
            attempt.place.state.jobs.discard(job)

    def _send_stop(self, attempt: JobAttempt, error: CascadeError) -> None:
        """Tell a replica that an attempt is to end."""
        self._keep(attempt.handle.stop(attempt.number, error))

    def _send_measure(self, place: Place) -> None:
        """Tell a replica to measure in between jobs."""
        if place.handle is not None and place.state.ready:
            self._keep(place.handle.measure(beside=True))

    def _keep(self, message: Coroutine[Any, Any, None]) -> None:
        """Send a message whose loss is noticed by other means."""
        task = self._loop.create_task(unless_lost(message))
        # The loop itself keeps no task alive.
        self._messages.add(task)
        task.add_done_callback(self._messages.discard)

    def _pass_on(self, events: Iterable[ServerEvent], place: Place) -> None:
        """Emit what happened in a replica, on the clock of this process."""
        for event in events:
            self._emit(with_clock(event, place.ahead_s))
