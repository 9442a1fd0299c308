"""Workers and their queue, with stages whose every step the test releases."""

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import pytest

from cascade.cost import Cost
from cascade.engine import Engine
from cascade.errors import (
    Cancelled,
    DeadlineExceeded,
    ServerBusy,
    StageError,
    TransportError,
)
from cascade.events import Event, Progress, StageFinished
from cascade.graph_spec import NET
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array
from runtime_server.admission.checks import RequestPlan
from runtime_server.batching.batcher import DeviceBatcher
from runtime_server.batching.role_key import RoleKey
from runtime_server.runtime.job import Delivery, Ended, Job, make_job
from runtime_server.runtime.job_queue import QueueLimits
from runtime_server.runtime.stage_health import StageHealth
from runtime_server.runtime.workers import Workers, hosted_engines, limits_of
from runtime_server.system.clock import Clock
from runtime_server.telemetry.server_events import TracedRequest
from runtime_server.telemetry.traceparent import TraceParent
from tests.support.serving import HANG_S, wait_until

STEPS = 3
COST = Cost(runs={NET: STEPS}, units=STEPS, pixels=4 * STEPS, result_bytes=12)


class SteppedEngine:
    """An engine whose runs wait for the test, and which notes what happens to it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.permits: queue.Queue[str] = queue.Queue()
        self.entered = threading.Semaphore(0)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One run, with the test's permission."""
        self.entered.release()
        permit = self.permits.get(timeout=60)
        if permit == "terminated":
            raise Cancelled("ended from outside")
        if permit == "fail":
            raise ZeroDivisionError("a bug")
        return {"prediction": inputs["x_t"]}

    def terminate(self) -> None:
        """End the run that waits."""
        self.log.append("terminate")
        self.permits.put("terminated")

    def close(self) -> None:
        """Note it."""
        self.log.append("close")


class SteppedStage:
    """A stage of `STEPS` runs of a stepped engine."""

    def __init__(
        self, name: str, engine: Engine | None = None, log: list[str] | None = None
    ) -> None:
        self.name = name
        self.stepped = SteppedEngine()
        self.engine: Engine = engine or self.stepped
        self.log = self.stepped.log if log is None else log

    @property
    def names(self) -> tuple[str, ...]:
        """One component."""
        return (self.name,)

    @property
    def engines(self) -> Mapping[str, Engine]:
        """Its one engine."""
        return {NET: self.engine}

    def with_engines(self, engines: Mapping[str, Engine]) -> "SteppedStage":
        """With the executor's engine."""
        return SteppedStage(self.name, engines[NET], self.log)

    def prefetch(self, handoff: Handoff) -> None:
        """Nothing."""

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """`STEPS` steps."""
        self.log.append(f"run {request.seed}")
        for step in range(1, STEPS + 1):
            self.engine.run({"x_t": np.zeros((1, 3, 2, 2), np.float32)})
            yield Progress(self.name, step, STEPS)
        yield StageFinished(self.name, handoff, {self.name: 0.0})

    def terminate(self) -> None:
        """End the run in progress."""
        self.engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()

    def go(self, steps: int = STEPS) -> None:
        """Let so many steps happen."""
        for _ in range(steps):
            self.stepped.permits.put("go")

    def wait_entered(self) -> None:
        """Until a step waits for its permit."""
        assert self.stepped.entered.acquire(timeout=60)


class Received(list[Delivery]):
    """What was delivered to one job, in order."""

    put = list[Delivery].append


def workers_of(
    stages: Mapping[int, SteppedStage], limits: QueueLimits, clock: Clock = time.monotonic
) -> tuple[Workers, DeviceBatcher]:
    """Workers at rest, and the batcher of their engines: rows run one by one."""
    engines = hosted_engines(stages, {})
    batcher = DeviceBatcher(engines, limits_of(engines, {}), clock=clock)
    return Workers(stages, batcher, limits, StageHealth(3), clock=clock), batcher


