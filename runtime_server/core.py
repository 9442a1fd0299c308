"""One bundle at work, without a transport: its checks, its contexts and the executor of its jobs.

Whoever serves calls the parts: `admission` checks a call, `executor` takes the job. Knows neither
protobuf nor gRPC, nor where the engines are.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from cascade import __version__
from cascade.boundary import Image
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import Manifest
from cascade.bundle.wire_limits import check_wire_limits
from cascade.codecs.image import writable_formats
from cascade.errors import CascadeError
from cascade.families import cost_of, family_of
from cascade.family import ComponentSpec, StartCheck
from cascade.stage_factory import EngineFactory
from cascade.system.cores import usable_cores
from cascade.tuning.plan import EnginePlan
from runtime_server.admission.checks import Admission, RequestPlan
from runtime_server.admission.concurrency_limits import check_bytes_suffice
from runtime_server.config.config import ServerConfig
from runtime_server.config.hosted import hosted_positions
from runtime_server.executors.local import WarmUp, open_local
from runtime_server.executors.protocol import Executor
from runtime_server.executors.replicated import ReplicatedExecutor
from runtime_server.protocol import server_limits
from runtime_server.runtime.coalescing_queue import CoalescingQueue, ThreadsafeSink
from runtime_server.runtime.job import Delivery, Ended, make_job
from runtime_server.runtime.warm_up import probe_of
from runtime_server.stores.contexts import ContextStore
from runtime_server.system.clock import Clock
from runtime_server.system.memory import resident_bytes
from runtime_server.telemetry.server_events import Emit, ignore
from wire.generate_call import GenerateHead
from wire.server_info import ComponentInfo, ServerInfo

MEMORY_STEP = 16 << 20
"""Of the memory that is told: an idle server's answer stays the same, and is encoded once."""
PROBE_ID = "probe"
"""Request id of synthetic work."""


class Core:
    """One bundle, hosted."""

    def __init__(
        self,
        bundle: Bundle,
        hosted: Sequence[int],
        executor: Executor,
        config: ServerConfig,
        clock: Clock,
    ) -> None:
        """A core that is ready for calls.

        Args:
            bundle: the opened bundle.
            hosted: positions of the components that its executor runs.
            executor: takes jobs already; closed together with the core.
            config: limits.
            clock: monotonic seconds.
        """
        self.manifest: Manifest = bundle.manifest
        self.bundle_id = bundle.bundle_id
        self.executor = executor
        """Runs the jobs."""
        self.config = config
        # Counted once: the larger part of it never changes, and clients ask for it at every start.
        self.hosted = tuple(hosted)
        """Positions of the components that are run."""
        self._info = idle_info(bundle, self.hosted, executor.plan, config)
        self.contexts = ContextStore(
            budget_bytes=config.context_store_bytes,
            lifetime_s=config.context_lifetime_s,
            clock=clock,
        )
        self.admission = open_admission(bundle, executor.plan, self.hosted, self.contexts)
        """Checks calls."""

    @property
    def plan(self) -> EnginePlan:
        """How the components are run."""
        return self.executor.plan

    def info(self) -> ServerInfo:
        """Bundle, components and present load."""
        queued = self.executor.counts.queued_at
        components = tuple(
            replace(
                component,
                milliseconds_per_step=1000 * self.executor.step_s(component.position),
                queued=queued.get(component.position, 0),
                max_batch_rows=self.executor.max_rows(component.position),
                run_times=self.executor.run_times(component.position),
                host_milliseconds_per_step=1000 * self.executor.host_step_s(component.position),
            )
            for component in self._info.components
        )
        resident = MEMORY_STEP * round(resident_bytes() / MEMORY_STEP)
        return replace(self._info, components=components, resident_bytes=resident)

    def check_capacity(self, head: GenerateHead, caller: str) -> None:
        """Refuse a call for want of room before anything else about it is looked at.

        Overload must cost less than work: what would be refused in the end is not read, decoded and
        checked first. A call whose start is not clear passes, and `admission` says what is
        wrong.

        Raises:
            ServerBusy: no room; the error says when to come back.
            TransportError: the server is shutting down.
        """
        position = self.admission.likely_first(head)
        if position is not None and position in self.hosted:
            self.executor.check_capacity(position, caller)

    def stages_work(self) -> dict[str, bool]:
        """Whether each hosted component works, by name."""
        specs = self.manifest.components
        return {specs[at].name: self.executor.works(at) for at in self.hosted}

    async def probe(self, name: str) -> None:
        """Probe a component with synthetic work; how it went is seen like that of any request.

        Returns when it is done, or at once when there is no room for it now.
        """
        inbox: CoalescingQueue[Delivery] = CoalescingQueue()
        sink = ThreadsafeSink(inbox, asyncio.get_running_loop())
        job = make_job(probe_plan(self.manifest, name), sink, None)
        try:
            self.executor.submit(job)
        except CascadeError:
            return
        try:
            # Previews and progress are of no interest; only that it comes to an end.
            while not isinstance(await inbox.get(), Ended):
                pass
        finally:
            self.executor.release(job)

    def close(self) -> None:
        """End everything."""
        self.executor.close()


