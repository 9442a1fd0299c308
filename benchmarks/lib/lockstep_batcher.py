"""A device on which all rows in the making share every run, so that company is not left to chance.

A metronome, the most urgent row of all, holds the device between every two runs until each living
row has asked; the stage's engine waits in turn until the metronome is back in its place. Knows the
server's meeting point; not what rows are.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from cascade.engine import Engine
from cascade.types import Array
from runtime_server.batching.batch_policy import BatchLimits
from runtime_server.batching.batcher import DeviceBatcher, Seat
from runtime_server.telemetry.observer import Observer

Run = Callable[[Mapping[str, Array]], dict[str, Array]]
BEAT, STAGE = 0, 1
POLL_S = 0.0005


class RunSizes(Observer):
    """Notes how many rows each run of the stage had."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def stepped(self, stage: str, request_ids: Sequence[str], begun: float, seconds: float) -> None:
        """One more."""
        del begun, seconds
        if stage == str(STAGE):
            self.sizes.append(len(request_ids))


class Rehearsal:
    """One device, one stage's engine and a metronome."""

    def __init__(self, engine: Engine, max_rows: int, *, pads: bool = True) -> None:
        """Nobody there yet.

        Args:
            engine: of the stage; not closed.
            max_rows: more than ever ask at once.
            pads: whether contexts of unequal length share runs.
        """
        self.runs = RunSizes()
        self._engine = engine
        self._lock = threading.Lock()
        self._live = self._held = 0
        limits = BatchLimits(max_rows=max_rows, max_bytes=1 << 40, pads=pads)
        self.device = DeviceBatcher(
            {BEAT: Call(self._beat), STAGE: Call(self._play, engine)},
            {BEAT: limits, STAGE: limits},
            {BEAT: str(BEAT), STAGE: str(STAGE)},
            observer=self.runs,
        )
        self._seat = self.device.seat(BEAT, due=-math.inf, name="beat", runs=1)
        self._thread = threading.Thread(target=self._keep_time)

    def begin(self, rows: int) -> None:
        """Hold the device until so many rows have asked."""
        self.add(rows)
        self._thread.start()
        while not self.device.inside:
            time.sleep(POLL_S)

    def add(self, rows: int) -> None:
        """So many more rows live, or fewer."""
        with self._lock:
            self._live += rows

    def seat(self, row: int, runs: int) -> Seat:
        """The place of one row."""
        return self.device.seat(STAGE, due=float(row), name=str(row), runs=runs)

    def end(self) -> None:
        """Wait for the metronome, which ends with the last row."""
        self._thread.join()

    def _keep_time(self) -> None:
        """The metronome's thread."""
        with closing(self._seat):
            while self._live:
                self._seat.run({})

    def _beat(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Wait until every living row has asked."""
        del inputs
        while self._live and self.device.inside <= self._live:
            time.sleep(POLL_S)
        self._held = self._live
        return {}

    def _play(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Wait until the metronome is back, then run the stage's engine."""
        while self._live and self.device.inside <= self._held:
            time.sleep(POLL_S)
        return self._engine.run(inputs)


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
