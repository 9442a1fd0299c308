"""What is inside a server at one moment, as values.

Knows where to look; not how it is shown.
"""

from dataclasses import dataclass

from cascade import __version__
from runtime_server.core import Core
from runtime_server.memory import resident_bytes
from runtime_server.server import CascadeServer


@dataclass(frozen=True, kw_only=True, slots=True)
class StageLoad:
    """One hosted component."""

    name: str
    engine: str
    precision: str
    queued: int
    works: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The whole server. Counts are over all bundles in memory, names those of the present one."""

    ready: bool = False
    bundle_name: str = ""
    bundle_id: str = ""
    version: str = __version__
    """Of the software."""
    bundles: int = 0
    in_flight: int = 0
    running: int = 0
    in_flight_bytes: int = 0
    contexts: int = 0
    context_bytes: int = 0
    results: int = 0
    result_bytes: int = 0
    stages: tuple[StageLoad, ...] = ()
    resident_bytes: int


def read_load(server: CascadeServer | None) -> Load:
    """The present load, from any thread; that of no server is empty."""
    if server is None:
        return Load(resident_bytes=resident_bytes())
    houses = list(server.houses.all)
    counts = [house.core.executor.counts for house in houses]
    kept = server.houses.present.reception.ledger.kept
    contexts = [house.core.contexts for house in houses]
    core = server.houses.present.core
    return Load(
        ready=server.is_ready,
        bundle_name=core.manifest.name,
        bundle_id=core.bundle_id,
        bundles=len(houses),
        in_flight=sum(count.in_flight for count in counts),
        running=sum(count.running for count in counts),
        in_flight_bytes=sum(house.reception.room.size_bytes for house in houses),
        contexts=sum(store.count for store in contexts),
        context_bytes=sum(store.size_bytes for store in contexts),
        results=kept.count,
        result_bytes=kept.size_bytes,
        stages=read_stages(core, [house.core for house in houses]),
        resident_bytes=resident_bytes(),
    )


def read_stages(present: Core, cores: list[Core]) -> tuple[StageLoad, ...]:
    """Every component of the present bundle; what waits for it in any."""
    queued: dict[str, int] = {}
    for core in cores:
        for component in core.info().components:
            queued[component.name] = queued.get(component.name, 0) + component.queued
    works = present.stages_work()
    return tuple(
        StageLoad(
            name=component.name,
            engine=component.computed.engine,
            precision=component.computed.precision.value,
            queued=queued[component.name],
            works=works[component.name],
        )
        for component in present.info().components
    )
