"""The executor of this process: a bundle's engines, their batcher and the threads that run jobs.

Opens and verifies what is hosted. Knows neither requests nor transports; a replica of another
executor is one of these.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from cascade.bundle.bundle import Bundle
from cascade.bundle.manifest import Manifest
from cascade.codecs.image import load_codecs
from cascade.errors import CascadeError
from cascade.events import Accepted
from cascade.stage import EngineStage, Stage
from cascade.stage_factory import EngineFactory, open_stages
from cascade.tuning.plan import EnginePlan, files_beside_weights, files_to_open, plan_here
from runtime_server.batching.batch_calibration import BatchCalibration, row_caps
from runtime_server.batching.batch_policy import BatchLimits
from runtime_server.batching.batcher import DeviceBatcher
from runtime_server.batching.graph_axes import axes_of
from runtime_server.batching.role_key import RoleKey
from runtime_server.config.caller_weights import parse_caller_weights
from runtime_server.config.config import ServerConfig
from runtime_server.runtime.job import Job
from runtime_server.runtime.job_queue import JobCounts, QueueLimits
from runtime_server.runtime.stage_health import StageHealth
from runtime_server.runtime.workers import Workers, hosted_engines, limits_of
from runtime_server.system.clock import Clock
from runtime_server.telemetry.load import ReplicaLoad
from runtime_server.telemetry.server_events import Emit, ignore
from wire.server_info import RunTime

WarmUp = Callable[[Stage, Manifest], Mapping[str, float]]
"""Runs a stage once; the seconds of a step by component."""


class LocalExecutor:
    """Runs jobs on the engines of this process."""

    def __init__(
        self,
        manifest: Manifest,
        stages: Mapping[int, EngineStage],
        plan: EnginePlan,
        config: ServerConfig,
        *,
        clock: Clock = time.monotonic,
        emit: Emit = ignore,
    ) -> None:
        """An executor whose workers are at work.

        Args:
            manifest: of the bundle.
            stages: its hosted components by position; closed together with the executor.
            plan: how they are run.
            config: limits.
            clock: monotonic seconds.
            emit: where events go.
        """
        self.plan = plan
        """How the components are run."""
        self.warmed: Mapping[str, float] = {}
        """Seconds of the step that each component was warmed up with, if it was."""
        self.health = StageHealth(config.stage_failures_in_row)
        """Which components fail."""
        caps = row_caps(config.max_batch_rows, manifest, tuple(stages))
        self.batcher = open_batcher(manifest, stages, caps, config, clock, emit)
        self.workers = Workers(
            stages, self.batcher, queue_limits(config), self.health, clock=clock, emit=emit
        )
        """Take jobs."""
        self._calibration = BatchCalibration(
            self.batcher, manifest, caps, clock, gives_way_s=2 * config.turn_after_s
        )
        # Last: from here on threads use everything above.
        self.workers.start()

    @property
    def counts(self) -> JobCounts:
        """Jobs inside now."""
        return self.workers.counts

    @property
    def replicas(self) -> tuple[ReplicaLoad, ...]:
        """None: the engines are in this process."""
        return ()

    def submit(self, job: Job) -> Accepted:
        """Put a job into the queue of its first component; see `Workers.submit`."""
        return self.workers.submit(job)

    def check_capacity(self, position: int, caller: str) -> None:
        """Refuse what `submit` would refuse for want of room; see `Workers.check_capacity`."""
        self.workers.check_capacity(position, caller)

    def stop(self, job: Job, error: CascadeError) -> bool:
        """End a job; whether it still runs; see `Workers.stop`."""
        return self.workers.stop(job, error)

    def release(self, job: Job) -> bool:
        """Forget a job; whether it still runs; see `Workers.release`."""
        return self.workers.release(job)

    def step_s(self, position: int) -> float:
        """Median seconds of the last steps of a component; 0 before the first."""
        return self.workers.forecast.measured_step_s(position)

    def max_rows(self, position: int) -> int:
        """Rows that may share a run of a component."""
        return self.batcher.limits.max_rows(position)

    def run_times(self, position: int) -> tuple[RunTime, ...]:
        """What runs of a component's engines take, as far as known; by role, then by rows."""
        limits = self.batcher.limits
        return tuple(
            RunTime(role=key.role, rows=rows, milliseconds=1000 * seconds)
            for key in limits.roles(position)
            for rows, seconds in sorted(limits.mean_seconds(key).items())
        )

    def host_step_s(self, position: int) -> float:
        """Mean seconds of the host's work per step of a component; 0 before its first picture."""
        return self.workers.forecast.host_step_s(position)

    def works(self, position: int) -> bool:
        """Whether a component works."""
        return self.health.works(position)

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

    def give_way(self) -> None:
        """Nothing: two bundles share the device."""

    def take_back(self) -> None:
        """Nothing was freed."""

    def shrink(self) -> None:
        """Nothing: engines are released together."""

    def refuse_new(self) -> None:
        """Admit nothing more; the jobs inside go on."""
        self.workers.refuse_new()

    def close(self) -> None:
        """End everything and release the engines."""
        # Its rows hold the device; the workers close the engines.
        self._calibration.stop()
        self.workers.close()


def open_local(
    bundle: Bundle,
    hosted: Sequence[int],
    config: ServerConfig,
    make_engine: EngineFactory | None = None,
    warm_up: WarmUp | None = None,
    emit: Emit = ignore,
) -> LocalExecutor:
    """Verify the hosted components of an opened bundle, open their engines and begin to take jobs.

    Args:
        bundle: the opened bundle.
        hosted: positions of the components.
        config: limits, and how the components are run.
        make_engine: runs a graph; the engine that fits configuration and machine when None.
        warm_up: runs every stage before any job can; nothing is run when None.
        emit: where events go.

    Raises:
        ManifestError: a file is missing or altered.
        EngineError: a graph cannot be run.
        InvalidRequest: no engine here does what is asked for.
    """
    plan = plan_here(bundle.manifest, config.engine_options, hosted)
    warmed: dict[str, float] = {}

    def run_once(stage: EngineStage) -> None:
        if warm_up is not None:
            warmed.update(warm_up(stage, bundle.manifest))

    stages = open_verified(bundle, hosted, plan, make_engine, run_once)
    try:
        by_position = dict(zip(hosted, stages, strict=True))
        executor = LocalExecutor(bundle.manifest, by_position, plan, config, emit=emit)
    except Exception:
        close_stages(stages)
        raise
    executor.warmed = {name: warmed[name] for stage in stages for name in stage.names if warmed}
    return executor


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
    # Beside weights lie the small graphs of other precisions. To check one is to read the first
    # chunk of those weights, and to let it go if no engine has them open yet: so they come last.
    later = files_to_open(bundle.manifest, hosted, plan) | files_beside_weights(
        bundle.manifest, hosted
    )

    def prepare() -> None:
        load_codecs()
        bundle.verify_files(hosted, besides=later)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="verify") as pool:
        verified = pool.submit(prepare)
        try:
            stages = open_stages(bundle, hosted, plan, make_engine, then)
        except Exception:
            verified.result()
            raise
    try:
        verified.result()
        # What was not opened: graphs of other precisions, and their weights in a file of several.
        bundle.verify_files(hosted, besides=bundle.checked, in_memory=True)
    except Exception:
        close_stages(stages)
        raise
    return stages


def close_stages(stages: Sequence[Stage]) -> None:
    """Release every stage."""
    for stage in stages:
        stage.close()


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
