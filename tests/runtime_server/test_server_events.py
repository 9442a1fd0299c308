"""What the service tells whoever counts: why requests were refused, where they stopped, bytes."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.telemetry.server_events import (
    BytesMoved,
    Place,
    Refusal,
    RequestAdmitted,
    RequestRefused,
    RequestReleased,
    RequestStopped,
    ServerEvent,
)
from tests.support.serving import (
    PROMPT,
    Caller,
    RunningServer,
    connect,
    request_message,
    running,
    wait_until,
)

START = pb.PromptStart(prompt=PROMPT)
LONG = {name: pb.StageOptions(steps=1000) for name in ("sr16", "sr32")}
SHORT = {name: pb.StageOptions(steps=1) for name in ("base", "sr16", "sr32")}
LIMITS = {
    "max_in_flight": 3,
    "max_queued_per_stage": 2,
    "max_in_flight_per_identity": 4,
}


class Remembering:
    """A listener that remembers events."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.stops: list[tuple[Place, str]] = []
        self.received = self.sent = 0
        self.inside: list[str] = []

    def __call__(self, event: ServerEvent) -> None:
        """Remember it, or add it up."""
        if isinstance(event, RequestRefused):
            self.refusals.append(event.why)
        elif isinstance(event, RequestStopped):
            self.stops.append((event.where, event.code))
        elif isinstance(event, BytesMoved):
            self.received += event.received
            self.sent += event.sent
        elif isinstance(event, RequestAdmitted):
            self.inside.append(event.request_id)
        elif isinstance(event, RequestReleased):
            self.inside.remove(event.request_id)


@pytest.fixture
def told() -> Remembering:
    """What the server tells."""
    return Remembering()


@pytest.fixture
def server(slow_bundle: Bundle, told: Remembering) -> Iterator[RunningServer]:
    """A server with few places; in the end everybody who entered has left."""
    with running(slow_bundle, emit=told, **LIMITS) as running_server:
        yield running_server
        wait_until(lambda: running_server.is_at_rest)
        assert told.inside == []


@pytest.fixture
def caller(server: RunningServer) -> Iterator[Caller]:
    """A connection to it."""
    with connect(server.address) as connected:
        yield connected


def message(bundle: Bundle, options: Any = LONG, **fields: Any) -> Any:
    """A request from a prompt."""
    return request_message(bundle, prompt=START, options=options, **fields)


def begun(call: Any) -> Any:
    """A call of which a super-resolution stage has done a step."""
    assert any(response.progress.stage.startswith("sr") for response in call)
    return call


def refuse(call: Any) -> None:
    """A call that must fail."""
    with pytest.raises(grpc.RpcError):
        list(call)


def test_bytes_of_every_call_are_told(
    caller: Caller, told: Remembering, slow_bundle: Bundle
) -> None:
    """What was sent up and what came down, joined calls and kept results included."""
    request = message(slow_bundle, SHORT)
    first, again = list(caller.generate(request)), list(caller.generate(request))
    wait_until(lambda: told.received == 2 * request.ByteSize())
    sent = sum(response.ByteSize() for response in (*first, *again))
    assert told.sent == sent
    sent += caller.server_info().ByteSize()
    assert told.sent == sent


def test_a_cancelled_call_was_running_or_waiting(
    server: RunningServer, caller: Caller, told: Remembering, slow_bundle: Bundle
) -> None:
    """Each is told once, by where it was."""
    first = begun(caller.generate(message(slow_bundle)))
    second = caller.generate(message(slow_bundle))
    next(second)
    second.cancel()
    wait_until(lambda: told.stops == [("queue", "CANCELLED")])
    first.cancel()
    wait_until(lambda: server.is_at_rest)
    assert told.stops == [("queue", "CANCELLED"), ("running", "CANCELLED")]


def test_a_call_whose_time_is_over_is_told_as_such(
    server: RunningServer, caller: Caller, told: Remembering, slow_bundle: Bundle
) -> None:
    """Once, whichever of the two sides noticed first."""
    refuse(caller.generate(message(slow_bundle), timeout_s=3))
    wait_until(lambda: server.is_at_rest)
    assert told.stops == [("running", "DEADLINE_EXCEEDED")]


def test_leaving_detached_work_stops_nothing(
    server: RunningServer, caller: Caller, told: Remembering, slow_bundle: Bundle
) -> None:
    """Until it is cancelled by its id."""
    request = message(slow_bundle, detach=True)
    begun(caller.generate(request)).cancel()
    with connect(server.address) as other:
        assert other.cancel(request.request_id)
    wait_until(lambda: server.is_at_rest)
    assert told.stops == [("running", "CANCELLED")]


def test_requests_that_are_wrong_are_told_as_invalid(
    caller: Caller, told: Remembering, slow_bundle: Bundle
) -> None:
    """Bytes, fields, other bundles, unknown ids, ids that are taken."""
    request = message(slow_bundle, SHORT)
    list(caller.generate(request))
    request.seed = 1
    refuse(caller.generate(b"\xff\xff"))
    refuse(caller.generate(message(slow_bundle, request_id="no id!")))
    refuse(caller.generate(message(slow_bundle, bundle_id="f" * 64)))
    refuse(caller.generate(request_message(slow_bundle, resume=pb.ResumeStart())))
    refuse(caller.generate(request))
    with pytest.raises(grpc.RpcError):
        caller.put_context(b"\xff\xff")
    assert told.refusals == ["invalid"] * 6


def test_requests_beyond_the_room_are_told_by_reason(
    server: RunningServer, caller: Caller, told: Remembering, slow_bundle: Bundle
) -> None:
    """A full queue, too many in flight, a server that leaves: each by its name."""
    first = begun(caller.generate(message(slow_bundle)))
    waiting = [caller.generate(message(slow_bundle)) for _ in range(2)]
    for call in waiting:
        next(call)
    refuse(caller.generate(message(slow_bundle)))
    waiting.pop().cancel()
    wait_until(lambda: server.core.executor.counts.in_flight == 2)
    server.server.generations.refuse_new()
    refuse(caller.generate(message(slow_bundle)))
    assert told.refusals == ["in_flight", "draining"]
    for call in (first, *waiting):
        call.cancel()


def test_a_full_queue_is_told_as_such(slow_bundle: Bundle, told: Remembering) -> None:
    """Where the places in flight would do."""
    limits = {**LIMITS, "max_in_flight": 8, "max_queued_per_stage": 1}
    with running(slow_bundle, emit=told, **limits) as server:
        with connect(server.address) as caller:
            calls = [begun(caller.generate(message(slow_bundle)))]
            calls.append(caller.generate(message(slow_bundle)))
            next(calls[1])
            refuse(caller.generate(message(slow_bundle)))
            assert told.refusals == ["queue_full"]
            for call in calls:
                call.cancel()
        wait_until(lambda: server.is_at_rest)
