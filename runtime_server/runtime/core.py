"""One bundle at work, without a transport: its checks, its contexts, its engines and its workers.

Whoever serves calls the parts: `admission` checks a call, `workers` take the job. Knows neither
protobuf nor gRPC.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from cascade import __version__
from cascade.boundary import Image
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import Manifest
from cascade.bundle.wire_limits import check_wire_limits
from cascade.codecs.image import load_codecs, writable_formats
from cascade.errors import CascadeError
from cascade.families import cost_of, family_of
from cascade.family import ComponentSpec, StartCheck
from cascade.stage import EngineStage, Stage
from cascade.stage_factory import EngineFactory, open_stages
from cascade.system.cores import usable_cores
from cascade.tuning.plan import EnginePlan, files_to_open, plan_here
from runtime_server.admission.checks import Admission, RequestPlan
from runtime_server.admission.concurrency_limits import check_bytes_suffice
from runtime_server.batching.batch_calibration import BatchCalibration, row_caps
from runtime_server.batching.batch_policy import BatchLimits
from runtime_server.batching.batcher import DeviceBatcher
from runtime_server.batching.graph_axes import axes_of
from runtime_server.batching.measured_limits import MeasuredLimits
from runtime_server.batching.role_key import RoleKey
from runtime_server.config.caller_weights import parse_caller_weights
from runtime_server.config.config import ServerConfig
from runtime_server.config.hosted import hosted_positions
from runtime_server.protocol import server_limits
from runtime_server.runtime.coalescing_queue import CoalescingQueue, ThreadsafeSink
from runtime_server.runtime.job import Delivery, Ended, make_job
from runtime_server.runtime.job_queue import QueueLimits
from runtime_server.runtime.stage_health import StageHealth
from runtime_server.runtime.warm_up import probe_of
from runtime_server.runtime.workers import Workers, hosted_engines, limits_of
from runtime_server.stores.contexts import ContextStore
from runtime_server.system.clock import Clock
from runtime_server.system.memory import resident_bytes
from runtime_server.telemetry.server_events import Emit, ignore
from wire.generate_call import GenerateHead
from wire.server_info import ComponentInfo, RunTime, ServerInfo

MEMORY_STEP = 16 << 20
"""Of the memory that is told: an idle server's answer stays the same, and is encoded once."""
PROBE_ID = "probe"
"""Request id of synthetic work."""

WarmUp = Callable[[Stage, Manifest], Mapping[str, float]]
"""Runs a stage once; the seconds of a step by component."""