class Bench:
    """Workers of two stepped stages and what they delivered, by seed."""

    def __init__(self, limits: QueueLimits) -> None:
        self.stages = (SteppedStage("first"), SteppedStage("second"))
        self.workers, self.batcher = workers_of(dict(enumerate(self.stages)), limits)
        self.delivered: dict[int, Received] = {}
        self.workers.start()

    def job(
        self, seed: int, *, first: int = 0, last: int = 1, deadline: float | None = None
    ) -> Job:
        """A job named by its seed."""
        plan = RequestPlan(
            request_id=f"r{seed}",
            request=GenerateRequest(seed=seed),
            start=Handoff(),
            first=first,
            last=last,
            costs=MappingProxyType(dict.fromkeys(range(first, last + 1), COST)),
            format="png",
        )
        return make_job(plan, self.delivered.setdefault(seed, Received()), deadline)

    def end_of(self, seed: int) -> Ended:
        """How a job ended, once it has."""

        def ended() -> bool:
            return any(isinstance(item, Ended) for item in self.delivered[seed])

        wait_until(ended)
        end = self.delivered[seed][-1]
        assert isinstance(end, Ended)
        return end


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An workers at work; counters must be back at zero in the end."""
    # A deadline within a turn's age makes urgent; neither may pass while a busy machine waits.
    limits = QueueLimits(
        max_queued_per_stage=2, max_in_flight=4, progress_interval_s=0, max_queue_age_s=2 * HANG_S
    )
    made = Bench(limits)
    yield made
    wait_until(lambda: made.workers.counts.idle)
    made.workers.close()


def test_a_job_visits_its_components_in_order(bench: Bench) -> None:
    """Progress and a result of each, then the end; waiting is told with the result."""
    job = bench.job(1)
    accepted = bench.workers.submit(job)
    assert (accepted.queue_position, accepted.estimated_wait_s) == (0, 0.0)
    bench.stages[0].go()
    bench.stages[1].go()
    assert bench.end_of(1).error is None
    bench.workers.release(job)
    names = [getattr(item, "stage", "end") for item in bench.delivered[1]]
    assert names == ["first"] * 4 + ["second"] * 4 + ["end"]
    result = bench.delivered[1][3]
    assert isinstance(result, StageFinished)
    assert set(result.seconds) == {"first", "queue"}
    assert bench.workers.forecast.measured_step_s(1) > 0


def test_what_was_begun_is_finished_before_anything_new_begins(bench: Bench) -> None:
    """The second component of one job runs before the first of the next."""
    jobs = [bench.job(1), bench.job(2)]
    for job in jobs:
        bench.workers.submit(job)
    bench.stages[0].go()
    bench.stages[1].wait_entered()
    assert bench.stages[0].log == ["run 1"]
    bench.stages[1].go(2 * STEPS)
    bench.stages[0].go()
    for job in jobs:
        assert bench.end_of(job.plan.request.seed).error is None
        bench.workers.release(job)
    assert bench.stages[0].log == ["run 1", "run 2"]


def test_an_urgent_request_goes_first_from_the_next_step_on(bench: Bench) -> None:
    """It begins beside the one that runs, whose own steps go on when it is through."""
    bench.workers.submit(slow := bench.job(1, last=0))
    bench.stages[0].wait_entered()
    urgent = bench.job(2, first=1, last=1, deadline=time.monotonic() + HANG_S)
    assert bench.workers.submit(urgent).queue_position == 0
    wait_until(lambda: bench.workers.counts.running == 2)
    wait_until(lambda: bench.batcher.inside == 2)
    bench.stages[0].go(1)
    bench.stages[1].go()
    assert bench.end_of(2).error is None
    assert not any(isinstance(item, Ended) for item in bench.delivered[1])
    bench.stages[0].go(STEPS - 1)
    assert bench.end_of(1).error is None
    for job in (slow, urgent):
        bench.workers.release(job)


def test_a_job_is_named_by_its_request_until_a_call_names_it(bench: Bench) -> None:
    """What events of the server say of it: its id, and the call's span where there is one."""
    job = bench.job(1)
    assert job.request == TracedRequest("r1")
    named = TracedRequest("r1", TraceParent("1" * 32, "2" * 16, sampled=True))
    assert make_job(job.plan, job.events, None, named).request is named


def test_cancelled_while_queued_never_starts(bench: Bench) -> None:
    """It ends at once, its place is free, and the stage never sees it."""
    running, waiting = bench.job(1, last=0), bench.job(2, last=0)
    bench.workers.submit(running)
    bench.stages[0].wait_entered()
    bench.workers.submit(waiting)
    assert not bench.workers.stop(waiting, Cancelled("no longer wanted"))
    assert isinstance(bench.end_of(2).error, Cancelled)
    bench.workers.release(waiting)
    bench.stages[0].go()
    assert bench.end_of(1).error is None
    bench.workers.release(running)
    assert bench.stages[0].log == ["run 1"]


def test_cancelled_while_running_ends_inside_its_step(bench: Bench) -> None:
    """The stage is told to terminate, and the next job runs untouched."""
    jobs = [bench.job(1, last=0), bench.job(2, last=0)]
    for job in jobs:
        bench.workers.submit(job)
    bench.stages[0].wait_entered()
    assert bench.workers.stop(jobs[0], DeadlineExceeded("late"))
    assert isinstance(bench.end_of(1).error, DeadlineExceeded)
    # Stopping what has ended must not reach the run that goes on now.
    bench.stages[0].wait_entered()
    assert not bench.workers.stop(jobs[0], Cancelled("again"))
    assert not bench.workers.release(jobs[0])
    bench.stages[0].go()
    assert bench.end_of(2).error is None
    bench.workers.release(jobs[1])
    assert bench.stages[0].log == ["run 1", "terminate", "run 2"]


