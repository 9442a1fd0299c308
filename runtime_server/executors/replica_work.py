"""What a server and its replicas tell each other, as values that `frames` can carry.

Knows neither what carries them nor what a replica does with them.
"""

import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from cascade.errors import CascadeError, StageError
from cascade.request import Handoff
from cascade.tuning.plan import EnginePlan
from runtime_server.admission.checks import RequestPlan
from runtime_server.protocol.callers import ANONYMOUS
from runtime_server.runtime.job import Delivery, Ended, EventSink, Job
from runtime_server.telemetry.logs import log_error
from runtime_server.telemetry.server_events import (
    EngineRan,
    ServerEvent,
    StageEnded,
    TracedRequest,
)
from wire.server_info import RunTime


class ReplicaLost(Exception):
    """The process of a replica has ended or cannot be reached; what it was doing is lost.

    No `CascadeError`: callers get a `TransportError`, and only when a second replica is lost.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One attempt at a job, from the first component that no attempt has finished."""

    number: int
    """Of the attempt; unique for a server."""
    plan: RequestPlan
    position: int
    """The component that it begins with."""
    handoff: Handoff
    """What that component starts from."""
    allowed_s: float | None
    """Seconds left until the deadline; clocks of two machines differ. None is no limit."""
    request: TracedRequest
    caller: str = ANONYMOUS

    def job(self, events: EventSink, now: float) -> Job:
        """The job that a replica makes of it.

        Args:
            events: where its events go.
            now: on the clock of the replica's executor.
        """
        return Job(
            plan=self.plan,
            events=events,
            deadline=None if self.allowed_s is None else now + self.allowed_s,
            request=self.request,
            position=self.position,
            handoff=self.handoff,
            caller=self.caller,
        )


def work_of(job: Job, number: int, now: float) -> Work:
    """What is sent of a job.

    Args:
        job: as the server holds it.
        number: of the attempt.
        now: on the clock of the job's deadline.
    """
    return Work(
        number=number,
        # What an earlier component started from is of no use any more: up to a picture.
        plan=replace(job.plan, start=job.handoff),
        position=job.position,
        handoff=job.handoff,
        allowed_s=None if job.deadline is None else job.deadline - now,
        request=job.request,
        caller=job.caller,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaHello:
    """What a replica is, once it is ready."""

    bundle_id: str
    plan: EnginePlan
    """How it runs the components."""
    warmed: Mapping[str, float]
    """Seconds of the warm-up step by component; empty without a warm-up."""
    pid: int
    host: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaReport:
    """What a replica says of itself at one moment."""

    clock_s: float = 0.0
    """Its monotonic clock."""
    step_s: Mapping[int, float] = field(default_factory=dict)
    """Median seconds of a step by position; 0 where none was measured."""
    host_step_s: Mapping[int, float] = field(default_factory=dict)
    """Mean seconds of the host's work per step, by position."""
    run_times: Mapping[int, tuple[RunTime, ...]] = field(default_factory=dict)
    """Runs of the engines by rows, by position."""
    max_rows: Mapping[int, int] = field(default_factory=dict)
    """Rows that may share a run, by position."""
    row_share: Mapping[int, float] = field(default_factory=dict)
    """What a row costs in a full shared run, in runs of its own, by position; 1 is no gain."""
    works: Mapping[int, bool] = field(default_factory=dict)
    """Whether each component works, by position."""
    resident_bytes: int = 0
    events: tuple[ServerEvent, ...] = ()
    """That happened since the last report and were not delivered with a job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """What came of one attempt since the last parcel, in order; the first is empty."""

    items: tuple[Delivery, ...]
    events: tuple[ServerEvent, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after it."""
        return bool(self.items) and isinstance(self.items[-1], Ended)


class ReplicaHandle(Protocol):
    """A replica as its server sees it; every method raises `ReplicaLost` once it is lost."""

    async def open(self) -> ReplicaHello:
        """Load the bundle, once.

        Raises:
            CascadeError: the bundle cannot be run there.
        """
        ...

    def run(self, work: Work) -> AsyncIterator[Parcel]:
        """Begin one attempt; the last item of the last parcel is `Ended`."""
        ...

    async def stop(self, number: int, error: CascadeError) -> None:
        """End an attempt, inside its step where that is possible; may return before it ended."""
        ...

    async def report(self) -> ReplicaReport:
        """Its state."""
        ...

    async def measure(self, *, beside: bool) -> None:
        """Profile where batching pays, now or in between jobs."""
        ...

    def kill(self) -> None:
        """End its process now; returns at once."""
        ...


class ReplicaPool(Protocol):
    """Where replicas come from."""

    @property
    def count(self) -> int:
        """How many there are to be at the start, and at least."""
        ...

    @property
    def most(self) -> int:
        """How many there may be while jobs wait; the same number where it is fixed."""
        ...

    @property
    def at_once(self) -> int:
        """How many find a device at the start; the others wait for one that is freed."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether as many again would find devices now."""
        ...

    def spawn(self) -> ReplicaHandle:
        """Begin the process of a replica; returns at once.

        Raises:
            TransportError: the machines cannot be reached.
        """
        ...

    def close(self) -> None:
        """Let go of the machines; called once every replica was killed."""
        ...


def portable(item: Delivery) -> Delivery:
    """A delivery that another process can read: a foreign exception becomes a `StageError`."""
    if isinstance(item, Ended) and not isinstance(item.error, CascadeError | None):
        error_id = secrets.token_hex(8)
        log_error(item.error, error_id, "")
        return Ended(StageError(f"{type(item.error).__name__} in a replica, error {error_id}"))
    return item


def with_clock(event: ServerEvent, ahead_s: float) -> ServerEvent:
    """An event of a replica on the clock of its server.

    Args:
        event: as it happened there.
        ahead_s: by which the replica's clock is ahead.
    """
    if isinstance(event, EngineRan | StageEnded):
        return replace(event, begun=event.begun - ahead_s)
    return event
