"""Rows that meet at one device: shared runs, the token, dropping, and one row's fault."""

import gc
import queue
import threading
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from cascade.errors import Cancelled, EngineError
from cascade.graph_spec import NET
from cascade.types import Array
from runtime_server.batching.batch_policy import BatchLimits
from runtime_server.batching.batcher import DeviceBatcher, HostedEngine, Row
from runtime_server.batching.role_key import RoleKey
from runtime_server.telemetry.server_events import TracedRequest
from tests.support.serving import wait_until

NAN = float("nan")


class PlusOne:
    """Adds one to each row; every run waits for the test. A row of 13 makes it fail."""

    def __init__(self, busy: list[str], name: str) -> None:
        self.batches: list[list[float]] = []
        self.entered = threading.Semaphore(0)
        self.permits: queue.Queue[str] = queue.Queue()
        self.ended = 0
        self._busy, self._name = busy, name

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """`prediction` of `x_t`."""
        self._busy.append(self._name)
        assert self._busy == [self._name], "two engines ran at once"
        self.batches.append(inputs["x_t"][:, 0].tolist())
        self.entered.release()
        permit = self.permits.get(timeout=60)
        self._busy.pop()
        if permit == "terminated":
            raise Cancelled("ended")
        if 13 in inputs["x_t"]:
            raise EngineError("a row of 13")
        return {"prediction": inputs["x_t"] + np.float32(1)}

    def terminate(self) -> None:
        """End the run."""
        self.ended += 1
        self.permits.put("terminated")

    def close(self) -> None:
        """Nothing."""


