"""Cancelling, deadlines and overload against steps that really take time."""

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.request import GenerateRequest
from cascade.types import Array
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.counting_engine import CountingEngine
from tests.support.serving import (
    PROMPT,
    Caller,
    RunningServer,
    connect,
    details_of,
    local_results,
    pixels,
    request_message,
    results_of,
    running,
    wait_until,
)

TRIALS = 100
LONG = {"sr16": pb.StageOptions(steps=1000), "sr32": pb.StageOptions(steps=1000)}
LITTLE = sum(stage.steps for stage in LONG.values()) // 2
"""Fewer runs than this were done of a long request that was ended, however busy the machine."""
SHORT_STEPS = {"base": 1, "sr16": 2, "sr32": 2}
START = pb.PromptStart(prompt=PROMPT)


@pytest.fixture(scope="module")
def slow_server(slow_bundle: Bundle) -> Iterator[RunningServer]:
    """A server with one waiting place per component, where nobody overtakes."""
    with running(slow_bundle, CountingEngine, max_queued_per_stage=1, max_running=1) as server:
        yield server


@pytest.fixture
def slow_caller(slow_server: RunningServer) -> Iterator[Caller]:
    """A connection to it; the server must be idle again in the end."""
    with connect(slow_server.address) as caller:
        yield caller
    wait_until(lambda: slow_server.core.executor.counts.idle)


@pytest.fixture(scope="module")
def expected(slow_bundle: Bundle) -> Array:
    """The right answer to `short_request`."""
    options = {name: DiffusionOptions(steps=steps) for name, steps in SHORT_STEPS.items()}
    image = local_results(slow_bundle, GenerateRequest(prompt=PROMPT, options=options))[
        "sr32"
    ].handoff.image
    assert image is not None
    return image


def short_request(bundle: Bundle) -> Any:
    """A request of a few steps."""
    options = {name: pb.StageOptions(steps=steps) for name, steps in SHORT_STEPS.items()}
    return request_message(bundle, prompt=START, options=options)


def long_request(bundle: Bundle) -> Any:
    """A request that takes many seconds."""
    return request_message(bundle, prompt=START, options=LONG)


def begun(call: Any) -> Any:
    """A call of which a super-resolution stage has done a step."""
    for response in call:
        if response.progress.stage.startswith("sr"):
            return call
    raise AssertionError("the stream ended early")


def first_event(call: Any) -> None:
    """Wait for it; a call cancelled before may still be on its way and hold the only place."""
    with contextlib.suppress(grpc.RpcError):
        next(call)


def test_cancelling_at_any_moment_leaves_nothing_behind(
    slow_server: RunningServer, slow_caller: Caller, slow_bundle: Bundle, expected: Array
) -> None:
    """A hundred cancellations with jitter, some by a vanished client; then the next is right."""
    jitter = random.Random(17)
    workers = slow_server.core.executor
    for trial in range(TRIALS):
        if trial % 10 == 0:
            with connect(slow_server.address) as vanishing:
                first_event(vanishing.generate(long_request(slow_bundle)))
        else:
            call = slow_caller.generate(long_request(slow_bundle))
            time.sleep(jitter.choice((0.0, jitter.random() * 0.03)))
            if trial % 3 == 0:
                first_event(call)
            call.cancel()
        if trial % 2 == 0:
            wait_until(lambda: workers.counts.idle)
        else:
            # The one place of the queue is free again, whatever still ends.
            wait_until(lambda: workers.counts.queued == 0)
    wait_until(lambda: workers.counts.idle)
    results = results_of(slow_caller.generate(short_request(slow_bundle)))
    assert np.array_equal(pixels(results["sr32"].image), expected)


def test_a_cancelled_step_ends_at_once(
    slow_server: RunningServer, slow_caller: Caller, slow_bundle: Bundle
) -> None:
    """The work stops with most of its steps not done."""
    call = begun(slow_caller.generate(long_request(slow_bundle)))
    before = CountingEngine.runs
    call.cancel()
    wait_until(lambda: slow_server.core.executor.counts.idle)
    assert CountingEngine.runs - before < LITTLE


def test_cancelled_while_queued_does_not_disturb_the_running_one(
    slow_server: RunningServer, slow_caller: Caller, slow_bundle: Bundle, expected: Array
) -> None:
    """The one that waits goes away, and the one after it is still right."""
    workers = slow_server.core.executor
    first = begun(slow_caller.generate(long_request(slow_bundle)))
    second = slow_caller.generate(short_request(slow_bundle))
    wait_until(lambda: workers.counts.queued == 1)
    second.cancel()
    wait_until(lambda: workers.counts.queued == 0)
    assert workers.counts.running == 1
    third = slow_caller.generate(short_request(slow_bundle))
    wait_until(lambda: workers.counts.queued == 1)
    first.cancel()
    assert np.array_equal(pixels(results_of(third)["sr32"].image), expected)


