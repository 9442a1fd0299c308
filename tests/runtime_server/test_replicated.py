"""Jobs in replicas: the same pictures, also where a replica is lost, silent or told to stop."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import (
    Cancelled,
    DeadlineExceeded,
    ManifestError,
    ServerBusy,
    StageError,
    TransportError,
)
from cascade.events import Progress, StageFinished
from cascade.families import cost_of
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array
from runtime_server.admission.checks import RequestPlan
from runtime_server.config.config import ServerConfig
from runtime_server.executors import scaling
from runtime_server.executors.protocol import Executor
from runtime_server.executors.replicated import ReplicatedExecutor
from runtime_server.runtime.job import Delivery, Ended, Job, make_job
from runtime_server.telemetry.server_events import (
    EngineRan,
    ReplicaReplaced,
    ServerEvent,
    StageEnded,
    WorkRepeated,
)
from tests.support.replica_pool import InProcessPool, InProcessReplica
from tests.support.serving import HANG_S, PROMPT, local_results, wait_until
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.unhurried_engine import UnhurriedEngine

STAGES = ["text_encoder", "base", "sr16", "sr32"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Four components, three steps each."""
    return write_tiny_bundle(tmp_path_factory.mktemp("replicated") / "bundle")


class Asked:
    """One job and what was delivered to it."""

    def __init__(self, bundle: Bundle, seed: int, deadline: float | None = None) -> None:
        components = bundle.manifest.components
        self.request = GenerateRequest(prompt=PROMPT, seed=seed)
        plan = RequestPlan(
            request_id=f"r{seed}",
            request=self.request,
            start=Handoff(prompt=PROMPT),
            first=0,
            last=len(components) - 1,
            costs={at: cost_of(spec, self.request) for at, spec in enumerate(components)},
            format="png",
        )
        self.items: list[Delivery] = []
        self._came = threading.Condition()
        self.job: Job = make_job(plan, self, deadline)

    def put(self, item: Delivery) -> None:
        """Take one in."""
        with self._came:
            self.items.append(item)
            self._came.notify_all()

    def wait(self, condition: Callable[[Delivery], bool]) -> None:
        """Until such an item came."""
        with self._came:
            assert self._came.wait_for(lambda: any(map(condition, self.items)), timeout=HANG_S)

    def end(self) -> Exception | None:
        """How it ended, once it has."""
        self.wait(lambda item: isinstance(item, Ended))
        assert sum(isinstance(item, Ended) for item in self.items) == 1
        last = self.items[-1]
        assert isinstance(last, Ended)
        return last.error

    def results(self) -> dict[str, Array | None]:
        """Pictures by stage; every result came once, in order."""
        finished = [item for item in self.items if isinstance(item, StageFinished)]
        assert [item.stage for item in finished] == STAGES
        return {item.stage: item.handoff.image for item in finished}


def is_in(stage: str) -> Callable[[Delivery], bool]:
    """Whether an item is progress of that stage."""
    return lambda item: isinstance(item, Progress) and item.stage == stage


def check_pixels(asked: Asked, bundle: Bundle) -> None:
    """The pictures are those of this process."""
    right = local_results(bundle, asked.request)
    for stage, image in asked.results().items():
        if image is not None:
            np.testing.assert_array_equal(image, right[stage].handoff.image)


