"""The stages that run on this machine: opened when first needed, kept open, shared by all requests.

The only file here that reaches an engine (through `cascade.engines.factory`). Knows the bundle; not
requests.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import cast

from cascade.bundle.bundle import Bundle
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, open_engine
from cascade.errors import Cancelled
from cascade.stage import EngineStage, Stage
from cascade.stage_factory import open_stage
from cascade.tuning.memory_needs import check_fits
from cascade.tuning.options import EngineOptions
from cascade.tuning.plan import plan_here
from cascade.types import Array
from cascade.weights.source import GraphSource
from runtime_client.deadline import Deadline

INSIST_S = 0.05
"""Between two attempts to end a run that is late."""


class SerializedEngine:
    """An engine whose runs never overlap, from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "cascade-engine")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run when it is this caller's turn; see `Engine.run`."""
        with self._turn:
            return self._engine.run(inputs)

    def run_until(self, deadline: Deadline, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run when it is this caller's turn, and no longer than the deadline allows.

        On a thread of the engine's own: a signal reaches this one only while it waits in Python.

        Raises:
            DeadlineExceeded: the turn did not come, or the run was ended inside.
            Cancelled: the request was ended from another thread, and the run with it.
        """
        while not self._turn.acquire(timeout=deadline.patience_s()):
            deadline.remaining_s()
        try:
            running = self._thread.submit(self._engine.run, inputs)
            try:
                return result_of(running, deadline)
            finally:
                # Again and again: it may only be about to begin.
                while not running.done():
                    self._engine.terminate()
                    wait([running], INSIST_S)
        finally:
            self._turn.release()

    def terminate(self) -> None:
        """End the run in progress, of any request."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine once the run in progress has ended."""
        self._engine.terminate()
        with self._turn:
            # Under the turn: closing an engine inside a run is undefined in every backend.
            self._engine.close()
        self._thread.shutdown()


def result_of(running: "Future[dict[str, Array]]", deadline: Deadline) -> dict[str, Array]:
    """What a run comes to, waited for no longer than the deadline allows."""
    while True:
        try:
            return running.result(deadline.patience_s())
        except TimeoutError as exc:
            # The wait is over, and perhaps the time: an engine's own error is the run's.
            if running.done():
                raise
            if deadline.is_over:
                raise deadline.exceeded() from exc


class TimedEngine:
    """What one request has of an engine that it shares: runs that end at its deadline."""

    def __init__(self, shared: SerializedEngine, deadline: Deadline) -> None:
        self._shared = shared
        self._deadline = deadline

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run; see `SerializedEngine.run_until`."""
        return self._shared.run_until(self._deadline, inputs)

    def terminate(self) -> None:
        """End the run in progress."""
        self._shared.terminate()

    def close(self) -> None:
        """Nothing: it belongs to all."""


class LocalStages:
    """Components of one bundle as stages here."""

    def __init__(self, bundle: Bundle, engine_options: EngineOptions) -> None:
        """Nothing is opened yet.

        Args:
            bundle: an opened bundle.
            engine_options: what to run its graphs with.
        """
        self._bundle = bundle
        self._options = engine_options
        self._lock = threading.Lock()
        self._open: dict[int, EngineStage] = {}
        self._closed = False
        self._load_s: dict[int, float] = {}

    def open(self, positions: Sequence[int]) -> None:
        """Open components one after another, the last one first.

        Opening an engine takes twice the memory that it has afterwards: of the reference cascade
        at cut 2, side by side, half as much again as the client ever holds. It takes both cores
        too, so that little time is lost. The text encoder comes last: its weights are the largest.

        Raises:
            CascadeError: see `at`; those that could be opened stay open.
        """
        with self._lock:
            if self._closed:
                raise Cancelled("the client was closed")
            missing = [position for position in positions if position not in self._open]
            with ThreadPoolExecutor(1, "open") as pool:
                opening = {at: pool.submit(self._open_stage, at) for at in reversed(missing)}
            opened = [at for at in missing if opening[at].exception() is None]
            self._open |= {at: opening[at].result() for at in opened}
        for future in opening.values():
            future.result()

    def at(self, position: int, deadline: Deadline) -> Stage:
        """The component at that position, for one request.

        Args:
            position: from 0.
            deadline: when its runs must be over; the loading is not interrupted.

        Raises:
            ManifestError: its file is not what the manifest says.
            EngineError: its graph cannot be loaded.
            InvalidRequest: no engine here does what the options ask for.
        """
        with self._lock:
            # The lock is held while a graph loads, so that two requests never load it twice; they
            # would wait anyway.
            if position not in self._open:
                self._open[position] = self._open_stage(position)
            stage = self._open[position]
        return stage.with_engines(
            {
                # `make_engine` below made them.
                role: TimedEngine(cast(SerializedEngine, engine), deadline)
                for role, engine in stage.engines.items()
            }
        )

    @property
    def load_s(self) -> Mapping[int, float]:
        """Seconds that each open component took to open, by position; never waits."""
        return dict(self._load_s)

    def close(self) -> None:
        """Release every engine."""
        with self._lock:
            self._closed = True
            for stage in self._open.values():
                stage.close()
            self._open.clear()

    def _open_stage(self, position: int) -> EngineStage:
        begun = time.perf_counter()
        plan = plan_here(self._bundle.manifest, self._options, (position,))
        check_fits(self._bundle, (position,), plan)

        def make_engine(graph: GraphSource, choice: EngineChoice) -> Engine:
            return SerializedEngine(open_engine(graph, choice, cache=plan.cache))

        stage = open_stage(self._bundle, position, plan, make_engine)
        self._load_s[position] = time.perf_counter() - begun
        return stage
