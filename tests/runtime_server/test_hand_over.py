"""One executor's replicas give way to another's, one at a time, and no job fails."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cascade.bundle.bundle import Bundle
from runtime_server.config.config import ServerConfig
from runtime_server.executors.replicated import ReplicatedExecutor
from tests.runtime_server.test_replicated import Asked, check_pixels
from tests.support.replica_pool import InProcessPool, Room
from tests.support.serving import wait_until
from tests.support.unhurried_engine import UnhurriedEngine


class Sharing:
    """Executors of one bundle whose replicas share devices."""

    def __init__(self, bundle: Bundle, devices: int) -> None:
        self._bundle = bundle
        self.room = Room(devices)

    @contextmanager
    def executor(self, replicas: int) -> Iterator[ReplicatedExecutor]:
        """One, for the length of a block."""
        config = ServerConfig(
            bundle=self._bundle.folder, threads=1, max_batch_rows="1", warm_up=False
        )
        pool = InProcessPool(config, replicas, UnhurriedEngine, room=self.room)
        executor = ReplicatedExecutor(self._bundle.manifest, range(4), config, pool)
        try:
            yield executor
        finally:
            executor.close()

    def ask(self, executor: ReplicatedExecutor, seed: int) -> Asked:
        """Submit a job."""
        asked = Asked(self._bundle, seed)
        executor.submit(asked.job)
        return asked

    def finish(self, executor: ReplicatedExecutor, asked: Asked) -> None:
        """Wait for a job, whose pictures are right."""
        assert asked.end() is None
        check_pixels(asked, self._bundle)
        executor.release(asked.job)


def places(executor: ReplicatedExecutor) -> int:
    """Replicas that it has or is to have."""
    return len(executor.replicas)


def test_replicas_are_replaced_one_after_the_other(bundle: Bundle) -> None:
    """Jobs before and after on two devices: the second executor begins with one replica."""
    shared = Sharing(bundle, devices=2)
    with shared.executor(2) as first:
        old = [shared.ask(first, seed) for seed in range(4)]
        first.give_way()
        assert places(first) == 1
        with shared.executor(2) as second:
            assert sum(load.ready for load in second.replicas) == 1
            new = [shared.ask(second, seed) for seed in range(4, 7)]
            for asked in old:
                shared.finish(first, asked)
            first.shrink()
            wait_until(lambda: places(first) == 0)
            wait_until(lambda: all(load.ready for load in second.replicas))
            for asked in new:
                shared.finish(second, asked)
    assert shared.room.free == 2


def test_what_was_given_is_taken_back(bundle: Bundle) -> None:
    """Where no other executor comes, both replicas work again."""
    shared = Sharing(bundle, devices=2)
    with shared.executor(2) as only:
        only.give_way()
        assert places(only) == 1
        only.take_back()
        wait_until(lambda: [load.ready for load in only.replicas] == [True, True])
        shared.finish(only, shared.ask(only, 1))


@pytest.mark.parametrize(("devices", "replicas"), [(4, 2), (1, 1)])
def test_nothing_is_given_where_there_is_room_or_only_one(
    bundle: Bundle, devices: int, replicas: int
) -> None:
    """Beside as many again; and the last replica stays, since nothing would work meanwhile."""
    shared = Sharing(bundle, devices)
    with shared.executor(replicas) as only:
        only.give_way()
        only.shrink()
        assert places(only) == replicas
        shared.finish(only, shared.ask(only, 1))


def test_a_job_is_not_lost_while_its_replica_gives_way(bundle: Bundle) -> None:
    """Both replicas are at work: the one that is chosen finishes first."""
    shared = Sharing(bundle, devices=2)
    with shared.executor(2) as only:
        asked = [shared.ask(only, seed) for seed in range(4)]
        giving = threading.Thread(target=only.give_way)
        giving.start()
        for one in asked:
            shared.finish(only, one)
        giving.join()
        assert places(only) == 1
