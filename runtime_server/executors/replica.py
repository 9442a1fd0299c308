"""A replica: an executor of this process, driven by messages of a server in another one.

One replica is one device with every component that it hosts, so that rows of all requests can share
runs. Knows an executor and the values of `replica_work`; not what carries them.
"""

import asyncio
import os
import socket
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import replace

from cascade.bundle.bundle import open_bundle
from cascade.errors import CascadeError, StageError
from cascade.stage_factory import EngineFactory
from runtime_server.config.config import ServerConfig
from runtime_server.config.hosted import hosted_positions
from runtime_server.executors.local import LocalExecutor, open_local
from runtime_server.executors.replica_work import (
    Parcel,
    ReplicaHello,
    ReplicaReport,
    Work,
    portable,
)
from runtime_server.runtime.coalescing_queue import CoalescingQueue, ThreadsafeSink
from runtime_server.runtime.job import Delivery, Ended, Job
from runtime_server.runtime.warm_up import warm_up
from runtime_server.system.memory import resident_bytes
from runtime_server.telemetry.server_events import ServerEvent

STOP_AGAIN_S = 0.005
"""A job that is to stop is told so again and again: its engine may be between two steps."""
KEPT_STOPS = 1024
"""Attempts that were stopped before they came; older ones never will."""
UNBOUNDED = 1_000_000
"""The server's own queue decides who is admitted; a replica refuses nothing."""
KEPT_EVENTS = 4096
"""Of the time between two reports; older ones are not counted."""


class Replica:
    """An executor and the attempts that it runs; used on one event loop."""

    def __init__(self, config: ServerConfig, make_engine: EngineFactory | None = None) -> None:
        """Nothing loaded yet.

        Args:
            config: limits, and which components of which bundle are run how.
            make_engine: runs a graph; the engine that fits configuration and machine when None.
        """
        self._config = config
        self._make_engine = make_engine
        self._executor: LocalExecutor | None = None
        self._hosted: tuple[int, ...] = ()
        self._jobs: dict[int, Job] = {}
        self._stopped: OrderedDict[int, CascadeError] = OrderedDict()
        self._events: deque[ServerEvent] = deque(maxlen=KEPT_EVENTS)

    async def open(self) -> ReplicaHello:
        """Open and verify the bundle, and warm up what is hosted.

        Raises:
            CascadeError: the bundle is broken, or cannot be run here.
        """
        # Not on the loop: it answers reports meanwhile.
        return await asyncio.to_thread(self._open)

    def _open(self) -> ReplicaHello:
        config = self._config
        bundle = open_bundle(config.bundle, config.require_signature, runs=())
        self._hosted = tuple(hosted_positions(config, bundle.manifest))
        bundle.require(self._hosted)
        warm = warm_up if config.warm_up else None
        # A deque takes items from any thread.
        emit = self._events.append
        executor = open_local(bundle, self._hosted, config, self._make_engine, warm, emit)
        self._executor = executor
        return ReplicaHello(
            bundle_id=bundle.bundle_id,
            plan=executor.plan,
            warmed=dict(executor.warmed),
            pid=os.getpid(),
            host=socket.gethostname(),
        )

    async def run(self, work: Work) -> AsyncIterator[Parcel]:
        """Run one attempt; the last item of the last parcel is `Ended`."""
        inbox: CoalescingQueue[Delivery] = CoalescingQueue()
        sink = ThreadsafeSink(inbox, asyncio.get_running_loop())
        job = work.job(sink, time.monotonic())
        refused = self._begin(work, job)
        if refused is not None:
            yield Parcel(items=(Ended(refused),), events=self._take_events())
            return
        try:
            # From here on it is this work that is lost with the replica.
            yield Parcel(items=())
            while True:
                items = [await inbox.get()]
                while len(inbox):
                    items.append(await inbox.get())
                parcel = Parcel(
                    items=tuple(portable(item) for item in items), events=self._take_events()
                )
                yield parcel
                if parcel.is_last:
                    return
        finally:
            self._jobs.pop(work.number, None)
            while self._opened.release(job):
                await asyncio.sleep(STOP_AGAIN_S)

    def _begin(self, work: Work, job: Job) -> CascadeError | None:
        """Submit a job; why not, where it is refused."""
        stopped = self._stopped.pop(work.number, None)
        if stopped is not None:
            return stopped
        try:
            self._opened.submit(job)
        except CascadeError as exc:
            return exc.with_traceback(None)
        self._jobs[work.number] = job
        return None

    async def stop(self, number: int, error: CascadeError) -> None:
        """End an attempt with `error`, whether or not it has come yet."""
        job = self._jobs.get(number)
        if job is None:
            # It may be on its way still: messages overtake each other.
            self._stopped[number] = error
            while len(self._stopped) > KEPT_STOPS:
                self._stopped.popitem(last=False)
            return
        while self._opened.stop(job, error):
            await asyncio.sleep(STOP_AGAIN_S)

    async def report(self) -> ReplicaReport:
        """Its state, and what happened since the last report."""
        executor, hosted = self._executor, self._hosted
        if executor is None:
            return ReplicaReport(clock_s=time.monotonic(), resident_bytes=resident_bytes())
        return ReplicaReport(
            clock_s=time.monotonic(),
            step_s={at: executor.step_s(at) for at in hosted},
            host_step_s={at: executor.host_step_s(at) for at in hosted},
            run_times={at: executor.run_times(at) for at in hosted},
            max_rows={at: executor.max_rows(at) for at in hosted},
            row_share={at: executor.workers.forecast.row_share(at) for at in hosted},
            works={at: executor.works(at) for at in hosted},
            resident_bytes=resident_bytes(),
            events=self._take_events(),
        )

    async def measure(self, *, beside: bool) -> None:
        """Profile where batching pays, now or in between jobs."""
        if beside:
            self._opened.measure_beside()
        else:
            await asyncio.to_thread(self._opened.measure_now)

    def close(self) -> None:
        """End everything."""
        if self._executor is not None:
            self._executor.close()

    @property
    def _opened(self) -> LocalExecutor:
        """The executor.

        Raises:
            StageError: `open` was not called, or failed.
        """
        if self._executor is None:
            raise StageError("a replica was given work before it was opened")
        return self._executor

    def _take_events(self) -> tuple[ServerEvent, ...]:
        """What happened since they were last taken."""
        taken = []
        while self._events:
            taken.append(self._events.popleft())
        return tuple(taken)


def replica_config(config: ServerConfig, cpus: int) -> ServerConfig:
    """What a replica is told: the same components and engines, and no limits of its own.

    Args:
        config: of the server.
        cpus: that it reserves, and so the threads of its engines.
    """
    return replace(
        config,
        # Its process has another working directory.
        bundle=config.bundle.absolute(),
        executor="local",
        replicas=0,
        max_replicas=0,
        address="",
        replica_gpus=0.0,
        threads=cpus,
        max_in_flight=UNBOUNDED,
        max_queued_per_stage=UNBOUNDED,
        refuse_late=False,
    )
