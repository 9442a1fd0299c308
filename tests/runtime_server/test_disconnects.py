"""Callers who leave: at once, for a moment, or for good; and Cancel, which ends it for everyone."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from cascade.engines.factory import EngineChoice
from cascade.errors import EngineError
from cascade.types import Array
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.requests.active_request import ActiveRequest
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
from tests.support.unhurried_engine import UnhurriedEngine

START = pb.PromptStart(prompt=PROMPT)
SHORT = {"base": pb.StageOptions(steps=1), "sr16": pb.StageOptions(steps=30)}
LONG = {"sr16": pb.StageOptions(steps=1000), "sr32": pb.StageOptions(steps=1000)}


@pytest.fixture(scope="module")
def server(slow_bundle: Bundle) -> Iterator[RunningServer]:
    """A server that keeps results for as long as the module lasts."""
    with running(slow_bundle, CountingEngine, max_linger_s=60.0) as running_server:
        yield running_server


@pytest.fixture
def caller(server: RunningServer) -> Iterator[Caller]:
    """A connection to it; whatever the test did, nothing is inside in the end."""
    with connect(server.address) as connected:
        yield connected
    wait_until(lambda: server.is_at_rest)


def message(bundle: Bundle, options: dict[str, Any], **fields: Any) -> Any:
    """A request up to the first super-resolution stage."""
    return request_message(bundle, prompt=START, options=options, last_stage="sr16", **fields)


def resume(bundle: Bundle, request: Any) -> Any:
    """The question for what became of a request."""
    return request_message(bundle, request_id=request.request_id, resume=pb.ResumeStart())


def begin_and_vanish(server: RunningServer, request: Any) -> None:
    """Ask, see the work begin, and close the connection."""
    with connect(server.address) as vanishing:
        call = vanishing.generate(request)
        assert any(r.progress.stage.startswith("sr") for r in call)


def begin_and_go(server: RunningServer, request: Any) -> None:
    """The same, as soon as the request is taken."""
    with connect(server.address) as vanishing:
        assert next(vanishing.generate(request)).WhichOneof("event") == "accepted"


def test_without_a_wish_leaving_ends_the_work_and_frees_the_id(
    server: RunningServer, caller: Caller, slow_bundle: Bundle
) -> None:
    """Nobody can resume it, and the id may be used anew."""
    request = message(slow_bundle, LONG)
    begin_and_vanish(server, request)
    wait_until(lambda: server.is_at_rest)
    with pytest.raises(grpc.RpcError) as unknown:
        list(caller.generate(resume(slow_bundle, request)))
    assert details_of(unknown.value)[:3] == ("NOT_FOUND", "UNKNOWN_REQUEST", "request_id")


def test_detached_work_is_finished_and_waits_for_its_caller(
    server: RunningServer, caller: Caller, slow_bundle: Bundle
) -> None:
    """Picked up with nothing but the id, any number of times."""
    request = message(slow_bundle, SHORT, detach=True)
    begin_and_go(server, request)
    for _ in range(2):
        responses = list(caller.generate(resume(slow_bundle, request)))
        assert list(results_of(responses)) == ["text_encoder", "base", "sr16"]
        assert responses[0].accepted.joined
        assert responses[-1].WhichOneof("event") == "done"
    wait_until(lambda: server.is_at_rest)
    assert server.requests.index.kept.size_bytes > 0


def test_a_caller_that_lingers_may_come_back(
    server: RunningServer, caller: Caller, slow_bundle: Bundle
) -> None:
    """Its work went on meanwhile: what it held is not sent again, and nothing is done twice."""
    request = message(slow_bundle, SHORT, linger_seconds=60.0)
    with connect(server.address) as vanishing:
        held = 0
        for response in vanishing.generate(request):
            held += response.WhichOneof("event") == "stage_result"
            if held == 2:
                break
    request.results_held = held
    responses = list(caller.generate(request))
    assert responses[0].accepted.joined
    assert list(results_of(responses)) == ["sr16"]


def test_a_caller_that_does_not_come_back_is_given_up(
    server: RunningServer, slow_bundle: Bundle
) -> None:
    """Not before the time it asked for, and then within a step."""
    request = message(slow_bundle, LONG, linger_seconds=0.4)
    with connect(server.address) as vanishing:
        call = vanishing.generate(request)
        assert any(r.progress.stage.startswith("sr") for r in call)
        # Taken before the connection closes, so that no pause of this process can shorten it.
        left_at = time.monotonic()
    wait_until(lambda: server.is_at_rest)
    assert time.monotonic() - left_at >= 0.4


def test_the_server_shortens_the_lingering(slow_bundle: Bundle) -> None:
    """Its own limit holds."""
    with running(slow_bundle, max_linger_s=0.05) as server:
        begin_and_vanish(server, message(slow_bundle, LONG, linger_seconds=3600.0))
        wait_until(lambda: server.is_at_rest)


@pytest.mark.parametrize("linger_s", [-1.0, 3600.5, float("nan"), float("inf")])
def test_a_senseless_lingering_is_refused(
    caller: Caller, slow_bundle: Bundle, linger_s: float
) -> None:
    """Naming the field."""
    with pytest.raises(grpc.RpcError) as refused:
        list(caller.generate(message(slow_bundle, SHORT, linger_seconds=linger_s)))
    assert details_of(refused.value)[:3] == (
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "linger_seconds",
    )


def test_the_deadline_ends_detached_work_and_is_told_later(slow_bundle: Bundle) -> None:
    """Who resumes is told why there is nothing; who asks with everything begins anew.

    On a server that knows no step times yet: another one would refuse at once. Its steps last at
    least ten milliseconds, a thousand of them, so that no machine is done in time.
    """
    request = message(slow_bundle, LONG, detach=True)
    with running(slow_bundle, UnhurriedEngine) as server, connect(server.address) as caller:
        with connect(server.address) as vanishing:
            next(vanishing.generate(request, timeout_s=3))
        wait_until(lambda: server.is_at_rest)
        with pytest.raises(grpc.RpcError) as late:
            list(caller.generate(resume(slow_bundle, request)))
        assert details_of(late.value)[:2] == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        call = caller.generate(request)
        assert not next(call).accepted.joined
        assert caller.cancel(request.request_id)


def test_cancel_ends_running_work_for_everyone_who_listens(
    server: RunningServer, caller: Caller, slow_bundle: Bundle
) -> None:
    """Within a step, detached or not; the id is free again."""
    request = message(slow_bundle, LONG, detach=True)
    call = caller.generate(request)
    assert any(r.progress.stage.startswith("sr") for r in call)
    with connect(server.address) as other:
        duplicate = other.generate(request)
        next(duplicate)
        before = CountingEngine.runs
        assert caller.cancel(request.request_id)
        for listening in (call, duplicate):
            with pytest.raises(grpc.RpcError) as ended:
                list(listening)
            assert details_of(ended.value)[:2] == ("CANCELLED", "CANCELLED")
    wait_until(lambda: server.is_at_rest)
    assert CountingEngine.runs - before < LONG["sr16"].steps // 2
    with pytest.raises(grpc.RpcError):
        list(caller.generate(resume(slow_bundle, request)))


def test_cancel_ends_waiting_work(
    server: RunningServer, caller: Caller, slow_bundle: Bundle
) -> None:
    """It never runs, and the one before it goes on."""
    first = caller.generate(message(slow_bundle, LONG))
    assert any(r.progress.stage.startswith("sr") for r in first)
    waiting = message(slow_bundle, SHORT, detach=True)
    begin_and_go(server, waiting)
    assert caller.cancel(waiting.request_id)
    assert len(server.requests.index.running) == 1
    first.cancel()


def test_cancel_forgets_what_is_kept_and_is_idempotent(
    server: RunningServer, caller: Caller, slow_bundle: Bundle
) -> None:
    """Found once; what was never there is no error."""
    request = message(slow_bundle, SHORT)
    list(caller.generate(request))
    before = server.requests.index.kept.count
    assert caller.cancel(request.request_id)
    assert server.requests.index.kept.count == before - 1
    assert not caller.cancel(request.request_id)
    assert not caller.cancel("never-heard-of")
    with pytest.raises(grpc.RpcError) as refused:
        caller.cancel("not an id")
    assert details_of(refused.value)[:3] == ("INVALID_ARGUMENT", "INVALID_REQUEST", "request_id")


def test_kept_results_are_given_back_without_another_call(slow_bundle: Bundle) -> None:
    """A lifetime after their last use the bytes are back at zero, contexts included."""
    with (
        running(slow_bundle, result_lifetime_s=0.2, context_lifetime_s=0.2) as server,
        connect(server.address) as caller,
    ):
        encoder = request_message(slow_bundle, prompt=START, last_stage="text_encoder")
        tensor = results_of(caller.generate(encoder))["text_encoder"].context
        caller.put_context(pb.PutContextRequest(bundle_id=slow_bundle.bundle_id, context=tensor))
        assert server.core.contexts.size_bytes > 0
        wait_until(lambda: server.requests.index.kept.size_bytes == 0)
        wait_until(lambda: server.core.contexts.size_bytes == 0)


def test_a_server_without_room_for_results_keeps_none(slow_bundle: Bundle) -> None:
    """Every request is then new once its duplicate is done."""
    with (
        running(slow_bundle, result_store_bytes=0) as server,
        connect(server.address) as caller,
    ):
        request = message(slow_bundle, {"sr16": pb.StageOptions(steps=1)})
        for _ in range(2):
            assert not next(iter(list(caller.generate(request)))).accepted.joined
        assert server.requests.index.kept.count == 0


def test_a_server_that_stops_ends_detached_work(slow_bundle: Bundle) -> None:
    """Nothing is left running, and nothing hangs."""
    with running(slow_bundle) as server:
        begin_and_vanish(server, message(slow_bundle, LONG, detach=True))
        begin_and_go(server, message(slow_bundle, LONG, detach=True))
        assert server.core.executor.counts.in_flight == 2
    assert server.core.executor.counts.idle


class Broken:
    """An engine that fails, as ours do or with a bug of its own, and knows a secret."""

    failure: Exception | None = None

    def __init__(self, graph: bytes, choice: EngineChoice) -> None:
        del graph, choice

    def run(self, inputs: Any) -> dict[str, Array]:
        """Wait until nobody listens, and fail."""
        del inputs
        Broken.may_fail.wait(20)
        raise self.failure or EngineError("node /secret/weights-17 failed")

    may_fail = threading.Event()

    def terminate(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing to release."""