class Table:
    """A device with two engines, and threads for its rows."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        busy: list[str] = []
        self.engines = {1: PlusOne(busy, "first"), 2: PlusOne(busy, "second")}
        limits = BatchLimits(max_rows=4, max_bytes=10**6)
        self.batcher = DeviceBatcher(
            {
                RoleKey(position): HostedEngine(engine=engine, stage=f"stage {position}")
                for position, engine in self.engines.items()
            },
            {RoleKey(position): limits for position in self.engines},
        )
        self._pool = pool

    def row(self, due: float = 1.0, position: int = 1) -> Row:
        """One request inside one component."""
        return open_row(self.batcher, position, due)

    def ask(self, row: Row, value: float, rows: int = 1) -> Future[float]:
        """What a row gets back, on a thread of its own; returns once the row has asked."""
        before = self.inside
        x = np.full((rows, 1), value, np.float32)
        future = self._pool.submit(
            lambda: float(row.engines[NET].run({"x_t": x})["prediction"][0, 0])
        )
        wait_until(lambda: self.inside > before or future.done())
        return future

    @property
    def inside(self) -> int:
        """Asks that wait or run."""
        return self.batcher.inside

    def wait_entered(self, position: int = 1) -> None:
        """Until the engine is in a run."""
        assert self.engines[position].entered.acquire(timeout=60)

    def go(self, position: int = 1, runs: int = 1) -> None:
        """Let the engine finish so many runs."""
        for _ in range(runs):
            self.engines[position].permits.put("go")


def open_row(batcher: DeviceBatcher, position: int, due: float, runs: int = 1) -> Row:
    """One request inside one component, named by when it is due."""
    return batcher.open_row(
        position, priority_deadline=due, request=TracedRequest(f"r{due}"), runs={NET: runs}
    )


@pytest.fixture
def table() -> Iterator[Table]:
    """A device at rest; nobody is left at it in the end."""
    with ThreadPoolExecutor(8) as pool:
        made = Table(pool)
        yield made
        wait_until(lambda: made.inside == 0)


def test_who_asks_while_the_engine_runs_shares_the_next_run(table: Table) -> None:
    """Each gets its own slice, the most urgent first in the run."""
    first = table.ask(table.row(1.0), 10)
    table.wait_entered()
    others = [table.ask(table.row(due), value) for due, value in ((3.0, 30), (2.0, 20))]
    table.go(runs=2)
    assert first.result(10) == 11
    assert [other.result(10) for other in others] == [31, 21]
    assert table.engines[1].batches == [[10], [20, 30]]


def test_the_halves_of_a_row_stay_together(table: Table) -> None:
    """Two samples of one ask count two, and come back to it."""
    first = table.ask(table.row(1.0), 10)
    table.wait_entered()
    pairs = [table.ask(table.row(2.0 + n), 20 + n, rows=2) for n in range(3)]
    table.go(runs=3)
    assert first.result(10) == 11
    assert [pair.result(10) for pair in pairs] == [21, 22, 23]
    assert table.engines[1].batches == [[10], [20, 20, 21, 21], [22, 22]]


def test_two_engines_of_a_device_never_run_at_once(table: Table) -> None:
    """The token: the second begins when the first is through. The engines themselves assert it."""
    futures = [table.ask(table.row(1.0, 1), 1)]
    table.wait_entered(1)
    futures += [table.ask(table.row(2.0, 2), 2), table.ask(table.row(3.0, 1), 3)]
    assert not table.engines[2].batches
    table.go(1)
    table.wait_entered(2)
    assert len(table.engines[1].batches) == 1
    table.go(2)
    table.go(1)
    assert [future.result(10) for future in futures] == [2, 3, 4]


def test_a_poisoned_row_does_not_fail_its_neighbours(table: Table) -> None:
    """The run is done again row by row; only whose inputs are at fault is told."""
    first = table.ask(table.row(1.0), 10)
    table.wait_entered()
    rows = [table.ask(table.row(2.0 + n), value) for n, value in enumerate((20, 13, 40))]
    table.go(runs=5)
    assert first.result(10) == 11
    assert [rows[0].result(10), rows[2].result(10)] == [21, 41]
    with pytest.raises(EngineError, match="a row of 13"):
        rows[1].result(10)
    assert table.engines[1].batches == [[10], [20, 13, 40], [20], [13], [40]]


def test_numbers_that_are_not_finite_fail_their_own_row(table: Table) -> None:
    """In a shared run and alone."""
    first = table.ask(table.row(1.0), NAN)
    table.wait_entered()
    rows = [table.ask(table.row(2.0 + n), value) for n, value in enumerate((20, NAN))]
    table.go(runs=3)
    assert rows[0].result(10) == 21
    for poisoned in (first, rows[1]):
        with pytest.raises(EngineError, match="NaN or infinity"):
            poisoned.result(10)


def test_a_dropped_row_that_waits_ends_at_once(table: Table) -> None:
    """It never reaches the engine."""
    first = table.ask(table.row(1.0), 10)
    table.wait_entered()
    row = table.row(2.0)
    waiting = table.ask(row, 20)
    table.batcher.cancel(row, Cancelled("enough"))
    with pytest.raises(Cancelled, match="enough"):
        waiting.result(10)
    table.go()
    assert first.result(10) == 11
    assert table.engines[1].batches == [[10]]
    with pytest.raises(Cancelled, match="enough"):
        row.engines[NET].run({"x_t": np.zeros((1, 1), np.float32)})


def test_a_row_dropped_alone_is_ended_inside_its_step(table: Table) -> None:
    """The engine is told, and the next run is not affected."""
    row = table.row(1.0)
    running = table.ask(row, 10)
    table.wait_entered()
    waiting = table.ask(table.row(2.0), 20)
    table.batcher.cancel(row, Cancelled("enough"))
    with pytest.raises(Cancelled, match="enough"):
        running.result(10)
    table.go()
    assert waiting.result(10) == 21
    assert table.engines[1].ended == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_row_dropped_in_company_leaves_its_neighbour_untouched(
    table: Table, order: tuple[int, int]
) -> None:
    """Whoever's thread does the run; only when nobody wants it any more is the run ended."""
    first = table.ask(table.row(1.0), 10)
    table.wait_entered()
    rows = [table.row(2.0), table.row(3.0)]
    pending = [table.ask(row, 20.0) for row in rows]
    table.go()
    table.wait_entered()
    assert first.result(10) == 11
    table.batcher.cancel(rows[order[0]], Cancelled("enough"))
    assert not pending[order[1]].done()
    assert table.engines[1].ended == 0
    table.go()
    assert pending[order[1]].result(10) == 21
    with pytest.raises(Cancelled, match="enough"):
        pending[order[0]].result(10)


def test_a_shared_run_that_nobody_wants_is_ended(table: Table) -> None:
    """Both pending were dropped."""
    first = table.ask(table.row(1.0), 10)
    table.wait_entered()
    rows = [table.row(2.0), table.row(3.0)]
    pending = [table.ask(row, 20.0) for row in rows]
    table.go()
    table.wait_entered()
    assert first.result(10) == 11
    for row in rows:
        table.batcher.cancel(row, Cancelled("enough"))
    for result in pending:
        with pytest.raises(Cancelled, match="enough"):
            result.result(10)
    assert table.engines[1].ended == 1


