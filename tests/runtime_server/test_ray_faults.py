"""Clusters that servers join: a node, the controller and a server are killed; reload and drain.

`make ray-test` installs Ray and runs them; a suite without it skips them.
"""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.lib.replica_load import descendants, process_times
from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.request import GenerateRequest
from cascade.types import Array
from tests.support.server_process import Victim, victim
from tests.support.serving import (
    PROMPT,
    connect,
    local_results,
    pb,
    pixels,
    request_message,
    results_of,
    wait_until,
)
from tests.support.tiny_bundle import write_tiny_bundle

pytest.importorskip("ray", reason="Ray is not installed: run `make ray-test`")
# Ray leaves its sockets to the interpreter's end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

STEPS = 400
"""Of the last component: long enough to be killed in."""
CALLERS = 4
STARTED_WITHIN_S = 300.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Four components, three steps each."""
    return write_tiny_bundle(tmp_path_factory.mktemp("faults") / "bundle")


def message(bundle: Bundle, seed: int, steps: int = STEPS, **fields: Any) -> Any:
    """A request for a picture that takes a while."""
    options = {"sr32": pb.StageOptions(steps=steps)}
    words = pb.PromptStart(prompt=PROMPT)
    return request_message(bundle, prompt=words, seed=seed, options=options, **fields)


def truth(bundle: Bundle, seed: int, steps: int = STEPS) -> Array:
    """Its picture in one process."""
    options = {"sr32": DiffusionOptions(steps=steps)}
    request = GenerateRequest(prompt=PROMPT, seed=seed, options=options)
    image = local_results(bundle, request)["sr32"].handoff.image
    assert image is not None
    return image


def check(bundle: Bundle, responses: Any, seed: int, steps: int = STEPS) -> None:
    """A stream brings the right picture."""
    found = pixels(results_of(responses)["sr32"].image)
    np.testing.assert_array_equal(found, truth(bundle, seed, steps))


def pids_named(pid: int, *names: str) -> list[int]:
    """Processes below one whose command line has one of these names."""
    found = []
    for child in descendants(pid):
        known = process_times(child)
        if known is not None and any(name.encode() in known[0] for name in names):
            found.append(child)
    return found


class JoinedCluster:
    """A cluster of this machine: a head without processors, and nodes with one each."""

    def __init__(self, nodes: int) -> None:
        from ray.cluster_utils import Cluster

        options = {"object_store_memory": 100 << 20, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
        self._options = options
        self.nodes = [self.add() for _ in range(nodes)]
        self.begun = descendants(os.getpid())

    def add(self) -> Any:
        """One more node."""
        return self.cluster.add_node(num_cpus=1, object_store_memory=100 << 20)

    def options(self, replicas: int) -> list[str]:
        """Of a server that joins it."""
        given = ["--executor", "ray", "--address", self.cluster.address, "--replica-silence-s", "2"]
        return [*given, "--replicas", str(replicas), "--no-warm-up"]


@contextmanager
def joined_cluster(nodes: int) -> Iterator[JoinedCluster]:
    """A cluster for the length of a block."""
    made = JoinedCluster(nodes)
    try:
        yield made
    finally:
        begun = descendants(os.getpid()) | made.begun
        made.cluster.shutdown()
        for pid in begun:
            # What a killed raylet had begun lives on for a minute.
            known = process_times(pid)
            if known is not None and known[0].startswith(b"ray::"):
                os.kill(pid, signal.SIGKILL)


def ready(server: Victim) -> float:
    """Replicas that take work."""
    return server.total("cascade_replica_ready")


def test_a_server_that_is_killed_is_replaced_by_another_on_the_same_cluster(bundle: Bundle) -> None:
    """The same request through the other one: the same picture; its replicas free their places."""
    with joined_cluster(3) as cluster, victim(bundle, *cluster.options(1)) as other:
        with victim(bundle, *cluster.options(1)) as first, connect(first.address) as caller:
            call = caller.generate(message(bundle, 1, request_id="resumed"))
            for _ in range(6):
                next(call)
            first.kill()
        with connect(other.address) as caller:
            check(bundle, caller.generate(message(bundle, 1, request_id="resumed")), 1)
        # Three processors: two more replicas have room only when the dead server's has ended.
        with victim(bundle, *cluster.options(2)) as third, connect(third.address) as caller:
            check(bundle, caller.generate(message(bundle, 2)), 2)


def test_a_node_that_is_lost_costs_no_picture(bundle: Bundle) -> None:
    """Its raylet is killed in mid-stream; a node that comes later gets the replacement."""
    with (
        joined_cluster(2) as cluster,
        victim(bundle, *cluster.options(2)) as server,
        connect(server.address) as caller,
    ):
        calls = {seed: caller.generate(message(bundle, seed)) for seed in range(4)}
        for call in calls.values():
            for _ in range(3):
                next(call)
        raylet = cluster.nodes[0].all_processes["raylet"][0].process
        os.kill(raylet.pid, signal.SIGKILL)
        for seed, call in calls.items():
            check(bundle, call, seed)
        wait_until(lambda: ready(server) == 1, STARTED_WITHIN_S)
        check(bundle, caller.generate(message(bundle, 5)), 5)
        cluster.add()
        wait_until(lambda: ready(server) == 2, STARTED_WITHIN_S)
        check(bundle, caller.generate(message(bundle, 6)), 6)


def test_requests_go_on_without_the_controller(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's head is killed in mid-stream: pictures, until Ray ends the processes that miss it."""
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "20")
    with (
        joined_cluster(1) as cluster,
        victim(bundle, *cluster.options(1)) as server,
        connect(server.address) as caller,
    ):
        call = caller.generate(message(bundle, 1))
        for _ in range(3):
            next(call)
        controller = cluster.cluster.head_node.all_processes["gcs_server"][0].process
        os.kill(controller.pid, signal.SIGKILL)
        check(bundle, call, 1)
        for seed in range(2, 5):
            check(bundle, caller.generate(message(bundle, seed)), seed)
        # Not with 0: whatever began the server begins it again, in the next cluster.
        assert server.wait(STARTED_WITHIN_S) != 0
    with (
        joined_cluster(1) as cluster,
        victim(bundle, *cluster.options(1)) as server,
        connect(server.address) as caller,
    ):
        check(bundle, caller.generate(message(bundle, 1)), 1)


