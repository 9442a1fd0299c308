"""Reads what is inside a server at one moment.

Knows where to look; not how it is shown.
"""

from runtime_server.app.server import CascadeServer
from runtime_server.core import Core
from runtime_server.system.memory import resident_bytes
from runtime_server.telemetry.load import ServerLoad, StageLoad


def read_load(server: CascadeServer | None) -> ServerLoad:
    """The present load, from any thread; that of no server is empty."""
    if server is None:
        return ServerLoad(resident_bytes=resident_bytes())
    generations = list(server.generations.all)
    counts = [generation.core.executor.counts for generation in generations]
    kept = server.generations.present.requests.index.kept
    contexts = [generation.core.contexts for generation in generations]
    core = server.generations.present.core
    return ServerLoad(
        ready=server.is_ready,
        bundle_name=core.manifest.name,
        bundle_id=core.bundle_id,
        bundles=len(generations),
        in_flight=sum(count.in_flight for count in counts),
        running=sum(count.running for count in counts),
        backlog_s=sum(count.backlog_s for count in counts),
        in_flight_bytes=sum(generation.requests.limits.size_bytes for generation in generations),
        contexts=sum(store.count for store in contexts),
        context_bytes=sum(store.size_bytes for store in contexts),
        results=kept.count,
        result_bytes=kept.size_bytes,
        stages=read_stages(core, [generation.core for generation in generations]),
        replicas=core.executor.replicas,
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