class Core:
    """One bundle, hosted."""

    def __init__(
        self,
        bundle: Bundle,
        stages: Mapping[int, EngineStage],
        plan: EnginePlan,
        config: ServerConfig,
        clock: Clock,
        emit: Emit = ignore,
    ) -> None:
        """A core whose workers are at work.

        Args:
            bundle: the opened bundle.
            stages: its hosted components by position; closed together with the core.
            plan: how they are run.
            config: limits.
            clock: monotonic seconds.
            emit: where events go.
        """
        self.warmed: Mapping[str, float] = {}
        """Seconds of the step that each component was warmed up with, if it was."""
        self.manifest: Manifest = bundle.manifest
        self.bundle_id = bundle.bundle_id
        self.plan = plan
        """How the components are run."""
        self.config = config
        # Counted once: the larger part of it never changes, and clients ask for it at every start.
        self.hosted = tuple(stages)
        """Positions of the components that run here."""
        self._info = idle_info(bundle, self.hosted, plan, config)
        self.health = StageHealth(config.stage_failures_in_row)
        """Which components fail."""
        self.contexts = ContextStore(
            budget_bytes=config.context_store_bytes,
            lifetime_s=config.context_lifetime_s,
            clock=clock,
        )
        self.admission = open_admission(bundle, plan, self.hosted, self.contexts)
        """Checks calls."""
        caps = row_caps(config.max_batch_rows, bundle.manifest, self.hosted)
        self.batcher = open_batcher(self.manifest, stages, caps, config, clock, emit)
        self.workers = Workers(
            stages, self.batcher, queue_limits(config), self.health, clock=clock, emit=emit
        )
        """Take jobs."""
        self._calibration = BatchCalibration(
            self.batcher, bundle.manifest, caps, clock, gives_way_s=2 * config.turn_after_s
        )
        # Last: from here on threads use everything above.
        self.workers.start()

    def measure_now(self) -> None:
        """Profile where batching pays.

        Raises:
            EngineError: a graph cannot be run.
        """
        self._calibration.run()

    def measure_beside(self) -> None:
        """The same in between requests, where components were warmed up; returns at once."""
        if self.warmed:
            self._calibration.start()

    def info(self) -> ServerInfo:
        """Bundle, components and present load."""
        queued = self.workers.counts.queued_at
        components = tuple(
            replace(
                component,
                milliseconds_per_step=1000
                * self.workers.forecast.measured_step_s(component.position),
                queued=queued.get(component.position, 0),
                max_batch_rows=self.batcher.limits.max_rows(component.position),
                run_times=run_times(self.batcher.limits, component.position),
                host_milliseconds_per_step=1000
                * self.workers.forecast.host_step_s(component.position),
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
            self.workers.check_capacity(position, caller)

    def stages_work(self) -> dict[str, bool]:
        """Whether each hosted component works, by name."""
        specs = self.manifest.components
        return {specs[at].name: self.health.works(at) for at in self.hosted}

    async def probe(self, name: str) -> None:
        """Probe a component with synthetic work; how it went is seen like that of any request.

        Returns when it is done, or at once when there is no room for it now.
        """
        inbox: CoalescingQueue[Delivery] = CoalescingQueue()
        sink = ThreadsafeSink(inbox, asyncio.get_running_loop())
        job = make_job(probe_plan(self.manifest, name), sink, None)
        try:
            self.workers.submit(job)
        except CascadeError:
            return
        try:
            # Previews and progress are of no interest; only that it comes to an end.
            while not isinstance(await inbox.get(), Ended):
                pass
        finally:
            self.workers.release(job)

    def close(self) -> None:
        """End everything."""
        # Its rows hold the device; the workers close the engines.
        self._calibration.stop()
        self.workers.close()


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


def run_times(limits: MeasuredLimits, position: int) -> tuple[RunTime, ...]:
    """What runs of a component's engines take, as far as known; by role, then by rows."""
    return tuple(
        RunTime(role=key.role, rows=rows, milliseconds=1000 * seconds)
        for key in limits.roles(position)
        for rows, seconds in sorted(limits.mean_seconds(key).items())
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


def open_batcher(
    manifest: Manifest,
    stages: Mapping[int, EngineStage],
    caps: Mapping[int, int | None],
    config: ServerConfig,
    clock: Clock,
    emit: Emit,
) -> DeviceBatcher:
    """A batcher of all engines.

    Args:
        manifest: of the bundle.
        stages: the hosted components, by position.
        caps: rows that may share a run, by position; None is to be measured.
        config: limits.
        clock: monotonic seconds.
        emit: where events go.
    """
    axes = {
        RoleKey(position, role): axes_of(graph)
        for position in stages
        for role, graph in manifest.components[position].graphs.items()
    }
    engines = hosted_engines(stages, axes)
    limits = {
        position: BatchLimits(max_rows=cap or 1, max_bytes=config.max_batch_bytes)
        for position, cap in caps.items()
    }
    return DeviceBatcher(engines, limits_of(engines, limits), clock=clock, emit=emit)


def queue_limits(config: ServerConfig) -> QueueLimits:
    """How much may wait and run, as configured."""
    return QueueLimits(
        max_queued_per_stage=config.max_queued_per_stage,
        max_in_flight=config.max_in_flight,
        refuse_late=config.refuse_late,
        max_running=config.max_running,
        max_waiting_between=config.max_waiting_between,
        max_queue_age_s=config.turn_after_s,
        caller_weights=parse_caller_weights(config.caller_weights),
    )


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
    plan = plan_here(bundle.manifest, config.engine_options, hosted)
    warmed: dict[str, float] = {}

    def run_once(stage: EngineStage) -> None:
        if warm_up is not None:
            warmed.update(warm_up(stage, bundle.manifest))

    stages = open_verified(bundle, hosted, plan, make_engine, run_once)
    try:
        by_position = dict(zip(hosted, stages, strict=True))
        core = Core(bundle, by_position, plan, config, time.monotonic, emit)
    except Exception:
        close_stages(stages)
        raise
    core.warmed = {name: warmed[name] for stage in stages for name in stage.names if warmed}
    return core


def open_verified(
    bundle: Bundle,
    hosted: Sequence[int],
    plan: EnginePlan,
    make_engine: EngineFactory | None,
    then: Callable[[EngineStage], object],
) -> list[EngineStage]:
    """Open the hosted components while codecs are loaded and every other file of theirs is checked.

    What is opened is checked by the reading that opens it: no file is read and hashed twice.

    Args:
        bundle: an opened bundle.
        hosted: positions of the components.
        plan: how they are run.
        make_engine: see `load_core`.
        then: is called with each stage as soon as it is open.

    Raises:
        CascadeError: a file is not what the manifest says, or a component cannot be opened.
    """

    def prepare() -> None:
        load_codecs()
        bundle.verify_files(hosted, besides=files_to_open(bundle.manifest, hosted, plan))

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="verify") as pool:
        verified = pool.submit(prepare)
        try:
            stages = open_stages(bundle, hosted, plan, make_engine, then)
        except Exception:
            verified.result()
            raise
    try:
        verified.result()
        # What was to be opened and was not: weights of other precisions in a file of several.
        bundle.verify_files(hosted, besides=bundle.checked)
    except Exception:
        close_stages(stages)
        raise
    return stages


def close_stages(stages: Sequence[Stage]) -> None:
    """Release every stage."""
    for stage in stages:
        stage.close()