class Load:
    """Callers that ask for one picture after the other until they are told to stop."""

    def __init__(self, server: Victim, bundle: Bundle, steps: int) -> None:
        self._server, self._bundle, self._steps = server, bundle, steps
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS)
        self.made: list[tuple[int, Array]] = []
        self._asked = [self._pool.submit(self._ask, number) for number in range(CALLERS)]

    def _ask(self, number: int) -> None:
        """One caller."""
        with connect(self._server.address) as caller:
            while not self._over.is_set():
                found = results_of(caller.generate(message(self._bundle, number, self._steps)))
                self.made.append((number, pixels(found["sr32"].image)))

    def more(self, count: int) -> None:
        """Wait for so many more pictures."""
        wanted = len(self.made) + count
        wait_until(lambda: len(self.made) >= wanted or self._any_failed, STARTED_WITHIN_S)

    @property
    def _any_failed(self) -> bool:
        """Whether a caller got an error."""
        return any(one.done() and one.exception() for one in self._asked)

    def stop(self) -> None:
        """None failed, and every picture is right."""
        self._over.set()
        for one in self._asked:
            one.result(timeout=STARTED_WITHIN_S)
        self._pool.shutdown()
        right = {number: truth(self._bundle, number, self._steps) for number in range(CALLERS)}
        for number, image in self.made:
            np.testing.assert_array_equal(image, right[number])


def test_a_reload_and_a_drain_under_load_fail_no_request(bundle: Bundle, tmp_path: Path) -> None:
    """New replicas take over while old ones finish; then SIGTERM waits for what is inside."""
    settings = tmp_path / "server.toml"
    settings.write_text('max_batch_rows = "1"')
    options = ("--config", str(settings), "--executor", "ray", "--replicas", "2", "--no-warm-up")
    with victim(bundle, *options) as server:
        before = pids_named(server.process.pid, "ray::ReplicaActor")
        load = Load(server, bundle, 20)
        load.more(CALLERS)
        settings.write_text('max_batch_rows = "2"')
        server.signal(signal.SIGHUP)
        wait_until(lambda: bool(server.log("bundle_left")), STARTED_WITHIN_S)
        load.more(2 * CALLERS)
        load.stop()
        assert [entry["outcome"] for entry in server.log("reload")] == ["reloaded"]
        assert not set(before) & set(pids_named(server.process.pid, "ray::ReplicaActor"))
        with connect(server.address) as caller:
            calls = {seed: caller.generate(message(bundle, seed)) for seed in range(CALLERS)}
            for call in calls.values():
                next(call)
            server.signal(signal.SIGTERM)
            for seed, call in calls.items():
                check(bundle, call, seed)
        assert server.wait() == 0
        # The log is one object per line to the end, whatever Ray has to say.
        assert all(line.startswith("{") for line in server.lines)


def test_a_reload_without_room_replaces_one_replica_after_the_other(
    bundle: Bundle, tmp_path: Path
) -> None:
    """Two processors and two replicas: one gives way, then the other; no request fails."""
    settings = tmp_path / "server.toml"
    settings.write_text('max_batch_rows = "1"')
    with (
        joined_cluster(2) as cluster,
        victim(bundle, "--config", str(settings), *cluster.options(2)) as server,
    ):
        load = Load(server, bundle, 20)
        load.more(CALLERS)
        settings.write_text('max_batch_rows = "2"')
        server.signal(signal.SIGHUP)
        wait_until(lambda: bool(server.log("bundle_left")), STARTED_WITHIN_S)
        wait_until(lambda: ready(server) == 2, STARTED_WITHIN_S)
        load.more(CALLERS)
        load.stop()
        assert [entry["outcome"] for entry in server.log("reload")] == ["reloaded"]
        assert server.log("replica_handed_over")
        assert not server.log("replica_lost")


def test_the_number_of_replicas_follows_the_load(bundle: Bundle) -> None:
    """A second one while requests wait; it is closed when they are gone; none fails."""
    options = ("--executor", "ray", "--replicas", "1", "--max-replicas", "2", "--no-warm-up")
    with victim(bundle, *options) as server:
        load = Load(server, bundle, STEPS)
        wait_until(lambda: ready(server) == 2, STARTED_WITHIN_S)
        load.more(CALLERS)
        load.stop()
        wait_until(lambda: ready(server) == 1, STARTED_WITHIN_S)
        assert [entry["count"] for entry in server.log("replicas")] == [2, 1]
        assert not server.log("replica_lost")
        wait_until(
            lambda: len(pids_named(server.process.pid, "ray::ReplicaActor")) == 1, STARTED_WITHIN_S
        )
        with connect(server.address) as caller:
            check(bundle, caller.generate(message(bundle, 7)), 7)
