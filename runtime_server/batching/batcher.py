"""Where rows of all requests meet between two steps to share runs of the engines of one device.

To a stage its `Seat` is an engine like any other: `run` returns the outputs of its own inputs.
Behind the seats stands one `DeviceBatcher`, which runs one engine at a time on whatever `decide`
puts together. There is no thread here: whoever makes a run possible, runs it. A
row alone thus calls its engine as if nothing stood between. Knows engines and arrays; neither
requests nor queues.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from cascade.engine import Engine
from cascade.errors import Cancelled, CascadeError, EngineError
from cascade.types import Array
from runtime_server.batching.batch_arrays import (
    all_finite,
    batch_key,
    cut,
    joined,
    rows_of,
    size_bytes_of,
)
from runtime_server.batching.batch_policy import (
    BatchLimits,
    ExpectedRun,
    Run,
    RunRequest,
    Wait,
    decide,
    saving_s,
)
from runtime_server.batching.step_times import StepTimes
from runtime_server.system.clock import Clock
from runtime_server.telemetry.observer import NullObserver, Observer

Outputs = dict[str, Array]


@dataclass(eq=False, slots=True)
class PendingRun:
    """An ask with its arrays. Its marks change only under the device's lock."""

    ask: RunRequest
    seat: "Seat"
    inputs: Mapping[str, Array]
    woken: threading.Condition
    batch: "tuple[PendingRun, ...]" = ()
    """What its thread is to run, when the choice fell on it."""
    started: bool = False
    ended: bool = False
    outputs: Outputs = field(default_factory=dict)
    error: Exception | None = None

    def end(self, outputs: Outputs, error: Exception | None) -> None:
        """Give it what it waits for; the first answer counts."""
        if not self.ended:
            self.outputs, self.error, self.ended = outputs, error, True
            self.woken.notify()


class Seat:
    """One request inside one component: an engine for its stage. Used by one thread."""

    def __init__(
        self, device: "DeviceBatcher", position: int, due: float, name: str, runs: int
    ) -> None:
        """A seat; `DeviceBatcher.seat` makes them.

        Args:
            device: where it stands.
            position: the component.
            due: when its request should be through.
            name: the request's id.
            runs: of the engine that it is expected to ask for; it may ask for more.
        """
        self._device = device
        self.position = position
        self.due = due
        self.name = name
        self.runs_left = runs
        self.waited_s = 0.0
        """Between asking and the start of the run, in all."""
        self.expected_at: float | None = None
        """When it will ask again, while it is between two runs."""
        self.stop: CascadeError | None = None

    def run(self, inputs: Mapping[str, Array]) -> Outputs:
        """The outputs of these inputs, from a run shared with whom it may be; see `Engine.run`."""
        return self._device.run(self, inputs)

    def terminate(self) -> None:
        """End the row: a run in progress is ended if it serves nobody else."""
        self._device.drop(self, Cancelled("the run was ended from outside"))

    def close(self) -> None:
        """Leave; nobody waits for this row any more."""
        self._device.leave(self)


