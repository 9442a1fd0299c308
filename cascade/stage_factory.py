"""Components of a bundle opened as stages on this machine.

Opens an engine for every graph of a component and hands them to its family. Knows bundles and
plans; how a graph runs is the plan's business, and what it is for the family's.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from cascade.bundle.bundle import Bundle
from cascade.bundle.manifest import Manifest
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, open_engine
from cascade.events import Backend
from cascade.families import check_precision, family_of
from cascade.stage import EngineStage
from cascade.tuning.memory_needs import check_fits
from cascade.tuning.plan import EnginePlan, choice_for, graph_for
from cascade.weights.source import GraphSource

EngineFactory = Callable[[GraphSource, EngineChoice], Engine]
"""A graph, and how to run it, to an engine."""


def open_stage(
    bundle: Bundle, position: int, plan: EnginePlan, make_engine: EngineFactory | None = None
) -> EngineStage:
    """One component as a stage here.

    Args:
        bundle: an opened bundle.
        position: which component, from 0.
        plan: how its graphs are run, and which of their files.
        make_engine: runs a graph; called once per graph, whose hash was checked. The
            engine that the plan names when None.

    Raises:
        ManifestError: a file is not what the manifest says.
        InvalidRequest: the plan's precision would make another picture.
        EngineError: the engine cannot load the graph.
    """
    component = bundle.manifest.components[position]
    choice = plan.of(component.name)
    check_precision(component, choice.precision)
    opened = make_engine or partial(open_engine, cache=plan.cache)
    engines: dict[str, Engine] = {}
    try:
        for role in component.graphs:
            own = choice_for(component, choice, role)
            # Nothing here holds the graph: it is as large as the engine.
            engines[role] = opened(graph_for(bundle, component, own, role), own)
        computed = Backend(choice.kind.value, choice.precision)
        return family_of(component).open(component, position, engines, bundle.read, computed)
    except Exception:
        # A stage opens as a whole or leaves nothing open: engines hold memory of their own.
        for engine in engines.values():
            engine.close()
        raise


def open_stages(
    bundle: Bundle,
    positions: Sequence[int],
    plan: EnginePlan,
    make_engine: EngineFactory | None = None,
    then: Callable[[EngineStage], object] | None = None,
) -> list[EngineStage]:
    """Several components as stages here, in order; opened side by side, for engines take long.

    Args:
        bundle: an opened bundle.
        positions: which components.
        plan: how their graphs are run.
        make_engine: see `open_stage`.
        then: is called with each stage on the thread that opened it, while others are still opened.

    Raises:
        EngineError: their weights are more than the memory that is available.
        CascadeError: see `open_stage`; those that could be opened are closed again.
    """

    def open_one(position: int) -> EngineStage:
        stage = open_stage(bundle, position, plan, make_engine)
        try:
            if then is not None:
                then(stage)
        except Exception:
            stage.close()
            raise
        return stage

    check_fits(bundle, positions, plan)
    with ThreadPoolExecutor(max_workers=max(1, len(positions)), thread_name_prefix="open") as pool:
        # The last component has the largest pictures and takes longest: it begins first.
        begun = {position: pool.submit(open_one, position) for position in reversed(positions)}
    # Here all are done: the pool waited for each at its end.
    opening = [begun[position] for position in positions]
    try:
        return [future.result() for future in opening]
    except Exception:
        for future in opening:
            if future.exception() is None:
                future.result().close()
        raise


def last_position(manifest: Manifest, last_stage: str | None) -> int:
    """Position of the component that a request ends with; the cascade's last when None.

    Raises:
        ManifestError: the bundle has no such component.
    """
    if last_stage is None:
        return len(manifest.components) - 1
    return manifest.position(last_stage)
