"""The server without its transport: contexts, admission and the executor of one bundle.

Each method is what one call of the wire means. Knows neither protobuf nor gRPC nor asyncio.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from cascade import __version__
from cascade.boundary import Image
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import Manifest
from cascade.bundle.wire_limits import check_wire_limits
from cascade.codecs.image import load_codecs
from cascade.errors import CascadeError, InvalidRequest
from cascade.events import Accepted
from cascade.families import cost_of, family_of
from cascade.family import ComponentSpec, StartCheck
from cascade.stage import EngineStage, Stage
from cascade.stage_factory import EngineFactory, open_stages
from cascade.tuning.plan import EnginePlan, plan_here
from runtime_server.admission.checks import Admission, Work, check_request_id
from runtime_server.admission.concurrency_limits import check_bytes_suffice, held_bytes
from runtime_server.admission.quota import megapixels_of
from runtime_server.batching.batch_calibration import BatchCalibration, row_caps
from runtime_server.batching.batch_policy import BatchLimits
from runtime_server.config.config import ServerConfig
from runtime_server.protocol.callers import ANONYMOUS
from runtime_server.protocol.server_limits import limits_of
from runtime_server.runtime.executor import Executor, QueueLimits
from runtime_server.runtime.jobs import Deliver, Delivery, Ended, Job, make_job
from runtime_server.runtime.stage_health import StageHealth
from runtime_server.runtime.warm_up import probe_of
from runtime_server.stores.contexts import ContextStore
from runtime_server.system.clock import Clock
from runtime_server.telemetry.observer import CompositeObserver, NullObserver, Observer
from wire.contexts import PutContextCall
from wire.generate_call import GenerateCall, GenerateHead
from wire.server_info import ComponentInfo, ServerInfo

PROBE_ID = "probe"
"""Request id of made-up work."""

WarmUp = Callable[[Stage, Manifest], Mapping[str, float]]
"""Runs a stage once; the seconds of a step by component."""


class Core:
    """One bundle, hosted."""

    def __init__(
        self,
        bundle: Bundle,
        stages: Sequence[EngineStage],
        plan: EnginePlan,
        config: ServerConfig,
        clock: Clock,
        observer: Observer | None = None,
    ) -> None:
        """A core whose executor is at work.

        Args:
            bundle: the opened bundle.
            stages: its components from `config.cut` on; closed together with the core.
            plan: how they are run.
            config: limits.
            clock: monotonic seconds.
            observer: is told what happens.
        """
        self.warmed: Mapping[str, float] = {}
        """Seconds of the step that each component was warmed up with, if it was."""
        self.manifest: Manifest = bundle.manifest
        self.health = StageHealth(config.stage_failures_in_row)
        """Which components fail, once `observer` is told of it."""
        self.observer: Observer = CompositeObserver(observer or NullObserver(), self.health)
        self.plan = plan
        """How the components are run."""
        self.config = config
        self._clock = clock
        self.contexts = ContextStore(
            budget_bytes=config.context_store_bytes,
            lifetime_s=config.context_lifetime_s,
            clock=clock,
        )
        precisions = {c.name: plan.of(c.name).precision for c in bundle.manifest.components}
        self._admission = Admission(
            bundle.manifest, start_checks(bundle, config.cut), self.contexts, precisions
        )
        self.bundle_id = bundle.bundle_id
        caps = row_caps(config.max_batch_rows, bundle.manifest, config.cut)
        self.executor = Executor(
            dict(enumerate(stages, start=config.cut)),
            QueueLimits(
                max_queued_per_stage=config.max_queued_per_stage,
                max_in_flight=config.max_in_flight,
                refuse_late=config.refuse_late,
                max_running=config.max_running,
                max_waiting_between=config.max_waiting_between,
                max_queue_age_s=config.turn_after_s,
            ),
            {
                position: BatchLimits(max_rows=cap or 1, max_bytes=config.max_batch_bytes)
                for position, cap in caps.items()
            },
            clock=clock,
            observer=self.observer,
        )
        self._trials = BatchCalibration(
            self.executor.device, bundle.manifest, caps, clock, gives_way_s=2 * config.turn_after_s
        )
        self.executor.start()

    def measure_now(self) -> None:
        """Find out where rows should share runs.

        Raises:
            EngineError: a graph cannot be run.
        """
        self._trials.run()

    def measure_beside(self) -> None:
        """The same in between requests, where components were warmed up; returns at once."""
        if self.warmed:
            self._trials.start()

    def info(self) -> ServerInfo:
        """Bundle, components and present load."""
        hosted = list(enumerate(self.manifest.components))[self.config.cut :]
        return ServerInfo(
            software_version=__version__,
            bundle_id=self.bundle_id,
            bundle_ids=(self.bundle_id,),
            bundle_name=self.manifest.name,
            components=tuple(self._hosted(position, spec) for position, spec in hosted),
            limits=limits_of(self.config, self.manifest),
        )

    def put_context(self, call: PutContextCall, identity: str = ANONYMOUS) -> tuple[bytes, float]:
        """Keep embeddings.

        Returns:
            Their handle, and the seconds that they are kept unused.
        """
        self._admission.check_bundle(call.bundle_id)
        context = self._admission.context(call.context, "context")
        return self.contexts.put(context, identity), self.config.context_lifetime_s

    def admit(self, call: GenerateCall, identity: str = ANONYMOUS) -> Work:
        """Check everything about a call; see `Admission.work`."""
        return self._admission.work(call, identity)

    def check_room(self, head: GenerateHead) -> None:
        """Refuse a call for want of room before anything else about it is looked at.

        Overload must cost less than work: what would be refused in the end is not read, decoded and
        checked first. A call whose start is not clear passes, and `admit` says what is wrong.

        Raises:
            ServerBusy: no room; the error says when to come back.
            TransportError: the server is shutting down.
        """
        position = self._admission.likely_first(head)
        if position is not None and position >= self.config.cut:
            self.executor.check_room(position)

    def check_resume(self, call: GenerateCall) -> None:
        """Check a call that only names an earlier one.

        Raises:
            InvalidRequest: the id is none.
            BundleMismatch: made for another bundle.
        """
        check_request_id(call.request_id)
        self._admission.check_bundle(call.bundle_id)

    def held_bytes(self, work: Work) -> int:
        """What checked work holds while it is inside; see `room.held_bytes`."""
        return held_bytes(work)

    def megapixels(self, work: Work) -> float:
        """What checked work costs its caller's quota; see `quota.megapixels_of`."""
        return megapixels_of(work.costs.values())

    def own_s(self, work: Work) -> float:
        """Seconds that the steps of checked work take, as far as steps were measured."""
        return sum(n * self.executor.seconds_per_step(at) for at, n in work.steps.items())

    def submit(
        self,
        work: Work,
        deliver: Deliver,
        allowed_s: float | None,
        identity: str = ANONYMOUS,
    ) -> tuple[Job, Accepted]:
        """Queue checked work.

        Args:
            work: as `admit` returned it.
            deliver: is told every event and, last, that the job ended.
            allowed_s: seconds until its deadline; None is no limit.
            identity: whose it is.
        """
        deadline = None if allowed_s is None else self._clock() + allowed_s
        job = make_job(work, deliver, deadline, identity)
        return job, self.executor.submit(job)

    def stages_work(self) -> dict[str, bool]:
        """Whether each hosted component works, by name."""
        hosted = self.manifest.components[self.config.cut :]
        return {spec.name: self.health.works(spec.name) for spec in hosted}

    async def probe(self, name: str) -> None:
        """Try a component with made-up work; how it went is seen like that of any request.

        Returns when it is done, or at once when there is no room for it now.
        """
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def deliver(delivery: Delivery) -> None:
            if isinstance(delivery, Ended):
                loop.call_soon_threadsafe(ended.set)

        try:
            job, _ = self.submit(probe_work(self.manifest, name), deliver, None)
        except CascadeError:
            return
        try:
            await ended.wait()
        finally:
            self.executor.release(job)

    def close(self) -> None:
        """End everything."""
        self._trials.stop()
        self.executor.close()

    def _hosted(self, position: int, spec: ComponentSpec) -> ComponentInfo:
        """One component's line of the server info."""
        choice = self.plan.of(spec.name)
        return ComponentInfo(
            name=spec.name,
            position=position,
            family=spec.family,
            output_resolution=spec.makes.width if isinstance(spec.makes, Image) else 0,
            milliseconds_per_step=1000 * self.executor.seconds_per_step(position),
            queued=self.executor.queued(position),
            max_batch_rows=self.executor.device.limits(position).max_rows,
            default_steps=cost_of(spec).units,
            engine=choice.kind.value,
            precision=choice.precision,
            device=self.plan.device(spec.name),
            tuned=spec.name not in self.plan.untuned,
        )


