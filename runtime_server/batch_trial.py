"""Measured at start: how long a component's engine takes for 1, 2, 4, ... rows at once.

With made-up inputs, and only as far as it pays: a component where two rows in one run take as long
as two runs is left after two sizes. Knows an engine and a manifest's entry; what follows from the
times is decided in `batching`.
"""

from collections.abc import Callable, Mapping

from cascade.engines.engine import Engine
from cascade.errors import InvalidRequest
from cascade.made_up_inputs import free_axes, made_up_inputs
from cascade.manifest import Component, Manifest
from cascade.stage import EngineStage
from runtime_server.batching import ALL, parse_caps, row_cap
from runtime_server.budgeted_store import Clock
from runtime_server.meeting_point import Device

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


def learn_rows(
    device: Device,
    manifest: Manifest,
    stages: Mapping[int, EngineStage],
    caps: Mapping[int, int | None],
    clock: Clock,
) -> None:
    """Find out where rows should share runs, for the components whose cap is not set.

    Args:
        device: is told; nobody asks it for anything yet.
        manifest: of the bundle.
        stages: by position; their engines are used here directly.
        caps: by position; None is measured.
        clock: monotonic seconds.

    Raises:
        EngineError: a graph cannot be run.
    """
    for position, stage in stages.items():
        if caps[position] is not None:
            continue
        run_s = measure_rows(manifest.components[position], stage.engine, clock)
        device.learn(position, run_s, row_cap(run_s))


def measure_rows(component: Component, engine: Engine, clock: Clock) -> dict[int, float]:
    """Rows to the shortest seconds of one run, for 1, 2, 4, ... as long as each doubling pays.

    Args:
        component: whose graph the engine runs.
        engine: nobody else uses it meanwhile.
        clock: monotonic seconds.

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
