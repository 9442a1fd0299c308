"""What runs the jobs of one bundle, wherever the engines are.

A job goes in and its events come out at its sink. Bundles, admission, contexts, request ids,
results and authentication stay with the server. Knows no engine and no transport.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from cascade.errors import CascadeError
from cascade.events import Accepted
from cascade.tuning.plan import EnginePlan
from runtime_server.runtime.job import Job
from runtime_server.runtime.job_queue import JobCounts
from runtime_server.telemetry.load import ReplicaLoad
from wire.server_info import RunTime


@runtime_checkable
class Executor(Protocol):
    """Runs jobs; every method may be called from any thread and returns without running a step."""

    @property
    def plan(self) -> EnginePlan:
        """Engine and precision of each component."""
        ...

    @property
    def warmed(self) -> Mapping[str, float]:
        """Seconds of the warm-up step by component; empty without a warm-up."""
        ...

    @property
    def counts(self) -> JobCounts:
        """Jobs inside now."""
        ...

    @property
    def replicas(self) -> tuple[ReplicaLoad, ...]:
        """Processes that the engines are in, where it is not this one."""
        ...

    def submit(self, job: Job) -> Accepted:
        """Take a job; from now on its sink receives its events and, last, one `Ended`.

        Raises:
            DeadlineExceeded: its time is over already, or is not enough even for an idle executor.
            ServerBusy: no room; `retry_after_s` estimates when there is.
            TransportError: the executor refuses new work.
        """
        ...

    def check_capacity(self, position: int, caller: str) -> None:
        """Refuse now what `submit` would refuse for want of room.

        Args:
            position: of the component that the job would begin with.
            caller: who asks.

        Raises:
            ServerBusy: no room; `retry_after_s` estimates when there is.
            TransportError: the executor refuses new work.
        """
        ...

    def stop(self, job: Job, error: CascadeError) -> bool:
        """End a job with `error`, inside its step where that is possible.

        Returns:
            Whether it still runs: then call again a little later.
        """
        ...

    def release(self, job: Job) -> bool:
        """Forget a job whose results are delivered or no longer wanted; see `stop`."""
        ...

    def step_s(self, position: int) -> float:
        """Median seconds of the last steps of a component; 0 before the first."""
        ...

    def max_rows(self, position: int) -> int:
        """Rows that may share a run of a component."""
        ...

    def run_times(self, position: int) -> tuple[RunTime, ...]:
        """What runs of a component's engines take, as far as known; by role, then by rows."""
        ...

    def host_step_s(self, position: int) -> float:
        """Mean seconds of the host's work per step of a component; 0 before its first picture."""
        ...

    def works(self, position: int) -> bool:
        """Whether a component works."""
        ...

    def measure_now(self) -> None:
        """Profile where batching pays.

        Raises:
            EngineError: a graph cannot be run.
        """
        ...

    def measure_beside(self) -> None:
        """The same in between requests, where components were warmed up; returns at once."""
        ...

    def give_way(self) -> None:
        """Free a device for an executor that is to follow, where it would find none; may wait."""
        ...

    def take_back(self) -> None:
        """Use again what was freed: none followed."""
        ...

    def shrink(self) -> None:
        """Free what no job needs; called again and again once another executor has followed."""
        ...

    def refuse_new(self) -> None:
        """Admit nothing more; the jobs inside go on."""
        ...

    def close(self) -> None:
        """End everything and release the engines."""
        ...
