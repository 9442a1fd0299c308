"""Replicas as actors of a Ray cluster that is started here or joined.

The one file that imports ray, whose exceptions become ours here. Knows how a replica is begun,
called and killed; not what it is given to do.
"""

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError, EngineError, MissingExtra, StageError, TransportError
from cascade.stage_factory import EngineFactory
from cascade.system.cores import usable_cores
from runtime_server.config.config import ServerConfig
from runtime_server.executors.replica import Replica, replica_config
from runtime_server.executors.replica_channel import ChannelServer, ReplicaChannel, open_channel
from runtime_server.executors.replica_work import (
    Parcel,
    ReplicaHello,
    ReplicaLost,
    ReplicaReport,
    Work,
)
from runtime_server.telemetry.logs import log_event

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as exc:
    raise MissingExtra("replicas need Ray: pip install 'edge-cascade[ray]'") from exc

OBJECT_STORE_BYTES = 256 << 20
"""Pictures on their way between processes of one machine; Ray would take a third of its memory."""
FREED_S = 5.0
"""Until what ended is no longer counted as used."""
JOINED_S = 300.0
"""For the machines of a cluster that is joined: its head begins before them."""
END_S = 2.0
"""Time for a replica to end as Ray asks it to."""
KEY_BYTES = 32
MANY = 1000
"""Calls of one actor at once: every one waits on its event loop."""


class ReplicaActor:
    """A replica in a process of its own; errors of ours are answers, or Ray would wrap them."""

    def __init__(self, config: ServerConfig, make_engine: EngineFactory | None, key: bytes) -> None:
        self._replica = Replica(config, make_engine)
        self._channel = ChannelServer(self._replica, key)

    async def open(self) -> "ReplicaFound | CascadeError":
        """See `Replica.open`; from then on it takes attempts at the address that is answered."""
        try:
            hello = await self._replica.open()
        except CascadeError as exc:
            return exc.with_traceback(None)
        host = ray.util.get_node_ip_address()
        return ReplicaFound(hello=hello, host=host, port=await self._channel.listen(host))

    async def report(self) -> ReplicaReport:
        """See `Replica.report`."""
        return await self._replica.report()

    async def measure(self, beside: bool) -> CascadeError | None:  # noqa: FBT001 - Ray has no keywords only
        """See `Replica.measure`."""
        try:
            await self._replica.measure(beside=beside)
        except CascadeError as exc:
            return exc.with_traceback(None)
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaFound:
    """A replica that is ready, and where it takes attempts."""

    hello: ReplicaHello
    host: str
    port: int


class RayReplica:
    """A `ReplicaHandle` of an actor; attempts go past Ray, whose every call takes 2 ms."""

    def __init__(self, actor: Any, key: bytes) -> None:
        self._actor = actor
        self._key = key
        self._hello: ReplicaHello | None = None
        self._channel: ReplicaChannel | None = None

    async def open(self) -> ReplicaHello:
        """Load the bundle and connect; see `ReplicaHandle.open`."""
        found: ReplicaFound = await answered(self._actor.open.remote())
        self._hello = found.hello
        self._channel = await open_channel(found.host, found.port, self._key)
        return found.hello

    def run(self, work: Work) -> AsyncIterator[Parcel]:
        """Begin one attempt; see `ReplicaHandle.run`."""
        return self._opened.run(work)

    async def stop(self, number: int, error: CascadeError) -> None:
        """End an attempt; see `ReplicaHandle.stop`."""
        await self._opened.stop(number, error)

    @property
    def _opened(self) -> ReplicaChannel:
        """The channel.

        Raises:
            ReplicaLost: it was never opened.
        """
        if self._channel is None:
            raise ReplicaLost("a replica was given work before it was opened")
        return self._channel

    async def report(self) -> ReplicaReport:
        """Its state."""
        report: ReplicaReport = await answered(self._actor.report.remote())
        return report

    async def measure(self, *, beside: bool) -> None:
        """Profile where batching pays."""
        await answered(self._actor.measure.remote(beside))

    def kill(self) -> None:
        """End its process now."""
        if self._channel is not None:
            self._channel.close()
        # Not an error where it has ended already.
        ray.kill(self._actor, no_restart=True)
        if self._hello is not None and self._hello.host == socket.gethostname():
            # A stopped process does not read that it is to end, and keeps its device for a minute.
            timer = threading.Timer(END_S, end_process, [self._hello.pid])
            timer.daemon = True
            timer.start()


class RayPool:
    """Where actors come from; a `ReplicaPool`."""

    def __init__(self, config: ServerConfig, make_engine: EngineFactory | None = None) -> None:
        """A cluster that is joined, or started on this machine.

        Args:
            config: of the server: which cluster, how many replicas, and what they run.
            make_engine: runs a graph; the engine that fits configuration and machine when None.

        Raises:
            TransportError: there is no cluster at that address.
            EngineError: the cluster has not enough processors or GPUs.
        """
        self._make_engine = make_engine
        self._is_own = not config.address
        self._gpus = config.replica_gpus
        CONNECTION.open(config)
        try:
            self.count = config.replicas or default_count(config)
            self.most = max(self.count, config.max_replicas)
            cores = usable_cores() // self.most if self._is_own else 1
            self._cpus = config.threads or max(1, cores)
            is_first = CONNECTION.users == 1
            within_s = FREED_S if self._is_own or not is_first else JOINED_S
            # Beside replicas that are to be replaced, one that has room is enough to begin with.
            count = self.count if is_first else 1
            wait_for_resources(count, self._cpus, self._gpus, within_s)
            self.at_once = min(self.count, max(1, free_places(self._cpus, self._gpus)))
        except CascadeError:
            CONNECTION.close()
            raise
        self._config = replica_config(config, self._cpus)

    def spawn(self) -> RayReplica:
        """Begin a replica; returns at once."""
        # The paths of this process: a worker of Ray does not read those of a virtual environment.
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} if self._is_own else {}
        # For this replica alone, and known to it and this process only.
        key = secrets.token_bytes(KEY_BYTES)
        with translated():
            actor = (
                ray.remote(ReplicaActor)
                .options(
                    num_cpus=self._cpus,
                    num_gpus=self._gpus,
                    max_concurrency=MANY,
                    # The server replaces it, and begins its work again, by itself.
                    max_restarts=0,
                    max_task_retries=0,
                    scheduling_strategy="SPREAD",
                    runtime_env={"env_vars": paths},
                )
                .remote(self._config, self._make_engine, key)
            )
        return RayReplica(actor, key)

    @property
    def has_room(self) -> bool:
        """Whether as many again would find processors and GPUs now."""
        return free_places(self._cpus, self._gpus) >= self.count

    def close(self) -> None:
        """Leave the cluster; one that was started here ends with its last user."""
        CONNECTION.close()


