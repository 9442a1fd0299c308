"""Dynamic batching: rows of all requests share runs of the engines of one device, step by step.

A row is one request inside one component. To its stage, each of the row's `BatchedEngine`s is an
engine like any other: `run` returns the outputs of its own inputs. Behind them stands one
`DeviceBatcher`, which runs one engine at a time on whatever `decide` puts together. Called
elsewhere: continuous or in-flight batching. Knows engines and arrays; neither requests nor queues.

Threads and locks. There is no thread here: the thread of the row that makes a run possible, or that
is chosen while it sleeps, leads the run for all of them. `DeviceBatcher._lock` guards everything
that is mutable here, the marks of rows and pending runs included. A thread that waits sleeps on a
condition of that lock, one for each pending run, so that exactly one can be woken.

- Order: the workers' lock may be held when this one is taken, and the lock of `MeasuredLimits` is
  taken under it. Nothing here takes the workers' lock.
- Under the lock: `decide`, which is pure, and `Engine.terminate`, which returns at once. Never
  `Engine.run`, never `emit`.
- Neither is the host's work after a run, which its leader does once the device is free.
- `_running` is the token of the device: who sets it, under the lock, chooses the leader too; only
  the leader clears it. So at most one engine runs, and a run always has one thread that ends it.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count

from cascade.engine import Engine
from cascade.errors import Cancelled, CascadeError, EngineError
from cascade.host_work import HostWork, WorkedRun
from cascade.types import Array
from runtime_server.batching.batch_arrays import batch_key, rows_of, size_bytes_of
from runtime_server.batching.batch_policy import (
    BatchLimits,
    ExpectedRun,
    RunNow,
    RunRequest,
    WaitUntil,
    decide,
)
from runtime_server.batching.graph_axes import GraphAxes
from runtime_server.batching.measured_limits import MeasuredLimits
from runtime_server.batching.role_key import RoleKey
from runtime_server.batching.shared_run import (
    RowResult,
    members_of,
    run_together,
    work_together,
)
from runtime_server.batching.step_times import StepTimes
from runtime_server.system.clock import Clock
from runtime_server.telemetry.server_events import Emit, EngineRan, TracedRequest, ignore

NO_AXES = GraphAxes()
"""Of a graph of which nothing is known: nothing is padded, and outputs count nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostedEngine:
    """One engine of the device."""

    engine: Engine
    """Closed by its owner."""
    stage: str
    """The component's name, for events."""
    axes: GraphAxes = NO_AXES


@dataclass(eq=False, slots=True)
class PendingRun:
    """A run that a row's thread waits for, with its arrays."""

    request: RunRequest
    row: "Row"
    inputs: Mapping[str, Array]
    woken: threading.Condition
    work: HostWork | None = None
    """What follows its run on the host, if other rows can share it."""
    batch: "tuple[PendingRun, ...]" = ()
    """What its thread is to run, when the choice fell on it."""
    started: bool = False
    ended: bool = False
    result: RowResult = field(default_factory=RowResult)

    @property
    def is_cancelled(self) -> bool:
        """Whether nothing waits for its result any more."""
        return self.row.stop is not None

    def end(self, result: RowResult) -> None:
        """Give it what it waits for; the first answer counts."""
        if not self.ended:
            self.result, self.ended = result, True
            self.woken.notify()