def idle_info(
    bundle: Bundle, hosted: Sequence[int], plan: EnginePlan, config: ServerConfig
) -> ServerInfo:
    """What a server says of itself while nothing runs and nothing was measured.

    Args:
        bundle: the opened bundle.
        hosted: positions of the components that run here.
        plan: how they are run.
        config: limits.
    """
    manifest = bundle.manifest
    return ServerInfo(
        software_version=__version__,
        # Clients from before the upgrade compare this field, and know no other id.
        bundle_id=bundle.manifest.ids[-1],
        bundle_ids=bundle.manifest.ids,
        bundle_name=manifest.name,
        cores=usable_cores(),
        components=tuple(idle_component(at, manifest.components[at], plan) for at in hosted),
        limits=server_limits.limits_of(config, manifest),
        image_formats=writable_formats(),
    )


def idle_component(position: int, spec: ComponentSpec, plan: EnginePlan) -> ComponentInfo:
    """One component's line of the server info."""
    choice = plan.of(spec.name)
    image = spec.makes if isinstance(spec.makes, Image) else None
    return ComponentInfo(
        name=spec.name,
        position=position,
        family=spec.family,
        output_width=image.width if image else 0,
        output_height=image.height if image else 0,
        milliseconds_per_step=0.0,
        queued=0,
        max_batch_rows=1,
        default_steps=cost_of(spec).units,
        engine=choice.kind.value,
        precision=choice.precision,
        device=plan.device(spec.name),
        tuned=spec.name not in plan.untuned,
    )


def open_admission(
    bundle: Bundle, plan: EnginePlan, hosted: Sequence[int], contexts: ContextStore
) -> Admission:
    """The checks of one bundle.

    Args:
        bundle: the opened bundle.
        plan: how its components are run.
        hosted: positions of the components that run here.
        contexts: what handles name.
    """
    precisions = {c.name: plan.of(c.name).precision for c in bundle.manifest.components}
    return Admission(bundle.manifest, start_checks(bundle, hosted), contexts, precisions)


def probe_plan(manifest: Manifest, name: str) -> RequestPlan:
    """The least work that shows whether a component works."""
    request, start = probe_of(manifest, name)
    position = manifest.position(name)
    return RequestPlan(
        request_id=PROBE_ID,
        request=request,
        start=start,
        first=position,
        last=position,
        costs={position: cost_of(manifest.components[position], request)},
        format="raw",
    )


def start_checks(bundle: Bundle, positions: Sequence[int]) -> dict[int, StartCheck]:
    """What every hosted component asks of its start before a request is queued, by position."""
    hosted = [(at, bundle.manifest.components[at]) for at in positions]
    return {at: family_of(spec).start_check(spec, bundle.read) for at, spec in hosted}


def load_core(
    config: ServerConfig,
    make_engine: EngineFactory | None = None,
    warm_up: WarmUp | None = None,
    emit: Emit = ignore,
) -> Core:
    """Open and verify a bundle and host its components.

    Args:
        config: which bundle, and which of its components.
        make_engine: runs a graph; the engine that fits configuration and machine when None.
        warm_up: runs every stage before any request can; nothing is run when None.
        emit: where events go.

    Raises:
        ManifestError: the bundle is missing, incomplete or altered.
        EngineError: a graph cannot be run.
        InvalidRequest: nothing is left to host, a budget of bytes holds not even one
            request, or no engine here does what is asked for.
    """
    bundle = open_bundle(config.bundle, config.require_signature, runs=())
    hosted = hosted_positions(config, bundle.manifest)
    bundle.require(hosted)
    check_wire_limits(bundle.manifest)
    check_bytes_suffice(bundle.manifest, config, hosted)
    if config.executor == "ray":
        # Its package is imported here and only then: other servers need not have it.
        from runtime_server.executors.ray_cluster import RayPool  # noqa: PLC0415

        pool = RayPool(config, make_engine)
        executor: Executor = ReplicatedExecutor(bundle.manifest, hosted, config, pool, emit=emit)
    else:
        executor = open_local(bundle, hosted, config, make_engine, warm_up, emit)
    try:
        return Core(bundle, hosted, executor, config, time.monotonic)
    except Exception:
        executor.close()
        raise
