"""The same request asked twice is done once: joined while it runs, answered from what was kept."""

import contextlib
import random
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.counting_engine import CountingEngine
from tests.support.serving import (
    PROMPT,
    Caller,
    RunningServer,
    connect,
    details_of,
    request_message,
    results_of,
    running,
    wait_until,
)

START = pb.PromptStart(prompt=PROMPT)
STEPS = {"base": 1, "sr16": 60, "sr32": 2}
RUNS = 1 + sum(STEPS.values())
"""Engine runs of one such request: the text encoder, and every step without guidance."""


@pytest.fixture(scope="module")
def counted(slow_bundle: Bundle) -> Iterator[RunningServer]:
    """A server whose engines count."""
    with running(slow_bundle, CountingEngine) as server:
        yield server


@pytest.fixture
def caller(counted: RunningServer) -> Iterator[Caller]:
    """A connection to it; whatever the test did, nothing is inside in the end."""
    CountingEngine.runs = 0
    with connect(counted.address) as connected:
        yield connected
    wait_until(lambda: counted.is_at_rest)


def message(bundle: Bundle, **fields: Any) -> Any:
    """A request of some tens of steps, without guidance."""
    options = {name: pb.StageOptions(steps=steps, guidance=1.0) for name, steps in STEPS.items()}
    return request_message(bundle, prompt=START, options=options, **fields)


def begun(call: Any) -> Any:
    """A call of which a super-resolution stage has done a step."""
    for response in call:
        if response.progress.stage.startswith("sr"):
            return call
    raise AssertionError("the stream ended early")


def test_a_twin_joins_the_running_one(
    counted: RunningServer, caller: Caller, slow_bundle: Bundle
) -> None:
    """Both get every result, the same bytes, and the engine ran once."""
    request = message(slow_bundle)
    with connect(counted.address) as other:
        first = begun(caller.generate(request))
        second = other.generate(request)
        accepted = next(second).accepted
        assert accepted.joined
        mine, others = results_of(first), results_of(second)
    assert list(others) == ["text_encoder", "base", "sr16", "sr32"]
    assert mine["sr32"].image.data == others["sr32"].image.data
    assert CountingEngine.runs == RUNS


def test_a_twin_that_comes_later_gets_the_kept_result(caller: Caller, slow_bundle: Bundle) -> None:
    """At once, with everything, and the seconds of the work that was done."""
    request = message(slow_bundle)
    first = list(caller.generate(request))
    again = list(caller.generate(request))
    assert CountingEngine.runs == RUNS
    assert not first[0].accepted.joined
    assert again[0].accepted.joined
    assert results_of(again) == results_of(first)
    assert again[-1].done.seconds == first[-1].done.seconds
    assert again[-1].done.bytes_sent == sum(response.ByteSize() for response in again[:-1])


def test_how_one_listens_is_not_what_one_asks_for(caller: Caller, slow_bundle: Bundle) -> None:
    """Previews, detaching and an explicit default leave the meaning as it is."""
    request = message(slow_bundle)
    list(caller.generate(request))
    request.output.preview_every = 5
    request.output.format = pb.IMAGE_FORMAT_PNG
    request.detach = True
    assert next(caller.generate(request)).accepted.joined


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 5},
        {"image_index": 1},
        {"last_stage": "sr16"},
        {"output": pb.OutputOptions(format=1)},
    ],
    ids=["seed", "image_index", "last_stage", "format"],
)
def test_other_content_under_the_same_id_is_refused(
    caller: Caller, slow_bundle: Bundle, change: dict[str, Any]
) -> None:
    """Running or kept, the field is named and nothing runs."""
    request = message(slow_bundle)
    changed = message(slow_bundle, **change)
    changed.request_id = request.request_id
    call = begun(caller.generate(request))
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as taken:
            list(caller.generate(changed))
        assert details_of(taken.value)[:3] == ("ALREADY_EXISTS", "REQUEST_ID_TAKEN", "request_id")
        list(call)
    assert CountingEngine.runs == RUNS


