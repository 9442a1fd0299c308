"""Requests that are given up: waiting, running, in the same instant as an event, or by a death."""

import contextlib
import random
import subprocess
import sys
import time
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.faults.proxy import proxy
from tests.support.asking import DOOMED, LITTLE, LONG_STEPS, answer, asking, asking_long, differs
from tests.support.server_process import Victim, victim
from tests.support.serving import Caller, connect, pixels, results_of, wait_until

RACES = 60
"""Of `make test`; `benchmarks/cancel_race.py` does a thousand."""

SHALLOW = (("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1))
"""Of a channel that takes no more than 64 KiB unread: it does not probe for bandwidth."""


def running_call(caller: Caller, request: Any) -> Any:
    """A call of which a super-resolution stage has done a step."""
    call = caller.generate(request, timeout_s=None)
    for response in call:
        if response.progress.stage.startswith("sr"):
            return call
    raise AssertionError("the stream ended early")


def outcome(server: Victim, request_id: str) -> str:
    """What the log says became of a request; waits for the line."""
    wait_until(lambda: bool(server.calls(request_id)))
    return str(server.calls(request_id)[-1]["outcome"])


def test_a_request_cancelled_in_the_queue_never_runs(slow: Victim, slow_caller: Caller) -> None:
    """1. CANCELLED, no step of it is done, and its place is free while the first still runs."""
    first = running_call(slow_caller, asking_long(slow.bundle))
    for _ in range(5):
        request = asking(slow.bundle)
        waiting = slow_caller.generate(request)
        next(waiting)
        assert slow.queued()["text_encoder"] == 1
        waiting.cancel()
        wait_until(lambda: slow.queued()["text_encoder"] == 0)
        assert first.is_active()
        assert waiting.code() == grpc.StatusCode.CANCELLED
        assert outcome(slow, request.request_id) == "cancelled"
        done = slow.calls(request.request_id)[0]["seconds"]
        assert not set(done) - {"queue", "encode"}
    first.cancel()


def test_a_request_cancelled_in_a_step_stops_there(shared: Victim, shared_caller: Caller) -> None:
    """2. The work ends before the next step, and the pixels of its neighbours stay right."""
    steps = (("base", 1), ("sr16", 20), ("sr32", 20))
    first = running_call(shared_caller, asking_long(shared.bundle))
    neighbours = [
        shared_caller.generate(asking(shared.bundle, dict(steps), seed=seed)) for seed in (5, 6)
    ]
    assert all(next(call).accepted for call in neighbours)
    second = shared_caller.generate(asking_long(shared.bundle))
    with contextlib.suppress(grpc.RpcError):
        next(second)
    before = shared.steps_done()
    first.cancel()
    second.cancel()
    for seed, call in zip((5, 6), neighbours, strict=True):
        picture = pixels(results_of(call)["sr32"].image)
        assert not differs(picture, answer(shared.bundle, seed, steps))
    # Two thousand steps were left in each of the cancelled ones.
    shared.wait_until_idle()
    assert shared.steps_done() - before < 2 * LITTLE


def test_no_cancellation_is_lost_in_a_race(slow: Victim, slow_caller: Caller) -> None:
    """3. Before the first event, after one, at the end: with jitter, none lost, none leaked."""
    jitter = random.Random(3)
    for trial in range(RACES):
        last = "base" if trial % 5 == 4 else ""
        request = asking_long(slow.bundle, last_stage=last)
        call = slow_caller.generate(request, timeout_s=None)
        with contextlib.suppress(grpc.RpcError):
            for _ in range(trial % 5):
                next(call, None)
        time.sleep(jitter.choice((0.0, jitter.random() * 0.02)))
        call.cancel()
        if trial % 2:
            slow.wait_until_idle()
    slow.wait_until_idle()
    picture = pixels(results_of(slow_caller.generate(asking(slow.bundle)))["sr32"].image)
    assert not differs(picture, answer(slow.bundle))


def test_a_killed_client_is_noticed(slow: Victim) -> None:
    """4. kill -9 in mid-stream: its work ends at once, its place is free."""
    request = asking_long(slow.bundle)
    before = slow.steps_done()
    with subprocess.Popen(
        [sys.executable, "-c", DOOMED, slow.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(request.SerializeToString())
        client.stdin.close()
        assert client.stdout.readline() == b"begun\n"
        client.kill()
    assert outcome(slow, request.request_id) == "cancelled"
    slow.wait_until_idle()
    assert slow.steps_done() - before < LITTLE


def test_a_silent_peer_without_a_deadline_is_given_up(bundle: Bundle) -> None:
    """4. Who takes no message for the reader's patience is dropped, and its work with it."""
    request = asking(bundle, LONG_STEPS, output=pb.OutputOptions(preview_every=1))
    with (
        victim(bundle, "--reader-patience-s", "1") as server,
        proxy(server.address) as between,
        grpc.insecure_channel(between.address, SHALLOW) as channel,
    ):
        call = Caller(channel).generate(request, timeout_s=None)
        next(call)
        between.weather.silent = True
        server.wait_until_idle()
        assert server.calls(request.request_id)[0]["outcome"] == "DEADLINE_EXCEEDED"
        call.cancel()


def test_a_half_open_connection_is_given_up(slow_bundle: Bundle, slow: Victim) -> None:
    """4. A peer that went silent without a FIN holds nothing after its deadline; memory is flat."""
    before = slow.rss_mib
    with proxy(slow.address) as between, connect(between.address) as caller:
        call = caller.generate(asking_long(slow_bundle), timeout_s=4)
        next(call)
        between.weather.silent = True
        with pytest.raises(grpc.RpcError) as late:
            list(call)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        slow.wait_until_idle()
    assert slow.rss_mib - before < 50