class DeviceBatcher:
    """One piece of hardware that does one run at a time, and the engines that share it."""

    def __init__(
        self,
        engines: Mapping[int, Engine],
        limits: Mapping[int, BatchLimits],
        names: Mapping[int, str],
        *,
        clock: Clock = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        """A device at rest.

        Args:
            engines: by position; closed by their owner.
            limits: of one run, by position.
            names: of the components, for the observer.
            clock: monotonic seconds.
            observer: is told every run.
        """
        self._engines = dict(engines)
        self._limits = dict(limits)
        self._names = dict(names)
        self._clock = clock
        self._observer: Observer = observer or NullObserver()
        self._lock = threading.Lock()
        self._numbers = count()
        self._seats: set[Seat] = set()
        self._waiting: dict[RunRequest, PendingRun] = {}
        self._running: tuple[PendingRun, ...] = ()
        self._free_since = 0.0
        self._wait_until: float | None = None
        self._run_s = StepTimes()
        self._host_s = StepTimes()

    def seat(self, position: int, *, due: float, name: str, runs: int) -> Seat:
        """A place for one request in one component; its owner closes it."""
        seat = Seat(self, position, due, name, runs)
        with self._lock:
            self._seats.add(seat)
        return seat

    @property
    def inside(self) -> int:
        """Asks that wait or run."""
        with self._lock:
            return len(self._waiting) + len(self._running)

    def limits(self, position: int) -> BatchLimits:
        """What one run of a component may hold, with what is known of its times."""
        with self._lock:
            return self._limits[position]

    def learn(
        self,
        position: int,
        run_s: Mapping[int, float],
        *,
        max_rows: int | None = None,
        pads: bool = False,
    ) -> None:
        """Take over measurements; they count more than what was seen so far.

        Args:
            position: the component.
            run_s: rows to seconds of one run.
            max_rows: the new cap; None leaves it.
            pads: whether contexts of unequal length may share a run.
        """
        with self._lock:
            for rows, seconds in run_s.items():
                self._run_s.restart((position, rows), seconds)
            limits = self._limits[position]
            self._limits[position] = replace(
                limits, max_rows=limits.max_rows if max_rows is None else max_rows, pads=pads
            )
            self._refresh(position)

    def run_seconds(self, position: int) -> dict[int, float]:
        """Rows to the median seconds of a run, as far as known."""
        with self._lock:
            return self._known(position)

    def run(self, seat: Seat, inputs: Mapping[str, Array]) -> Outputs:
        """One run for a seat; returns when it is done."""
        waiting = self._enter(seat, inputs)
        if waiting.batch:
            self._perform(waiting.batch)
        if waiting.error is not None:
            raise waiting.error
        return waiting.outputs

    def drop(self, seat: Seat, error: CascadeError) -> None:
        """End a row with `error`.

        An ask that waits ends at once; one in a shared run at the end of the step at the latest,
        its neighbours untouched; a run that nobody wants any more is ended inside its step. May
        come between two steps or just before the engine begins: ask again until the row has ended.
        """
        with self._lock:
            seat.stop = seat.stop or error
            self._forget(seat)
            for waiting in [w for w in self._waiting.values() if w.seat is seat]:
                del self._waiting[waiting.ask]
                waiting.end({}, seat.stop)
            for waiting in self._running:
                if waiting.seat is seat and not waiting.batch:
                    waiting.end({}, seat.stop)
            if self._running and all(w.seat.stop is not None for w in self._running):
                self._engines[self._running[0].ask.position].terminate()
            self._dispatch()

    def leave(self, seat: Seat) -> None:
        """Expect nothing more of a seat."""
        with self._lock:
            self._forget(seat)
            self._dispatch()

    def _forget(self, seat: Seat) -> None:
        """Do not wait for its next ask."""
        seat.expected_at = None
        self._seats.discard(seat)

    def _enter(self, seat: Seat, inputs: Mapping[str, Array]) -> PendingRun:
        """RunRequest, and wait until the run is done or this thread is the one to do it."""
        with self._lock:
            if seat.stop is not None:
                raise seat.stop
            now = self._clock()
            ask = RunRequest(
                number=next(self._numbers),
                position=seat.position,
                due=seat.due,
                rows=rows_of(inputs),
                size_bytes=size_bytes_of(inputs),
                kind=batch_key(inputs, pads=self._limits[seat.position].pads),
                since=now,
            )
            waiting = PendingRun(ask, seat, inputs, threading.Condition(self._lock))
            if seat.expected_at is not None:
                self._host_s.add((seat.position, 1), now - seat.expected_at)
                seat.expected_at = None
            self._waiting[ask] = waiting
            self._dispatch(waiting)
            while not (waiting.ended or waiting.batch):
                until = self._wait_until
                waiting.woken.wait(None if until is None else max(0.0, until - self._clock()))
                if not (waiting.ended or waiting.started):
                    self._dispatch(waiting)
            return waiting

    def _dispatch(self, here: PendingRun | None = None) -> None:
        """Let a free device do what is next; under the lock.

        Args:
            here: whose thread this is, when it is about to wait.
        """
        self._wait_until = None
        if self._running or not self._waiting:
            return
        decision = decide(
            list(self._waiting),
            self._coming(),
            self._limits,
            free_since=self._free_since,
            now=self._clock(),
        )
        if isinstance(decision, Wait):
            self._wait_until = decision.until
            if here is None:
                # Somebody who sleeps has to look at the clock.
                next(iter(self._waiting.values())).woken.notify()
        elif isinstance(decision, Run):
            self._running = tuple(self._waiting.pop(ask) for ask in decision.asks)
            for waiting in self._running:
                waiting.started = True
            leader = here if here is not None and here.started else self._running[0]
            leader.batch = self._running
            if leader is not here:
                leader.woken.notify()

    def _coming(self) -> list[ExpectedRun]:
        """The rows between two runs."""
        return [
            ExpectedRun(
                position=seat.position,
                due=seat.due,
                expected_at=seat.expected_at + self._host_s.seconds((seat.position, 1)),
            )
            for seat in self._seats
            if seat.expected_at is not None
        ]

    def _perform(self, batch: tuple[PendingRun, ...]) -> None:
        """Run the batch on this thread, hand out the results, and see what is next."""
        begun = self._clock()
        try:
            results = self._together(batch)
        except BaseException:
            results = [({}, EngineError("the run was given up"))] * len(batch)
            raise
        finally:
            ended = self._clock()
            with self._lock:
                self._running = ()
                self._free_since = ended
                self._note(batch, results, begun, ended)
                for waiting, (outputs, failure) in zip(batch, results, strict=True):
                    error = waiting.seat.stop or failure
                    self._expect(waiting.seat, ended, error)
                    waiting.end({} if error else outputs, error)
                self._dispatch()
        name = self._names[batch[0].ask.position]
        self._observer.stepped(name, [w.seat.name for w in batch], begun, ended - begun)

    def _expect(self, seat: Seat, now: float, error: Exception | None) -> None:
        """Note that a row goes on with host work, unless this was its last run."""
        seat.runs_left -= 1
        if error is None and seat.runs_left > 0 and seat in self._seats:
            seat.expected_at = now

    def _note(
        self,
        batch: tuple[PendingRun, ...],
        results: Sequence[tuple[Outputs, Exception | None]],
        begun: float,
        ended: float,
    ) -> None:
        """Learn from a run in which nothing went wrong."""
        for waiting in batch:
            waiting.seat.waited_s += begun - waiting.ask.since
        if any(error is not None for _, error in results):
            return
        position = batch[0].ask.position
        self._run_s.add((position, sum(w.ask.rows for w in batch)), ended - begun)
        self._refresh(position)

    def _refresh(self, position: int) -> None:
        """Bring the limits up to what is measured."""
        known = self._known(position)
        fewest = min(known)
        self._limits[position] = replace(
            self._limits[position], step_s=known[fewest], saving_s=saving_s(known)
        )

    def _known(self, position: int) -> dict[int, float]:
        """Rows to median seconds."""
        return self._run_s.by_rows(position)

    def _together(self, batch: tuple[PendingRun, ...]) -> list[tuple[Outputs, Exception | None]]:
        """Outputs or error of every part, so that no row suffers from another's inputs."""
        engine = self._engines[batch[0].ask.position]
        if len(batch) == 1:
            return [alone(engine, batch[0])]
        try:
            outputs = engine.run(joined([waiting.inputs for waiting in batch]))
            parts = cut(outputs, [waiting.ask.rows for waiting in batch])
        except Cancelled as exc:
            return [({}, exc)] * len(batch)
        except Exception:  # noqa: BLE001 - found again, and raised, by the row whose fault it is
            return [self._again(engine, waiting) for waiting in batch]
        return [
            (part, None) if all_finite(part) else self._again(engine, waiting)
            for waiting, part in zip(batch, parts, strict=True)
        ]

    def _again(self, engine: Engine, waiting: PendingRun) -> tuple[Outputs, Exception | None]:
        """One row of a failed run by itself."""
        if waiting.seat.stop is not None:
            return {}, waiting.seat.stop
        return alone(engine, waiting)


def alone(engine: Engine, waiting: PendingRun) -> tuple[Outputs, Exception | None]:
    """A run of one row's inputs as they are."""
    try:
        outputs = engine.run(waiting.inputs)
    except Exception as exc:  # noqa: BLE001 - raised again on the row's own thread
        return {}, exc
    if not all_finite(outputs):
        return {}, EngineError("the engine's output holds NaN or infinity")
    return outputs, None