def test_a_deadline_passed_is_refused_before_it_queues(bench: Bench) -> None:
    """Nothing is counted for it."""
    with pytest.raises(DeadlineExceeded):
        bench.workers.submit(bench.job(1, deadline=0.0))
    assert bench.workers.counts.idle


def test_a_full_queue_refuses_and_other_queues_do_not(bench: Bench) -> None:
    """The bound is per first component, and the last bound is on all in flight."""
    jobs = [bench.job(1), bench.job(2), bench.job(3)]
    bench.workers.submit(jobs[0])
    bench.stages[0].wait_entered()
    positions = [bench.workers.submit(job).queue_position for job in jobs[1:]]
    assert positions == [1, 2]
    with pytest.raises(ServerBusy, match="2 requests already wait for first"):
        bench.workers.submit(bench.job(4))
    jobs.append(bench.job(5, first=1))
    # Who came first is first, whatever component it waits for.
    assert bench.workers.submit(jobs[-1]).queue_position == 3
    with pytest.raises(ServerBusy, match="4 requests are in flight"):
        bench.workers.submit(bench.job(6, first=1))
    for job in jobs:
        bench.workers.release(job)


def test_a_stage_that_fails_ends_only_its_own_job(bench: Bench) -> None:
    """The exception reaches who waits, the thread goes on."""
    jobs = [bench.job(1, last=0), bench.job(2, last=0)]
    for job in jobs:
        bench.workers.submit(job)
    bench.stages[0].stepped.permits.put("fail")
    bench.stages[0].go()
    assert isinstance(bench.end_of(1).error, ZeroDivisionError)
    assert bench.end_of(2).error is None
    for job in jobs:
        bench.workers.release(job)


def test_refusing_new_work_lets_the_old_finish(bench: Bench) -> None:
    """As in a drain."""
    job = bench.job(1, last=0)
    bench.workers.submit(job)
    bench.workers.refuse_new()
    with pytest.raises(TransportError, match="shutting down"):
        bench.workers.submit(bench.job(2))
    bench.stages[0].go()
    assert bench.end_of(1).error is None
    bench.workers.release(job)


def test_closing_ends_running_and_queued_and_releases_the_stages() -> None:
    """Nobody is left waiting for an answer."""
    bench = Bench(QueueLimits(max_queued_per_stage=2, max_in_flight=4))
    jobs = [bench.job(1), bench.job(2)]
    bench.workers.submit(jobs[0])
    bench.stages[0].wait_entered()
    bench.workers.submit(jobs[1])
    bench.workers.close()
    for seed in (1, 2):
        assert isinstance(bench.end_of(seed).error, TransportError)
    assert bench.stages[0].log[-1] == bench.stages[1].log[-1] == "close"


def test_a_stage_without_a_result_is_a_bug_of_the_stage(bench: Bench) -> None:
    """It is reported as such, not as success."""

    class Silent(SteppedStage):
        def with_engines(self, engines: Mapping[str, Engine]) -> "Silent":
            return Silent(self.name, engines[NET], self.log)

        def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
            del request, handoff
            yield from ()

    limits = QueueLimits(max_queued_per_stage=1, max_in_flight=1)
    workers, _ = workers_of({0: Silent("silent")}, limits)
    workers.start()
    job = bench.job(1, last=0)
    workers.submit(job)
    assert isinstance(bench.end_of(1).error, StageError)
    workers.release(job)
    workers.close()


def test_old_step_times_refuse_only_the_hopeless() -> None:
    """An idle server that was slow an hour ago tries again; ten times too long is too long."""
    now = [1000.0]
    stage = SteppedStage("first")
    limits = QueueLimits(max_queued_per_stage=2, max_in_flight=4)
    workers, batcher = workers_of({0: stage}, limits, lambda: now[0])
    batcher.limits.learn(RoleKey(0), {1: 4.0})
    bench = Bench(limits)

    def job(allowed_s: float) -> Job:
        return bench.job(1, last=0, deadline=now[0] + allowed_s)

    # Three steps of 4 s as measured at start: a tenth of that counts.
    with pytest.raises(DeadlineExceeded, match="this takes 1\\.2 s here"):
        workers.submit(job(1.1))
    workers.submit(waiting := job(1.3))
    workers.release(waiting)
    workers.close()
    bench.workers.close()