class Row:
    """One request inside one component. Used by one thread; its marks are the batcher's."""

    def __init__(
        self,
        batcher: "DeviceBatcher",
        position: int,
        priority_deadline: float,
        request: TracedRequest,
        runs: Mapping[str, int],
    ) -> None:
        """A row; `DeviceBatcher.open_row` makes them."""
        self._batcher = batcher
        self.position = position
        self.priority_deadline = priority_deadline
        self.request = request
        self.engines: Mapping[str, Engine] = {
            role: BatchedEngine(self, RoleKey(position, role)) for role in runs
        }
        """By role, for the stage."""
        self._runs = dict(runs)
        self.runs_left = dict(runs)
        """By role; the row may ask for more than it was expected to."""
        self.waited_s = 0.0
        """Between asking and the start of the run, in all."""
        self.worked_s = 0.0
        """After runs, while the host's work of several rows was done together, in all."""
        self.expected_at: float | None = None
        """Since when it is between two runs; None while it is not."""
        self.stop: CascadeError | None = None
        """What it is to end with, once it was cancelled."""
        self.last_role = next(iter(runs), "")
        """Of the engine that it asked last."""
        self.failed_role = ""
        """Of the engine that failed it, if one did."""

    @property
    def next_key(self) -> RoleKey | None:
        """The engine that it is expected to ask for next.

        Roles take turns as evenly as their numbers of runs allow, in their order: one encoder, then
        all of its decoder; or again and again a body, then its three heads.
        """
        left = [role for role, runs in self.runs_left.items() if runs > 0]
        if not left:
            return None
        return RoleKey(self.position, max(left, key=self._left_of))

    def _left_of(self, role: str) -> Fraction:
        """The share of a role's runs that is still to come."""
        # No float: thirds have to be equal to thirds, or the order of roles would not decide.
        return Fraction(self.runs_left[role], self._runs[role])

    def run(
        self, key: RoleKey, inputs: Mapping[str, Array], work: HostWork | None = None
    ) -> WorkedRun:
        """One run for the row, and perhaps the work that follows it; returns when it is done."""
        return self._batcher.run(self, key, inputs, work)

    def cancel(self) -> None:
        """End the row: a run in progress is ended if it serves no other row."""
        self._batcher.cancel(self, Cancelled("the run was ended from outside"))

    def close(self) -> None:
        """No more runs will be asked for, and no other row waits for this one."""
        self._batcher.close_row(self)


class BatchedEngine:
    """A row's engine for one role: the stage calls it as it would call the engine itself."""

    def __init__(self, row: Row, key: RoleKey) -> None:
        self._row = row
        self._key = key

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of these inputs, from a run that other rows may share; see `Engine.run`."""
        return self._row.run(self._key, inputs).outputs

    def run_with(self, inputs: Mapping[str, Array], work: HostWork) -> WorkedRun:
        """The same, and what the work comes to if it is done together with other rows'."""
        return self._row.run(self._key, inputs, work)

    def terminate(self) -> None:
        """End the row, and its run in progress if that serves no other."""
        self._row.cancel()

    def close(self) -> None:
        """Nothing: the row is closed by whoever opened it, the engine by its owner."""


