"""A device on which all rows in the making share every run, so that sharing is not left to chance.

A pacer, the most urgent row of all, holds the device between every two runs until each living
row has asked; the stage's engines wait in turn until the pacer is back in its place. Knows the
server's batcher; not what rows are.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial

from cascade.engine import Engine
from cascade.graph_spec import NET
from cascade.types import Array
from runtime_server.batching.batch_policy import BatchLimits
from runtime_server.batching.batcher import DeviceBatcher, HostedEngine, Row
from runtime_server.batching.graph_axes import GraphAxes
from runtime_server.batching.role_key import RoleKey
from runtime_server.telemetry.server_events import EngineRan, ServerEvent, TracedRequest

Run = Callable[[Mapping[str, Array]], dict[str, Array]]
BEAT, STAGE = 0, 1
POLL_S = 0.0005


class RunSizes:
    """A listener that notes how many rows each run of the stage had."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, event: ServerEvent) -> None:
        """One more."""
        if isinstance(event, EngineRan) and event.stage == str(STAGE):
            self.sizes.append(len(event.requests))


class LockstepBatcher:
    """One device, one stage's engines and a pacer."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        max_rows: int,
        axes: Mapping[str, GraphAxes],
        *,
        allows_padding: bool = True,
    ) -> None:
        """No rows yet.

        Args:
            engines: of the stage by role; not closed.
            max_rows: more than ever ask at once.
            axes: of its graphs, by role.
            allows_padding: whether contexts of unequal length share runs.
        """
        self.runs = RunSizes()
        self._lock = threading.Lock()
        self._live = self._held = 0
        limits = BatchLimits(max_rows=max_rows, max_bytes=1 << 40, allows_padding=allows_padding)
        beat = HostedEngine(engine=Call(self._beat), stage=str(BEAT))
        hosted = {RoleKey(BEAT): beat}
        for role, engine in engines.items():
            paced = Call(partial(self._play, engine), engine)
            hosted[RoleKey(STAGE, role)] = HostedEngine(
                engine=paced, stage=str(STAGE), axes=axes[role]
            )
        self.batcher = DeviceBatcher(hosted, dict.fromkeys(hosted, limits), emit=self.runs)
        self._pacer = self._open(BEAT, -math.inf, "beat", {NET: 1})
        self._thread = threading.Thread(target=self._keep_time)

    def begin(self, rows: int) -> None:
        """Hold the device until so many rows have asked."""
        self.add(rows)
        self._thread.start()
        while not self.batcher.inside:
            time.sleep(POLL_S)

    def add(self, rows: int) -> None:
        """So many more rows live, or fewer."""
        with self._lock:
            self._live += rows

    def row(self, number: int, runs: Mapping[str, int]) -> Row:
        """One row, expected to ask for so many runs of each role; closed by the caller."""
        return self._open(STAGE, float(number), str(number), runs)

    def end(self) -> None:
        """Wait for the pacer, which ends with the last row."""
        self._thread.join()

    def _keep_time(self) -> None:
        """The pacer's thread."""
        with closing(self._pacer) as row:
            while self._live:
                row.engines[NET].run({})

    def _open(self, position: int, due: float, name: str, runs: Mapping[str, int]) -> Row:
        """A row that is more urgent than all with a later time."""
        return self.batcher.open_row(
            position, priority_deadline=due, request=TracedRequest(name), runs=runs
        )

    def _beat(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Wait until every living row has asked."""
        del inputs
        while self._live and self.batcher.inside <= self._live:
            time.sleep(POLL_S)
        self._held = self._live
        return {}

    def _play(self, engine: Engine, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Wait until the pacer is back, then run an engine of the stage."""
        while self._live and self.batcher.inside <= self._held:
            time.sleep(POLL_S)
        return engine.run(inputs)


class Call:
    """A function as an engine."""

    def __init__(self, run: Run, ends: Engine | None = None) -> None:
        """An engine.

        Args:
            run: what it does.
            ends: whose run is ended by `terminate`.
        """
        self.run = run
        self._ends = ends

    def terminate(self) -> None:
        """End the true engine's run."""
        if self._ends is not None:
            self._ends.terminate()

    def close(self) -> None:
        """The true engine belongs to somebody else."""