@pytest.mark.parametrize("failure", [None, ZeroDivisionError("/secret/path.py")])
def test_what_fails_while_nobody_listens_is_logged_and_told_without_secrets(
    slow_bundle: Bundle, caplog: pytest.LogCaptureFixture, failure: Exception | None
) -> None:
    """The operator reads the cause at once; who resumes gets an id, as any other caller would."""
    Broken.failure = failure
    Broken.may_fail.clear()
    request = message(slow_bundle, SHORT, detach=True)
    with caplog.at_level("INFO", "runtime_server"), running(slow_bundle, Broken) as server:
        begin_and_go(server, request)
        wait_until(lambda: not any(request.has_subscribers for request in running_in(server)))
        Broken.may_fail.set()
        wait_until(lambda: server.is_at_rest)
        with connect(server.address) as caller, pytest.raises(grpc.RpcError) as failed:
            list(caller.generate(resume(slow_bundle, request)))
        assert details_of(failed.value)[0] == "INTERNAL"
        assert "secret" not in str(failed.value.trailing_metadata()) + str(failed.value.details())
    events = [record.getMessage() for record in caplog.records]
    assert events.index("internal_error") < events.index("unheard")
    unheard = next(r.__dict__["fields"] for r in caplog.records if r.getMessage() == "unheard")
    expected = "ENGINE_ERROR" if failure is None else "ZeroDivisionError"
    assert (unheard["outcome"], unheard["request_id"]) == (expected, request.request_id)


def running_in(server: RunningServer) -> list[ActiveRequest]:
    """The requests inside."""
    return server.requests.index.running
