"""Measured at start: how long a component's engine takes for 1, 2, 4, ... rows at once.

With made-up inputs, and only as far as it pays: a component where two rows in one run take as long
as two runs is left after two sizes. Knows a device and a manifest; what follows from the times is
decided in `batching`.
"""

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import closing

from cascade.engines.engine import Engine
from cascade.errors import CascadeError, InvalidRequest
from cascade.made_up_inputs import free_axes, made_up_inputs
from cascade.manifest import Component, Manifest
from runtime_server.batching import ALL, parse_caps, row_cap
from runtime_server.budgeted_store import Clock
from runtime_server.logs import log_event
from runtime_server.meeting_point import Device, Seat

QUICK_S = 0.03
"""Components with shorter steps are measured before the server listens: a quarter of a second."""
TOKENS = 8
"""Of the made-up prompt."""
MOST_ROWS = 8
"""Not measured beyond; an operator may set more."""
ROUNDS = 5
ENOUGH_S = 0.1
"""No further round of a size whose rounds have taken so long: large steps vary little."""


def row_caps(text: str, manifest: Manifest, cut: int) -> dict[int, int | None]:
    """Rows that may share a run by hosted position; None is to be measured.

    Args:
        text: `max_batch_rows` of the configuration.
        manifest: of the bundle.
        cut: the first hosted position.

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
    return {at: caps.get(name, caps.get(ALL)) for at, name in enumerate(names) if at >= cut}


class RowTrials:
    """The trials of the components whose cap is not set, one after the other.

    They are rows like any other at the device, with the least urgency: a request waits for one run
    of a trial at most.
    """

    def __init__(
        self, device: Device, manifest: Manifest, caps: Mapping[int, int | None], clock: Clock
    ) -> None:
        """Nothing measured yet.

        Args:
            device: is asked for runs, and told what came of them.
            manifest: of the bundle.
            caps: by position; those that are None are measured.
            clock: monotonic seconds.
        """
        self._device = device
        self._manifest = manifest
        self._clock = clock
        self._left = [position for position, cap in caps.items() if cap is None]
        self._seat: Seat | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run_left, name="row trials", daemon=True)

    def run_quick(self, step_s: Mapping[str, float]) -> None:
        """Measure the components whose steps are short, here and now.

        Args:
            step_s: roughly, by component.

        Raises:
            EngineError: a graph cannot be run.
        """
        for position in list(self._left):
            if step_s.get(self._manifest.components[position].name, 0.0) < QUICK_S:
                self._left.remove(position)
                self._measure(position)

    def start(self) -> None:
        """Measure the others in the background; until then their rows run one by one."""
        if self._left:
            self._thread.start()

    def stop(self) -> None:
        """End whatever is being measured."""
        self._stopped.set()
        while self._thread.is_alive():
            seat = self._seat
            if seat is not None:
                seat.terminate()
            self._thread.join(0.02)

    def _run_left(self) -> None:
        """The background thread."""
        for position in self._left:
            try:
                self._measure(position)
                log_event(
                    "rows_measured",
                    stage=self._manifest.components[position].name,
                    max_batch_rows=self._device.limits(position).max_rows,
                    run_s={str(n): s for n, s in self._device.run_seconds(position).items()},
                )
            except CascadeError as exc:
                if not self._stopped.is_set():
                    log_event("rows_not_measured", level="error", reason=exc.reason)
            if self._stopped.is_set():
                return

    def _measure(self, position: int) -> None:
        """One component."""
        spec = self._manifest.components[position]
        with closing(self._device.seat(position, due=math.inf, name="trial", runs=1)) as seat:
            self._seat = seat
            run_s = measure_rows(spec, seat, lambda: self._clock() - seat.waited_s)
        self._device.learn(position, run_s, row_cap(run_s))


def measure_rows(component: Component, engine: Engine, clock: Clock) -> dict[int, float]:
    """Rows to the shortest seconds of one run, for 1, 2, 4, ... as long as each doubling pays.

    Args:
        component: whose graph the engine runs.
        engine: runs the component's graph.
        clock: seconds, without those that the engine let others go first.

    Raises:
        EngineError: the graph cannot be run.
    """

    def one_run(rows: int) -> Callable[[], object]:
        inputs = made_up_inputs(component, free_axes(component, batch=rows, tokens=TOKENS))
        return lambda: engine.run(inputs)

    found: dict[int, float] = {}
    rows = 1
    while rows <= MOST_ROWS:
        found[rows] = shortest_s(one_run(rows), clock)
        if row_cap(found) != rows:
            break
        rows *= 2
    return found


def shortest_s(run: Callable[[], object], clock: Clock) -> float:
    """The shortest of a few runs, after one that makes everything ready."""
    run()
    seconds: list[float] = []
    while len(seconds) < ROUNDS and sum(seconds) < ENOUGH_S:
        begun = clock()
        run()
        seconds.append(clock() - begun)
    return min(seconds)
