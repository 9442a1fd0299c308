"""Replicas in a Ray cluster: killed, stopped and cancelled, and every picture is still right.

`make ray-test` installs Ray and runs them; a suite without it skips them.
"""

import logging
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from benchmarks import ray_executor
from benchmarks.lib.replica_load import descendants
from cascade.bundle.bundle import Bundle
from cascade.request import GenerateRequest
from cascade.types import Array
from runtime_server.executors import supervisor
from runtime_server.executors.replicated import ReplicatedExecutor
from runtime_server.telemetry.server_events import EngineRan, ServerEvent, WorkRepeated
from tests.support.serving import (
    PROMPT,
    Caller,
    RunningServer,
    child_server,
    connect,
    local_results,
    pb,
    pixels,
    request_message,
    results_of,
    running,
    wait_until,
)
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.unhurried_engine import UnhurriedEngine

pytest.importorskip("ray", reason="Ray is not installed: run `make ray-test`")
# Ray leaves its sockets to the interpreter's end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

LOGGER = logging.getLogger(__name__)
KILLS = int(os.environ.get("RAY_KILLS", "4"))
CANCELS = int(os.environ.get("RAY_CANCELS", "20"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Four components, three steps each."""
    return write_tiny_bundle(tmp_path_factory.mktemp("ray") / "bundle")


class Fleet:
    """A server with two replicas, and what it was told."""

    def __init__(self, server: RunningServer, caller: Caller, bundle: Bundle) -> None:
        self.server, self.caller, self.bundle = server, caller, bundle
        self.right: dict[int, dict[str, Array]] = {}

    @property
    def executor(self) -> ReplicatedExecutor:
        """That has the replicas."""
        executor = self.server.core.executor
        assert isinstance(executor, ReplicatedExecutor)
        return executor

    def pids(self) -> list[int]:
        """Of the replicas, by place."""
        hellos = [place.hello for place in self.executor._supervisor.places]
        return [hello.pid for hello in hellos if hello is not None]

    def call(self, seed: int, **fields: Any) -> Any:
        """Ask for a picture."""
        start = pb.PromptStart(prompt=PROMPT)
        return self.caller.generate(request_message(self.bundle, prompt=start, seed=seed, **fields))

    def check(self, seed: int, responses: Any) -> None:
        """Its pictures are those of one process."""
        results = results_of(responses)
        if seed not in self.right:
            local = local_results(self.bundle, GenerateRequest(prompt=PROMPT, seed=seed))
            images = {name: done.handoff.image for name, done in local.items()}
            self.right[seed] = {name: im for name, im in images.items() if im is not None}
        assert set(self.right[seed]) <= set(results)
        for name, image in self.right[seed].items():
            np.testing.assert_array_equal(pixels(results[name].image), image)

    def busy(self) -> int:
        """The process of a replica that has work now, once there is one."""
        wait_until(lambda: any(load.jobs for load in self.executor.replicas))
        at = next(load.number for load in self.executor.replicas if load.jobs)
        return self.pids()[at]

    def wait_ready(self) -> None:
        """Until both replicas take work."""
        wait_until(lambda: all(load.ready for load in self.executor.replicas))


@pytest.fixture(scope="module")
def told() -> list[ServerEvent]:
    """Every event of the fleet."""
    return []


@pytest.fixture(scope="module")
def fleet(bundle: Bundle, told: list[ServerEvent]) -> Iterator[Fleet]:
    """Two replicas with steps of 10 ms; nothing is inside in the end."""
    settings: dict[str, Any] = {"executor": "ray", "replicas": 2, "replica_silence_s": 2.0}
    with (
        pytest.MonkeyPatch.context() as patch,
        running(bundle, UnhurriedEngine, told.append, warm_up=False, **settings) as server,
        connect(server.address) as caller,
    ):
        # Twenty kills in a row would otherwise wait half a minute each for the next replica.
        patch.setattr(supervisor, "LONGEST_PAUSE_S", supervisor.FIRST_PAUSE_S)
        made = Fleet(server, caller, bundle)
        yield made
        wait_until(lambda: made.server.is_at_rest)


def test_pictures_and_metrics_are_those_of_one_process(
    fleet: Fleet, told: list[ServerEvent]
) -> None:
    """Eight requests at once over two replicas; their runs are counted at the server."""
    calls = {seed: fleet.call(seed) for seed in range(8)}
    for seed, call in calls.items():
        fleet.check(seed, call)
    assert len(set(fleet.pids())) == 2
    assert sum(isinstance(event, EngineRan) for event in told) == 80
    assert all(
        component.milliseconds_per_step >= 0 for component in fleet.server.core.info().components
    )


def test_a_replica_that_is_killed_in_mid_stream_costs_no_picture(
    fleet: Fleet, told: list[ServerEvent]
) -> None:
    """Every result comes once and is right, whatever component was running."""
    before = sum(isinstance(event, WorkRepeated) for event in told)
    slowest = 0.0
    for number in range(KILLS):
        fleet.wait_ready()
        begun = time.monotonic()
        call = fleet.call(number)
        for _ in range(1 + number % 4):
            next(call)
        os.kill(fleet.busy(), signal.SIGKILL)
        fleet.check(number, call)
        slowest = max(slowest, time.monotonic() - begun)
    LOGGER.warning("%d kills, slowest picture %.2f s", KILLS, slowest)
    # A request may have been done before its replica was killed.
    assert sum(isinstance(event, WorkRepeated) for event in told) > before


def test_all_replicas_killed(fleet: Fleet) -> None:
    """Requests wait for the replacements; health says meanwhile that nothing works."""
    fleet.wait_ready()
    call = fleet.call(1)
    next(call)
    for pid in fleet.pids():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not fleet.executor.works(0))
    late = fleet.call(2)
    fleet.check(1, call)
    fleet.check(2, late)


def test_an_idle_replica_killed(fleet: Fleet) -> None:
    """No request notices."""
    fleet.wait_ready()
    os.kill(fleet.pids()[0], signal.SIGKILL)
    for seed in range(4):
        fleet.check(seed, fleet.call(seed))


def test_a_stopped_replica_costs_its_silence_limit(fleet: Fleet) -> None:
    """SIGSTOP in mid-stream: the picture is made elsewhere, the process is ended."""
    fleet.wait_ready()
    call = fleet.call(3)
    next(call)
    pid = fleet.busy()
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    fleet.check(3, call)
    LOGGER.warning("a stopped replica cost %.2f s", time.monotonic() - begun)
    fleet.wait_ready()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid))


def test_cancels_at_random_moments_are_never_lost(fleet: Fleet) -> None:
    """Before the first event, between events, in a step: the work ends and nothing is left."""
    fleet.wait_ready()
    chance = random.Random(7)
    for number in range(CANCELS):
        call = fleet.call(number)
        for _ in range(chance.randrange(5)):
            next(call)
        time.sleep(chance.random() * 0.02)
        call.cancel()
    wait_until(lambda: fleet.server.is_at_rest)
    assert [load.jobs for load in fleet.executor.replicas] == [0, 0]
    fleet.check(0, fleet.call(0))


def test_the_deadline_and_the_wrong_bundle_are_typed(fleet: Fleet) -> None:
    """As in one process."""
    message = request_message(fleet.bundle, prompt=pb.PromptStart(prompt=PROMPT), seed=1)
    with pytest.raises(grpc.RpcError) as late:
        list(fleet.caller.generate(message, timeout_s=0.03))
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: fleet.server.is_at_rest)


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and was not waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_server(bundle: Bundle, how: signal.Signals) -> None:
    """Neither after a graceful shutdown nor after the death of the server's process."""
    options = ("--listen", "127.0.0.1:0", "--executor", "ray", "--replicas", "1", "--threads", "1")
    with child_server(bundle.folder, *options) as (process, read_line):
        lines = [read_line()]
        while '"listening"' not in lines[-1]:
            lines.append(read_line())
        address = lines[-1].split('"address": "')[1].split('"')[0]
        drain = threading.Thread(target=process.stderr.read, daemon=True)  # type: ignore[union-attr]
        drain.start()
        with connect(address) as caller:
            start = pb.PromptStart(prompt=PROMPT)
            assert results_of(caller.generate(request_message(bundle, prompt=start, seed=1)))
        below = descendants(process.pid)
        assert len(below) > 2
        process.send_signal(how)
        assert process.wait(timeout=60) == (0 if how is signal.SIGTERM else -signal.SIGKILL)
        wait_until(lambda: all(not Path(f"/proc/{p}").exists() or is_zombie(p) for p in below))
        drain.join(timeout=60)


def test_the_benchmark_of_replicas(bundle: Bundle) -> None:
    """A hop, rates of one and two replicas, an overload; and every picture is right."""
    sizes = ray_executor.Sizes(requests=4, pictures=4, seconds=1.0, clients=(2,))
    figures = ray_executor.measure(bundle, sizes)
    ray_executor.show(figures)
    assert figures["wrong_pictures"] == 0
    assert set(figures["hop"]) == {"text_encoder", "sr32"}
    assert set(figures["table"]) == {"1 server", "2 servers", "1 replica", "2 replicas"}
    for rows in figures["table"].values():
        assert rows[2]["pictures_per_s"] > 0
        assert rows[2]["rows_per_run"] >= 1
    assert figures["table"]["1 server"][2]["replicas_cpu_s"] == 0
    assert figures["table"]["2 replicas"][2]["replicas_cpu_s"] > 0
    assert figures["overload"]["failed"] == 0
    assert figures["overload"]["delivered_per_s"] > 0
