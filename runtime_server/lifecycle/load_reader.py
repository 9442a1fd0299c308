"""Reads what is inside a server at one moment.

Knows where to look; not how it is shown.
"""

from runtime_server.memory import resident_bytes
from runtime_server.runtime.core import Core
from runtime_server.server import CascadeServer
from runtime_server.telemetry.load import Load, StageLoad


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
            engine=component.engine,
            precision=str(component.precision),
            queued=queued[component.name],
            works=works[component.name],
        )
        for component in present.info().components
    )