class DeviceBatcher:
    """One piece of hardware that does one run at a time, and the engines that share it."""

    def __init__(
        self,
        engines: Mapping[RoleKey, HostedEngine],
        limits: Mapping[RoleKey, BatchLimits],
        *,
        clock: Clock = time.monotonic,
        emit: Emit = ignore,
    ) -> None:
        """A device at rest.

        Args:
            engines: all that run on it.
            limits: of one run, by engine.
            clock: monotonic seconds.
            emit: where every run is told.
        """
        self._engines = dict(engines)
        self.limits = MeasuredLimits(limits)
        """What one run may hold, and what is known of its times."""
        self._clock = clock
        self._emit = emit
        self._lock = threading.Lock()
        self._numbers = count()
        self._rows: set[Row] = set()
        self._waiting: dict[RunRequest, PendingRun] = {}
        self._running: tuple[PendingRun, ...] = ()
        self._free_since = 0.0
        self._wait_until: float | None = None
        self._host_s = StepTimes()

    def open_row(
        self,
        position: int,
        *,
        priority_deadline: float,
        request: TracedRequest,
        runs: Mapping[str, int],
    ) -> Row:
        """A row for one request in one component; closed by the caller.

        Args:
            position: the component.
            priority_deadline: when the request should be through.
            request: for events.
            runs: of each role's engine that it is expected to ask for.
        """
        row = Row(self, position, priority_deadline, request, runs)
        # Known from now on, so that a run can be held back for its first one to come after another.
        with self._lock:
            self._rows.add(row)
        return row

    @property
    def inside(self) -> int:
        """Runs that wait or are in progress, counted by row."""
        with self._lock:
            return len(self._waiting) + len(self._running)

    def run(
        self,
        row: Row,
        key: RoleKey,
        inputs: Mapping[str, Array],
        work: HostWork | None = None,
    ) -> WorkedRun:
        """One run for a row; returns when it is done.

        Args:
            row: that asks.
            key: which engine.
            inputs: of its graph.
            work: what follows on the host, if the rows of this run may share it.
        """
        pending = self._wait_for_turn(row, key, inputs, work)
        if pending.batch:
            self._lead(pending.batch)
            # The leader is one of its own batch: such a circle would keep the arrays of the run,
            # 24 MiB and more at 1024, until the garbage collector comes by.
            pending.batch = ()
        if pending.result.error is not None:
            raise pending.result.error
        return WorkedRun(pending.result.outputs, pending.result.found)

    def cancel(self, row: Row, error: CascadeError) -> None:
        """End a row with `error`.

        A run that waits ends at once; one that is shared at the end of the step at the latest, the
        other rows untouched; a run in which every row is cancelled is ended inside its step. May
        come between two steps or just before the engine begins: call again until the row has ended.
        """
        with self._lock:
            # The first reason is the one that its caller is told.
            row.stop = row.stop or error
            self._expect_nothing(row)
            for pending in [p for p in self._waiting.values() if p.row is row]:
                del self._waiting[pending.request]
                pending.end(RowResult(error=row.stop))
            for pending in self._running:
                # The leader ends with its run: its thread is in it.
                if pending.row is row and not pending.batch:
                    pending.end(RowResult(error=row.stop))
            # Somebody's result is still wanted otherwise; theirs is cut out of the run when it is
            # over.
            if self._running and all(pending.is_cancelled for pending in self._running):
                self._engines[self._running[0].request.key].engine.terminate()
            self._dispatch()

    def close_row(self, row: Row) -> None:
        """Expect nothing more of a row."""
        with self._lock:
            self._expect_nothing(row)
            # A run may have been held back for this row.
            self._dispatch()

    def _expect_nothing(self, row: Row) -> None:
        """Do not hold a run back for a row any more; under the lock."""
        row.expected_at = None
        self._rows.discard(row)

    def _wait_for_turn(
        self, row: Row, key: RoleKey, inputs: Mapping[str, Array], work: HostWork | None
    ) -> PendingRun:
        """Ask, and sleep until the run is done or this thread is the one to lead it."""
        # Both are replaced and never changed, so they can be read before the lock is taken.
        axes = self._engines[key].axes
        allows_padding = self.limits.present[key].allows_padding
        with self._lock:
            if row.stop is not None:
                raise row.stop
            row.last_role = key.role
            now = self._clock()
            request = RunRequest(
                number=next(self._numbers),
                key=key,
                priority_deadline=row.priority_deadline,
                rows=rows_of(inputs),
                size_bytes=size_bytes_of(inputs, axes),
                batch_key=batch_key(inputs, axes, allows_padding=allows_padding),
                since=now,
            )
            pending = PendingRun(request, row, inputs, threading.Condition(self._lock), work)
            # What it took between two runs is what the next wait for it is estimated by.
            if row.expected_at is not None:
                self._host_s.add(key, 1, now - row.expected_at)
                row.expected_at = None
            self._waiting[request] = pending
            self._dispatch(pending)
            while not (pending.ended or pending.batch):
                until = self._wait_until
                pending.woken.wait(None if until is None else max(0.0, until - self._clock()))
                # Woken by the clock: the wait for others is over, and nobody else may be awake.
                if not (pending.ended or pending.started):
                    self._dispatch(pending)
            return pending

    def _dispatch(self, here: PendingRun | None = None) -> None:
        """Let a free device do what is next; under the lock.

        Args:
            here: whose thread this is, when it is about to sleep: it looks at the clock itself, and
                leads its own run without a switch of threads.
        """
        # A decision holds until rows or runs change; then it is made anew.
        self._wait_until = None
        if self._running or not self._waiting:
            return
        decision = decide(
            list(self._waiting),
            self._expected(),
            self.limits.present,
            free_since=self._free_since,
            now=self._clock(),
        )
        if isinstance(decision, WaitUntil):
            self._wait_until = decision.until
            if here is None:
                # One of those that sleep has to look at the clock in time.
                next(iter(self._waiting.values())).woken.notify()
        elif isinstance(decision, RunNow):
            self._running = tuple(self._waiting.pop(request) for request in decision.requests)
            for pending in self._running:
                pending.started = True
            leader = here if here is not None and here.started else self._running[0]
            leader.batch = self._running
            if leader is not here:
                leader.woken.notify()

    def _expected(self) -> list[ExpectedRun]:
        """The rows between two runs; under the lock."""
        found = []
        for row in self._rows:
            key = row.next_key
            if key is not None and row.expected_at is not None:
                found.append(
                    ExpectedRun(
                        key=key,
                        priority_deadline=row.priority_deadline,
                        expected_at=row.expected_at + self._host_s.seconds(key),
                    )
                )
        return found

    def _lead(self, batch: tuple[PendingRun, ...]) -> None:
        """Run the batch on this thread, hand out the results, and see what is next."""
        key = batch[0].request.key
        hosted = self._engines[key]
        begun = self._clock()
        # Whatever ends this thread, the rows that wait for it must not wait for ever.
        results = [RowResult(error=EngineError("the run was given up"))] * len(batch)
        try:
            results = run_together(hosted.engine, batch, hosted.axes)
        finally:
            ended = self._clock()
            self._finish(batch, results, begun, ended)
        if members_of(batch, results):
            self._work(batch, results)
        # Without the lock, and after the results: listeners must not hold up the next run.
        requests = tuple(pending.row.request for pending in batch)
        self._emit(EngineRan(hosted.stage, requests, begun, ended - begun))

    def _work(self, batch: tuple[PendingRun, ...], results: Sequence[RowResult]) -> None:
        """Do the work that follows a run on this thread, and hand out what it comes to."""
        begun = self._clock()
        try:
            results = work_together(batch, results)
        finally:
            seconds = self._clock() - begun
            with self._lock:
                for pending in batch:
                    pending.row.worked_s += seconds
                self._hand_out(batch, results)

    def _finish(
        self,
        batch: tuple[PendingRun, ...],
        results: Sequence[RowResult],
        begun: float,
        ended: float,
    ) -> None:
        """Free the device, hand out the results unless work follows, and let the next run begin."""
        key = batch[0].request.key
        # A run that failed was done again row by row: its time says nothing of sharing.
        if all(result.error is None for result in results):
            self.limits.note(key, sum(p.request.rows for p in batch), ended - begun)
        with self._lock:
            self._running = ()
            self._free_since = ended
            for pending, result in zip(batch, results, strict=True):
                row = pending.row
                row.waited_s += begun - pending.request.since
                row.runs_left[key.role] -= 1
                # A run that was ended from outside is no fault of the engine.
                if result.error is not None and row.stop is None:
                    row.failed_role = key.role
                works = (row.stop or result.error) is None
                if works and row.next_key is not None and row in self._rows:
                    row.expected_at = ended
            # The device is free while their work is done: others run beside it.
            if not members_of(batch, results):
                self._hand_out(batch, results)
            self._dispatch()

    def _hand_out(self, batch: Sequence[PendingRun], results: Sequence[RowResult]) -> None:
        """Give every row its result, or what it is to end with; under the lock."""
        for pending, result in zip(batch, results, strict=True):
            error = pending.row.stop or result.error
            pending.end(RowResult(error=error) if error else result)