def probe_work(manifest: Manifest, name: str) -> Work:
    """The least work that shows whether a component works."""
    request, start = probe_of(manifest, name)
    position = manifest.position(name)
    return Work(
        request_id=PROBE_ID,
        request=request,
        start=start,
        first=position,
        last=position,
        costs={position: cost_of(manifest.components[position], request)},
        format="raw",
    )


def start_checks(bundle: Bundle, cut: int) -> dict[int, StartCheck]:
    """What every hosted component asks of its start before a request is queued, by position."""
    hosted = list(enumerate(bundle.manifest.components))[cut:]
    return {at: family_of(spec).start_check(spec, bundle.read) for at, spec in hosted}


def load_core(
    config: ServerConfig,
    make_engine: EngineFactory | None = None,
    warm_up: WarmUp | None = None,
    observer: Observer | None = None,
) -> Core:
    """Open and verify a bundle and host its components.

    Args:
        config: which bundle, from which component on.
        make_engine: runs a graph; the engine that fits configuration and machine when None.
        warm_up: runs every stage before any request can; nothing is run when None.
        observer: is told what happens.

    Raises:
        ManifestError: the bundle is missing, incomplete or altered.
        EngineError: a graph cannot be run.
        InvalidRequest: the cut leaves nothing to host, a budget of bytes holds not even one
            request, or no engine here does what is asked for.
    """
    bundle = open_bundle(config.bundle, config.require_signature)
    count = len(bundle.manifest.components)
    if config.cut >= count:
        raise InvalidRequest(
            f"cut: this bundle has {count} components, a cut of {config.cut} hosts none of them",
            field="cut",
        )
    check_wire_limits(bundle.manifest)
    check_bytes_suffice(bundle.manifest, config)
    hosted = range(config.cut, count)
    plan = plan_here(bundle.manifest, config.engine_options, hosted)
    warmed: dict[str, float] = {}

    def run_once(stage: EngineStage) -> None:
        if warm_up is not None:
            warmed.update(warm_up(stage, bundle.manifest))

    stages = open_verified(bundle, hosted, plan, make_engine, run_once)
    try:
        core = Core(bundle, stages, plan, config, time.monotonic, observer)
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
    """Open the hosted components while codecs are loaded and every file of the bundle is checked.

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
        bundle.verify_files()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="verify") as pool:
        verified = pool.submit(prepare)
        try:
            # What is opened was checked by itself; the rest is what might be asked for later.
            stages = open_stages(bundle, hosted, plan, make_engine, then)
        except Exception:
            verified.result()
            raise
    if verified.exception() is not None:
        close_stages(stages)
    verified.result()
    return stages


def close_stages(stages: Sequence[Stage]) -> None:
    """Release every stage."""
    for stage in stages:
        stage.close()