def test_results_that_the_caller_holds_are_not_sent_again(
    caller: Caller, slow_bundle: Bundle
) -> None:
    """While it runs and from what was kept."""
    request = message(slow_bundle)
    call = begun(caller.generate(request))
    request.results_held = 2
    assert list(results_of(caller.generate(request))) == ["sr16", "sr32"]
    list(call)
    request.results_held = 3
    assert list(results_of(caller.generate(request))) == ["sr32"]
    request.results_held = 4
    assert results_of(caller.generate(request)) == {}


def test_the_first_may_leave_while_the_twin_listens(
    counted: RunningServer, caller: Caller, slow_bundle: Bundle
) -> None:
    """Only the last one to leave ends the work."""
    request = message(slow_bundle)
    with connect(counted.address) as other:
        first = begun(caller.generate(request))
        second = begun(other.generate(request))
        first.cancel()
        assert list(results_of(second))[-1] == "sr32"
    assert CountingEngine.runs == RUNS


def test_a_fifth_listener_takes_the_place_of_the_oldest(
    caller: Caller, slow_bundle: Bundle
) -> None:
    """Listening costs the server a bounded amount however often a request is asked again."""
    request = message(slow_bundle)
    calls = [begun(caller.generate(request))]
    calls += [caller.generate(request) for _ in range(4)]
    for call in calls[1:]:
        assert list(results_of(call))[-1] == "sr32"
    with pytest.raises(grpc.RpcError) as replaced:
        list(calls[0])
    assert replaced.value.code() == grpc.StatusCode.CANCELLED
    assert CountingEngine.runs == RUNS


def test_an_id_that_failed_may_be_tried_again(caller: Caller, slow_bundle: Bundle) -> None:
    """A failure that somebody heard is not kept."""
    request = message(slow_bundle)
    with pytest.raises(grpc.RpcError) as late:
        list(caller.generate(request, timeout_s=0.05))
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert list(results_of(caller.generate(request)))[-1] == "sr32"


def test_a_handle_and_the_embeddings_themselves_mean_the_same(
    caller: Caller, slow_bundle: Bundle
) -> None:
    """A client whose handle was forgotten asks again with everything."""
    encoder = request_message(slow_bundle, prompt=START, last_stage="text_encoder")
    tensor = results_of(caller.generate(encoder))["text_encoder"].context
    handle = caller.put_context(
        pb.PutContextRequest(bundle_id=slow_bundle.bundle_id, context=tensor)
    ).handle
    options = {"base": pb.StageOptions(steps=1)}
    inline = pb.ContextStart(context=pb.ContextReference(tensor=tensor))
    named = pb.ContextStart(context=pb.ContextReference(handle=handle))
    request = request_message(
        slow_bundle, context=inline, options=options, last_stage="base", request_id="by-value"
    )
    list(caller.generate(request))
    request.context.CopyFrom(named)
    assert next(caller.generate(request)).accepted.joined


def test_callers_that_come_and_go_at_random_leave_nothing(
    counted: RunningServer, slow_bundle: Bundle
) -> None:
    """Duplicates, detached, lingering, vanished, cancelled and resumed ones, all at once."""
    asked = [
        message(slow_bundle, seed=n, detach=n % 3 == 0, linger_seconds=0.1 * (n % 2))
        for n in range(6)
    ]
    whole = []

    def come_and_go(seed: int) -> None:
        chance = random.Random(seed)
        with connect(counted.address) as caller:
            for _ in range(15):
                request = chance.choice(asked)
                way = chance.choice(("stay", "leave", "leave", "cancel", "resume"))
                if way == "resume":
                    request = request_message(
                        slow_bundle, request_id=request.request_id, resume=pb.ResumeStart()
                    )
                call = caller.generate(request)
                with contextlib.suppress(grpc.RpcError):
                    if way in {"stay", "resume"}:
                        whole.append(results_of(call).keys() >= {"sr16", "sr32"})
                        continue
                    for _ in range(chance.randrange(12)):
                        next(call, None)
                    if way == "cancel":
                        caller.cancel(request.request_id)
                call.cancel()

    with futures.ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(come_and_go, seed) for seed in range(6)]:
            done.result(timeout=600)
    with connect(counted.address) as caller:
        for request in asked:
            caller.cancel(request.request_id)
        wait_until(lambda: counted.is_at_rest)
        assert not any(caller.cancel(request.request_id) for request in asked)
    assert whole
    assert all(whole)