def test_a_deadline_ends_a_running_request(
    slow_server: RunningServer, slow_caller: Caller, slow_bundle: Bundle
) -> None:
    """The caller is told in time, and the server stops working on it."""
    before = CountingEngine.runs
    with pytest.raises(grpc.RpcError) as late:
        list(slow_caller.generate(long_request(slow_bundle), timeout_s=0.3))
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: slow_server.core.executor.counts.idle)
    assert CountingEngine.runs - before < LITTLE


def test_a_deadline_ends_a_queued_request(slow_bundle: Bundle) -> None:
    """It leaves the queue while the other still runs; nobody could tell beforehand.

    A server that has never run the last component does not know how long it takes.
    """
    with running(slow_bundle, max_running=1) as server, connect(server.address) as caller:
        workers = server.core.executor
        first = begun(caller.generate(long_request(slow_bundle)))
        with pytest.raises(grpc.RpcError) as late:
            list(caller.generate(short_request(slow_bundle), timeout_s=0.2))
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        wait_until(lambda: workers.counts.queued == 0)
        wait_until(lambda: workers.counts.in_flight == 1)
        assert workers.counts.running == 1
        first.cancel()
        wait_until(lambda: workers.counts.idle)


def test_what_cannot_be_in_time_is_refused_at_once(
    slow_server: RunningServer, slow_caller: Caller, slow_bundle: Bundle, expected: Array
) -> None:
    """Where step times are known: with a delay when others are the cause, else without."""
    workers = slow_server.core.executor
    results = results_of(slow_caller.generate(short_request(slow_bundle)))
    assert np.array_equal(pixels(results["sr32"].image), expected)
    wait_until(lambda: workers.counts.idle)
    with pytest.raises(grpc.RpcError) as hopeless:
        list(slow_caller.generate(long_request(slow_bundle), timeout_s=3.0))
    assert details_of(hopeless.value)[:2] == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert details_of(hopeless.value)[3] is None
    assert workers.counts.idle
    first = begun(slow_caller.generate(long_request(slow_bundle)))
    with pytest.raises(grpc.RpcError) as busy:
        list(slow_caller.generate(short_request(slow_bundle), timeout_s=3.0))
    code, reason, _, retry_s = details_of(busy.value)
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
    assert retry_s is not None
    assert retry_s > 0.5
    assert workers.counts.queued == 0
    first.cancel()


def test_a_full_queue_answers_at_once_with_a_delay(
    slow_server: RunningServer, slow_caller: Caller, slow_bundle: Bundle
) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo from what was measured; the accepted one knows its wait."""
    workers = slow_server.core.executor
    running_call = begun(slow_caller.generate(long_request(slow_bundle)))
    waiting = slow_caller.generate(short_request(slow_bundle))
    accepted = next(waiting).accepted
    assert accepted.queue_position == 1
    assert accepted.estimated_wait_seconds > 0.5
    with pytest.raises(grpc.RpcError) as busy:
        list(slow_caller.generate(short_request(slow_bundle)))
    code, reason, _, retry_s = details_of(busy.value)
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
    assert retry_s is not None
    assert retry_s > 0.5
    assert slow_caller.server_info().components[0].queued == 1
    waiting.cancel()
    running_call.cancel()
    wait_until(lambda: workers.counts.idle)


def test_a_full_server_looks_no_further(
    slow_server: RunningServer, slow_caller: Caller, slow_bundle: Bundle
) -> None:
    """A call that is wrong as well is told first that there is no room: refusing costs little."""
    workers = slow_server.core.executor
    running_call = begun(slow_caller.generate(long_request(slow_bundle)))
    waiting = slow_caller.generate(short_request(slow_bundle))
    wait_until(lambda: workers.counts.queued == 1)
    wrong = request_message(slow_bundle, prompt=START, options={"sr16": pb.StageOptions(steps=0)})
    with pytest.raises(grpc.RpcError) as busy:
        list(slow_caller.generate(wrong))
    assert details_of(busy.value)[:2] == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
    waiting.cancel()
    running_call.cancel()
    wait_until(lambda: workers.counts.idle)
    wrong.request_id = "test-wrong-again"
    with pytest.raises(grpc.RpcError) as invalid:
        list(slow_caller.generate(wrong))
    assert details_of(invalid.value)[:2] == ("INVALID_ARGUMENT", "INVALID_REQUEST")