class RayConnection:
    """The one connection that ray has in a process, shared by all pools in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0

    def open(self, config: ServerConfig) -> None:
        """Join or start a cluster, unless a pool of this process is in it already."""
        with self._lock:
            if not self._users:
                connect(config)
            self._users += 1

    @property
    def users(self) -> int:
        """Pools that are in it."""
        return self._users

    def close(self) -> None:
        """Leave it with the last user."""
        with self._lock:
            self._users -= 1
            if not self._users:
                ray.shutdown()


CONNECTION = RayConnection()
"""ray keeps its connection in the process, and so do we."""


def connect(config: ServerConfig) -> None:
    """Join the cluster of a configuration, or start one for this process alone.

    Raises:
        TransportError: there is none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its warnings are no lines of our log.
    logging.getLogger("ray").setLevel(logging.ERROR)
    if not config.address:
        # Else Ray would write one into the home folder, which a container may not have.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(KEY_BYTES))
    # An address of this machine alone: nobody else has business with a cluster of one process.
    most = max(config.replicas, config.max_replicas)
    own = {
        # Else `ray.init` takes a cluster that it finds on this machine or in RAY_ADDRESS.
        "address": "local",
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        # Only a number: as many replicas again, for a reload.
        "num_cpus": 2 * max(usable_cores(), most * max(1, config.threads)),
        "_node_ip_address": "127.0.0.1",
    }
    options = {"address": config.address} if config.address else own
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as exc:
        # Of many kinds, down to a bare `Exception` where a machine is too busy to start it.
        reason = f"no Ray cluster at {config.address!r}" if config.address else "Ray did not start"
        raise TransportError(f"address: {reason}: {exc}") from exc


def default_count(config: ServerConfig) -> int:
    """One replica per GPU, or else per machine."""
    if config.replica_gpus:
        return max(1, int(ray.cluster_resources().get("GPU", 0) / config.replica_gpus))
    machines = [node for node in ray.nodes() if node["Alive"] and "CPU" in node["Resources"]]
    return max(1, len(machines))


def wait_for_resources(count: int, cpus: float, gpus: float, within_s: float) -> None:
    """Wait until replicas find what they need in the cluster.

    Args:
        count: replicas.
        cpus: processors of each.
        gpus: GPUs of each.
        within_s: how long.

    Raises:
        EngineError: the cluster does not have it in time.
    """
    until = time.monotonic() + within_s
    last: list[str] = []
    while True:
        # Behind the truth by a moment: what ended a second ago may still be counted.
        free = ray.available_resources()
        short = [
            f"{count * each:g} {name}s, {free.get(name, 0):g} free"
            for name, each in (("CPU", cpus), ("GPU", gpus))
            if count * each > free.get(name, 0)
        ]
        if not short:
            return
        if short != last and within_s > FREED_S:
            log_event("replicas_wait", message=f"{count} need {' and '.join(short)}")
            last = short
        if time.monotonic() > until:
            raise EngineError(
                f"replicas: {count} need {' and '.join(short)} in the cluster: ask for fewer, or "
                "add machines"
            )
        time.sleep(FREED_S / 20)


def free_places(cpus: float, gpus: float) -> int:
    """Replicas that would find what they need in the cluster now."""
    free = ray.available_resources()
    needed = [(name, each) for name, each in (("CPU", cpus), ("GPU", gpus)) if each]
    return min(int(free.get(name, 0) / each) for name, each in needed)


def end_process(pid: int) -> None:
    """Kill a replica on this machine, if that is what the process still is."""
    with contextlib.suppress(OSError):
        # Its number may be another program's by now; Ray names its workers.
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::ReplicaActor"):
            os.kill(pid, signal.SIGKILL)


async def answered(reference: Awaitable[Any]) -> Any:
    """The answer of an actor.

    Raises:
        CascadeError: it answered with an error.
        ReplicaLost: it did not answer.
    """
    with translated():
        answer = await reference
    if isinstance(answer, CascadeError):
        raise answer
    return answer


@contextmanager
def translated() -> Iterator[None]:
    """Ray's exceptions as ours.

    Raises:
        StageError: a replica failed in a way that is not planned for.
        ReplicaLost: its process has ended or cannot be reached.
    """
    try:
        yield
    except RayTaskError as exc:
        raise StageError(f"a replica failed: {type(exc.cause).__name__}") from exc
    except RayError as exc:
        raise ReplicaLost(f"a replica was lost: {type(exc).__name__}") from exc
