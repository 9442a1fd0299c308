"""Measured once a server listens: how long an engine takes for 1, 2, 4, ... rows at once.

With made-up inputs, and only as far as it pays: an engine where two rows in one run take as long
as two runs is left after two sizes. Where it pays, rows are compared with themselves alone, which
is called batch invariance: an engine of which they come out differently runs them one by one. Knows
a batcher and a manifest; what follows from the times is decided in `batch_policy`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import numpy as np

from cascade.assignments import ALL
from cascade.bundle.manifest import Manifest
from cascade.engine import Engine
from cascade.errors import CascadeError, InvalidRequest
from cascade.family import ComponentSpec
from cascade.graph_spec import NET
from cascade.tuning.dummy_inputs import dummy_inputs, free_axes
from cascade.types import Array
from runtime_server.batching.batch_arrays import cut, joined
from runtime_server.batching.batch_policy import row_cap
from runtime_server.batching.batcher import DeviceBatcher, Row
from runtime_server.batching.graph_axes import axes_of
from runtime_server.batching.role_key import RoleKey
from runtime_server.config.row_caps import parse_caps
from runtime_server.system.clock import Clock
from runtime_server.telemetry.logs import log_event
from runtime_server.telemetry.server_events import TracedRequest

SAME = 1e-4
"""Of the largest output: what sharing may change. float32 engines stay a hundred times below it; in
8 bits one value that is rounded the other way is a hundred times above, and twenty steps make
another picture of it."""
TOKENS = 8
"""Of the made-up prompt."""
UNEQUAL = (8, 16, 24, 8, 16, 8, 24, 16)
"""Of made-up prompts that are joined with each other, as `length_buckets` rounds them."""
MOST_ROWS = 8
"""Not measured beyond; an operator may set more."""
ROUNDS = 5
ENOUGH_S = 0.1
"""No further round of a size whose rounds have taken so long: large steps vary little."""


def row_caps(text: str, manifest: Manifest, hosted: Sequence[int]) -> dict[int, int | None]:
    """Rows that may share a run by hosted position; None is to be measured.

    Args:
        text: `max_batch_rows` of the configuration.
        manifest: of the bundle.
        hosted: positions of the components that run here.

    Raises:
        InvalidRequest: the text names a component that the bundle does not have.
    """
    caps = parse_caps(text)
    names = [component.name for component in manifest.components]
    unknown = sorted(set(caps) - {ALL, *names})
    if unknown:
        raise InvalidRequest(
            f"max_batch_rows: no component {unknown[0]!r}; this bundle has {', '.join(names)}",
            field="max_batch_rows",
        )
    return {at: caps.get(name, caps.get(ALL)) for at, name in enumerate(names) if at in hosted}


class BatchCalibration:
    """The trials of the components whose cap is not set, one after the other.

    They are rows like any other at the batcher, with little urgency: a request waits for one run of
    a trial at most. But a server that is busy from its first moment on must learn too what would
    save it work: in the end trials have their turn.
    """

    def __init__(
        self,
        batcher: DeviceBatcher,
        manifest: Manifest,
        caps: Mapping[int, int | None],
        clock: Clock,
        *,
        gives_way_s: float,
    ) -> None:
        """Nothing measured yet.

        Args:
            batcher: is asked for runs, and told what came of them.
            manifest: of the bundle.
            caps: by position; those that are None are measured.
            clock: monotonic seconds.
            gives_way_s: a trial is due so long after it began; whoever is due earlier goes first.
        """
        self._batcher = batcher
        self._manifest = manifest
        self._clock = clock
        self._gives_way_s = gives_way_s
        self._left = [position for position, cap in caps.items() if cap is None]
        self._row: Row | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run_left, name="row trials", daemon=True)

    def run(self) -> None:
        """Measure here and now.

        Raises:
            EngineError: a graph cannot be run.
        """
        for position in self._left:
            self._measure(position)

    def start(self) -> None:
        """Measure in the background; until then rows run one by one."""
        if self._left:
            self._thread.start()

    def stop(self) -> None:
        """End whatever is being measured."""
        self._stopped.set()
        # The trial may be between two runs, where there is nothing to end: ask again.
        while self._thread.is_alive():
            row = self._row
            if row is not None:
                row.cancel()
            self._thread.join(0.02)

    def _run_left(self) -> None:
        """The background thread."""
        for position in self._left:
            try:
                self._measure(position)
                self._log(position)
            except CascadeError as exc:
                if not self._stopped.is_set():
                    log_event("rows_not_measured", level="error", reason=exc.reason)
            if self._stopped.is_set():
                return

    def _measure(self, position: int) -> None:
        """One component."""
        component = self._manifest.components[position]
        row = self._batcher.open_row(
            position,
            priority_deadline=self._clock() + self._gives_way_s,
            request=TracedRequest("trial"),
            runs=dict.fromkeys(component.graphs, 1),
        )
        with closing(row):
            # Where `stop` finds it, from another thread.
            self._row = row
            for role in component.graphs:
                self._measure_role(component, row, RoleKey(position, role))

    def _measure_role(self, component: ComponentSpec, row: Row, key: RoleKey) -> None:
        """One engine of a component."""
        engine = row.engines[key.role]

        def clock() -> float:
            return self._clock() - row.waited_s

        run_s = measure_rows(component, engine, clock, key.role)
        rows, allows_padding = row_cap(run_s), False
        if rows > 1:
            rows = max_invariant_rows(component, engine, (TOKENS,) * rows, key.role)
        if rows > 1 and axes_of(component.graphs[key.role]).mask:
            unequal = UNEQUAL[:rows]
            allows_padding = max_invariant_rows(component, engine, unequal, key.role) == rows
        self._batcher.limits.learn(key, run_s, max_rows=rows, allows_padding=allows_padding)

    def _log(self, position: int) -> None:
        """What was found about one component."""
        limits = self._batcher.limits
        for key in limits.roles(position):
            log_event(
                "rows_measured",
                stage=self._manifest.components[position].name,
                max_batch_rows=limits.present[key].max_rows,
                run_s={str(n): s for n, s in limits.run_seconds(key).items()},
            )


def measure_rows(
    component: ComponentSpec, engine: Engine, clock: Clock, role: str = NET
) -> dict[int, float]:
    """Rows to the shortest seconds of one run, for 1, 2, 4, ... as long as each doubling pays.

    Args:
        component: whose graph the engine runs.
        engine: runs the component's graph.
        clock: seconds, without those that the engine let others go first.
        role: of the graph.

    Raises:
        EngineError: the graph cannot be run.
    """

    def one_run(rows: int) -> Callable[[], object]:
        inputs = dummy_inputs(component, free_axes(component, batch=rows, tokens=TOKENS), role)
        return lambda: engine.run(inputs)

    found: dict[int, float] = {}
    rows = 1
    # Doubling: four sizes say as much as eight, in half of the time.
    while rows <= MOST_ROWS:
        found[rows] = shortest_s(one_run(rows), clock)
        if row_cap(found) != rows:
            break
        rows *= 2
    return found


def max_invariant_rows(
    component: ComponentSpec, engine: Engine, tokens: Sequence[int], role: str = NET
) -> int:
    """How many rows may be in one run so that each comes out as it does alone.

    Every number of rows is tried: an engine may choose other kernels for six than for four.

    Args:
        component: whose graph the engine runs.
        engine: runs the component's graph.
        tokens: of each row's context; as many as are tried at most.
        role: of the graph.

    Returns:
        At least 1: a row alone is always itself.
    """
    axes = axes_of(component.graphs[role])
    parts = [one_row(component, row, length, role) for row, length in enumerate(tokens)]
    # Compared with themselves alone and not with each other: no two rows are equal.
    alone = [engine.run(inputs) for inputs in parts]
    for rows in range(2, len(parts) + 1):
        together = cut(engine.run(joined(parts[:rows], axes)), [1] * rows)
        if not all(is_same(*pair) for pair in zip(together, alone[:rows], strict=True)):
            return rows - 1
    return len(parts)


def one_row(component: ComponentSpec, row: int, tokens: int, role: str) -> dict[str, Array]:
    """Made-up inputs of one row; no two rows are equal."""
    sizes = free_axes(component, batch=row + 1, tokens=tokens)
    inputs = {name: value[row:] for name, value in dummy_inputs(component, sizes, role).items()}
    mask = axes_of(component.graphs[role]).mask
    if mask:
        inputs[mask] = np.ones_like(inputs[mask])
    return inputs


def is_same(found: Mapping[str, Array], alone: Mapping[str, Array]) -> bool:
    """Whether outputs are equal but for the last bits of float32."""
    return all(
        float(np.abs(found[name] - value).max(initial=0.0))
        <= SAME * float(np.abs(value).max(initial=0.0))
        for name, value in alone.items()
    )


def shortest_s(run: Callable[[], object], clock: Clock) -> float:
    """The shortest of a few runs, after one that makes everything ready."""
    # Engines prepare for a shape at its first run: memory, kernels.
    run()
    seconds: list[float] = []
    while len(seconds) < ROUNDS and sum(seconds) < ENOUGH_S:
        begun = clock()
        run()
        seconds.append(clock() - begun)
    return min(seconds)