class Served:
    """An executor with replicas in this process."""

    def __init__(self, bundle: Bundle, replicas: int, most: int = 0, **settings: object) -> None:
        options = {"threads": 1, "max_batch_rows": "1", "warm_up": False, **settings}
        self.config = ServerConfig(bundle=bundle.folder, **options)  # type: ignore[arg-type]
        self.bundle = bundle
        self.events: list[ServerEvent] = []
        self.pool = InProcessPool(self.config, replicas, UnhurriedEngine, most)
        self.executor = ReplicatedExecutor(
            bundle.manifest, range(4), self.config, self.pool, emit=self.events.append
        )

    def ask(self, seed: int, deadline: float | None = None) -> Asked:
        """Submit a job."""
        asked = Asked(self.bundle, seed, deadline)
        self.executor.submit(asked.job)
        return asked

    def working(self) -> list[InProcessReplica]:
        """The replicas that have work now, the earliest first."""
        return [r for r in self.pool.replicas if r.replica._jobs and not r.dead.is_set()]

    def told(self, kind: type[ServerEvent]) -> list[ServerEvent]:
        """Events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


@contextmanager
def serving(bundle: Bundle, replicas: int, most: int = 0, **settings: object) -> Iterator[Served]:
    """An executor for the length of a block; nothing is left inside."""
    served = Served(bundle, replicas, most, **settings)
    try:
        yield served
        wait_until(lambda: served.executor.counts.running == 0)
    finally:
        served.executor.close()
    assert served.pool.closed


def test_pictures_are_those_of_one_process_and_work_is_spread(bundle: Bundle) -> None:
    """Two requests are at two replicas at once; what happened there is told here."""
    with serving(bundle, 2) as served:
        assert isinstance(served.executor, Executor)
        both = [served.ask(1), served.ask(2)]
        for asked in both:
            asked.wait(is_in("base"))
        assert len(served.working()) == 2
        assert [load.jobs for load in served.executor.replicas] == [1, 1]
        for asked in both:
            assert asked.end() is None
            check_pixels(asked, bundle)
            served.executor.release(asked.job)
        assert served.executor.counts.idle
        ran = {event.stage for event in served.told(EngineRan) if isinstance(event, EngineRan)}
        assert ran == set(STAGES)
        assert len(served.told(StageEnded)) == 8
        assert all(served.executor.works(position) for position in range(4))


@pytest.mark.parametrize("stage", ["base", "sr16", "sr32"])
def test_a_lost_stream_goes_on_elsewhere_from_the_last_result(bundle: Bundle, stage: str) -> None:
    """The same pixels, every result once; the components before are not run again."""
    with serving(bundle, 2) as served:
        asked = served.ask(3)
        asked.wait(is_in(stage))
        served.working()[0].kill()
        assert asked.end() is None
        check_pixels(asked, bundle)
        second = [work for replica in served.pool.replicas for work in replica.begun][-1]
        assert second.position == STAGES.index(stage)
        assert served.told(WorkRepeated) == [WorkRepeated("again")]
        wait_until(lambda: len(served.pool.replicas) == 3)
        assert served.told(ReplicaReplaced) == [ReplicaReplaced("died")]


def test_the_only_replica_is_replaced_and_its_requests_wait(bundle: Bundle) -> None:
    """Health says that nothing works meanwhile; both requests are made."""
    with serving(bundle, 1) as served:
        first, second = served.ask(4), served.ask(5)
        first.wait(is_in("base"))
        served.pool.refuses = True
        served.pool.replicas[0].kill()
        wait_until(lambda: not served.executor.works(0))
        assert not served.executor.replicas[0].ready
        served.pool.refuses = False
        for asked in (first, second):
            assert asked.end() is None
            check_pixels(asked, bundle)


def test_work_is_begun_again_once(bundle: Bundle) -> None:
    """A request that ends two replicas is not given a third."""
    with serving(bundle, 1) as served:
        asked = served.ask(6)
        for number in range(2):
            wait_until(lambda n=number: len(served.pool.replicas) > n)  # type: ignore[misc]
            replica = served.pool.replicas[number]
            wait_until(lambda r=replica: bool(r.replica._jobs))  # type: ignore[misc]
            replica.kill()
        error = asked.end()
        assert isinstance(error, TransportError)
        assert "two replicas ended" in str(error)
        assert [e.outcome for e in served.told(WorkRepeated) if isinstance(e, WorkRepeated)] == [
            "again",
            "given up",
        ]


def test_a_silent_replica_is_given_up(bundle: Bundle) -> None:
    """One that answers nothing any more costs its silence limit, not the request."""
    with serving(bundle, 2, replica_silence_s=0.3) as served:
        asked = served.ask(7)
        asked.wait(is_in("sr16"))
        served.working()[0].frozen = True
        assert asked.end() is None
        check_pixels(asked, bundle)
        assert ReplicaReplaced("silent") in served.told(ReplicaReplaced)


def test_a_stop_reaches_the_step_and_a_job_that_waits(bundle: Bundle) -> None:
    """At any moment: before it is sent, while it is on its way, in the midst of a step."""
    with serving(bundle, 1) as served:
        running, sent, waiting = served.ask(8), served.ask(9), served.ask(10)
        running.wait(is_in("base"))
        assert not served.executor.stop(waiting.job, Cancelled("no longer wanted"))
        assert isinstance(waiting.end(), Cancelled)
        assert not served.executor.release(waiting.job)
        for asked in (running, sent):
            served.executor.stop(asked.job, Cancelled("no longer wanted"))
            assert isinstance(asked.end(), Cancelled)
            assert not served.executor.release(asked.job)
        at_once = served.ask(11)
        served.executor.release(at_once.job)
        assert isinstance(at_once.end(), Cancelled)
        wait_until(lambda: served.executor.counts.idle)
        begun = len(served.told(EngineRan))
        asked = served.ask(12)
        assert asked.end() is None
        # Nothing of what was stopped ran beside it.
        assert len(served.told(EngineRan)) - begun <= 10 + 1


def test_the_deadline_travels(bundle: Bundle) -> None:
    """What is left of it ends the work at the replica, whose clock may be another one."""
    with serving(bundle, 1, refuse_late=False) as served:
        clock = served.executor._clock
        asked = served.ask(13, clock() + 0.05)
        assert isinstance(asked.end(), DeadlineExceeded)
        work = served.pool.replicas[0].begun[-1]
        assert work.allowed_s is not None
        assert 0 < work.allowed_s <= 0.05
        with pytest.raises(DeadlineExceeded):
            served.ask(14, clock() - 1)


def test_a_full_queue_says_when_to_come_back(bundle: Bundle) -> None:
    """The delay is the work before the first free place, spread over the replicas."""
    with serving(bundle, 1, max_queued_per_stage=1) as served:
        first = served.ask(15)
        assert first.end() is None
        # So that the times of steps are known here.
        wait_until(lambda: served.executor.step_s(3) > 0)
        inside = [served.ask(seed) for seed in range(16, 19)]
        with pytest.raises(ServerBusy) as refused:
            served.ask(19)
        assert refused.value.retry_after_s is not None
        assert refused.value.retry_after_s >= 0.1
        with pytest.raises(ServerBusy):
            served.executor.check_capacity(0, inside[0].job.caller)
        served.executor.check_capacity(0, "another caller")
        for asked in inside:
            assert asked.end() is None
        served.executor.refuse_new()
        with pytest.raises(TransportError, match="shutting down"):
            served.ask(20)


def test_replicas_follow_the_load(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that wait bring a second replica, which is gone after them; every picture is right."""
    monkeypatch.setattr(scaling, "EVERY_S", 0.01)
    monkeypatch.setattr(scaling, "MORE_AFTER_S", 0.02)
    monkeypatch.setattr(scaling, "FEWER_AFTER_S", 0.1)
    with serving(bundle, 1, most=2, max_queued_per_stage=64) as served:
        assert [load.number for load in served.executor.replicas] == [0]
        jobs = [served.ask(seed) for seed in range(30, 38)]
        wait_until(lambda: len(served.executor.replicas) == 2)
        for asked in jobs:
            assert asked.end() is None
            check_pixels(asked, bundle)
            served.executor.release(asked.job)
        assert all(replica.begun for replica in served.pool.replicas)
        # Whichever has no job when the other still has its last one.
        wait_until(lambda: len(served.executor.replicas) == 1)
        assert not served.told(ReplicaReplaced)
        assert served.ask(50).end() is None


def test_closing_ends_what_is_inside(bundle: Bundle) -> None:
    """Waiting, running, and at a replica that answers nothing."""
    served = Served(bundle, 1, replica_silence_s=0.2)
    jobs = [served.ask(seed) for seed in (21, 22, 23)]
    jobs[0].wait(is_in("base"))
    served.pool.replicas[0].frozen = True
    served.executor.close()
    assert all(isinstance(asked.end(), TransportError) for asked in jobs)


def test_a_bundle_that_a_replica_cannot_open_ends_the_start(bundle: Bundle, tmp_path: Path) -> None:
    """With the replica's own error; a replica with another bundle is refused too."""
    config = ServerConfig(bundle=tmp_path / "none", threads=1, warm_up=False)
    pool = InProcessPool(config, 2)
    with pytest.raises(ManifestError):
        ReplicatedExecutor(bundle.manifest, range(4), config, pool)
    assert pool.closed
    other = write_tiny_bundle(tmp_path / "other", steps=2)
    pool = InProcessPool(ServerConfig(bundle=other.folder, threads=1, warm_up=False), 1)
    with pytest.raises(StageError, match="install the same folder"):
        ReplicatedExecutor(bundle.manifest, range(4), config, pool)