class Timed:
    """An engine on a clock of its own: 10 s for one row, 11 s for two; no real time passes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.now = 0.0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The input."""
        rows = len(inputs["x_t"])
        self.now += 9.0 + rows
        self.sizes.append(rows)
        return {"prediction": inputs["x_t"]}

    def terminate(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def timed(engine: Timed, run_s: dict[int, float]) -> DeviceBatcher:
    """A device with that engine, whose runs of one and two rows take so long."""
    key = RoleKey(1)
    batcher = DeviceBatcher(
        {key: HostedEngine(engine=engine, stage="a")},
        {key: BatchLimits(max_rows=2, max_bytes=10**6)},
        clock=lambda: engine.now,
    )
    batcher.limits.learn(key, run_s)
    return batcher


def test_rows_between_two_runs_are_waited_for_where_sharing_saves() -> None:
    """Rows in step share every run, and who has left is not waited for."""
    engine = Timed()
    batcher = timed(engine, {1: 10.0, 2: 11.0})
    gates = [threading.Semaphore(0), threading.Semaphore(0)]

    def steps(index: int) -> None:
        with closing(open_row(batcher, 1, float(index), runs=3)) as row:
            for _ in range(3):
                assert gates[index].acquire(timeout=60)
                row.engines[NET].run({"x_t": np.zeros((1, 1), np.float32)})

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(steps, index) for index in range(2)]
        gates[0].release()
        wait_until(lambda: engine.sizes == [1])
        for runs in (2, 3):
            # The first is between two runs: the second waits for it.
            gates[1].release()
            wait_until(lambda: batcher.inside == 1)
            gates[0].release()
            wait_until(lambda runs=runs: len(engine.sizes) == runs)
        gates[1].release()
        for future in futures:
            future.result(10)
    assert engine.sizes == [1, 2, 2, 1]


def test_roles_that_take_turns_are_expected_in_turns() -> None:
    """A body, then three heads, twice: after each run the next one is the engine that is named."""
    engine = Timed()
    keys = {role: RoleKey(1, role) for role in ("pass", "heads")}
    batcher = DeviceBatcher(
        {key: HostedEngine(engine=engine, stage="a") for key in keys.values()},
        dict.fromkeys(keys.values(), BatchLimits(max_rows=2, max_bytes=10**6)),
        clock=lambda: engine.now,
    )
    runs = {"pass": 2, "heads": 6}
    row = batcher.open_row(1, priority_deadline=1.0, request=TracedRequest("r"), runs=runs)
    for role in ("pass", "heads", "heads", "heads") * 2:
        assert row.next_key == keys[role]
        row.engines[role].run({"x_t": np.zeros((1, 1), np.float32)})
    assert row.next_key is None


def test_nobody_is_waited_for_where_sharing_saves_nothing() -> None:
    """The same rows, with two in a run as slow as two runs."""
    engine = Timed()
    batcher = timed(engine, {1: 10.0, 2: 20.0})
    for row in [open_row(batcher, 1, due, runs=2) for due in (2.0, 1.0)]:
        row.engines[NET].run({"x_t": np.zeros((1, 1), np.float32)})
    assert engine.sizes == [1, 1]


def test_the_engines_of_one_component_are_told_apart_by_role() -> None:
    """Each role has limits and times of its own, and a failure names the role that failed."""
    encoder, decoder = Timed(), Timed()
    keys = [RoleKey(1, "encoder"), RoleKey(1, "decoder")]
    batcher = DeviceBatcher(
        {
            key: HostedEngine(engine=engine, stage="a")
            for key, engine in zip(keys, (encoder, decoder), strict=True)
        },
        dict.fromkeys(keys, BatchLimits(max_rows=2, max_bytes=10**6)),
        clock=lambda: encoder.now + decoder.now,
    )
    request = TracedRequest("r")
    runs = {"encoder": 1, "decoder": 2}
    row = batcher.open_row(1, priority_deadline=1.0, request=request, runs=runs)
    assert row.next_key == keys[0]
    row.engines["encoder"].run({"x_t": np.zeros((1, 1), np.float32)})
    assert row.next_key == keys[1]
    for _ in range(2):
        row.engines["decoder"].run({"x_t": np.zeros((1, 1), np.float32)})
    assert row.next_key is None
    assert (encoder.sizes, decoder.sizes) == ([1], [1, 1])
    assert batcher.limits.run_seconds(keys[0]) == batcher.limits.run_seconds(keys[1]) == {1: 10.0}
    assert row.failed_role == ""
    with pytest.raises(EngineError):
        row.engines["decoder"].run({"x_t": np.full((1, 1), NAN, np.float32)})
    assert row.failed_role == "decoder"


def asked(row: Row, value: float, dead: list[weakref.ref[np.ndarray]]) -> None:
    """One run of which only weak references are left."""
    x = np.full((1, 1), value, np.float32)
    dead.append(weakref.ref(x))
    dead.append(weakref.ref(row.engines[NET].run({"x_t": x})["prediction"]))


def test_arrays_of_a_run_are_free_once_it_is_done(table: Table) -> None:
    """At once, the leader's and its neighbours', not when the garbage collector comes by."""
    dead: list[weakref.ref[np.ndarray]] = []
    gc.disable()
    try:
        first = table.ask(table.row(1.0), 10)
        table.wait_entered()
        threads = [
            threading.Thread(target=asked, args=(table.row(2.0 + n), 20.0 + n, dead))
            for n in range(2)
        ]
        for thread in threads:
            before = table.inside
            thread.start()
            wait_until(lambda before=before: table.inside > before)
        table.go(runs=4)
        assert first.result(60) == 11
        for thread in threads:
            thread.join(60)
        assert len(dead) == 4
        assert [reference() for reference in dead] == [None] * len(dead)
    finally:
        gc.enable()
