"""What one caller and all of them may hold, over a real socket: both sides of each bound."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.app.refusal import PUSHBACK
from runtime_server.auth.static_keys import hash_token
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
LONG = {"base": pb.StageOptions(steps=1000), "sr16": pb.StageOptions(steps=1000)}
ANN, BOB = ((("authorization", f"Bearer {name}-secret"),) for name in ("ann", "bob"))


def request(bundle: Bundle, **fields: Any) -> Any:
    """A request that lasts until it is cancelled."""
    return request_message(bundle, prompt=START, options=LONG, last_stage="sr16", **fields)


def refusal_of(call: Any) -> tuple[str, str, float | None, str]:
    """Code, reason, RetryInfo and gRPC's trailer of a call that is refused."""
    with pytest.raises(grpc.RpcError) as refused:
        list(call)
    code, reason, _, retry_s = details_of(refused.value)
    trailers = dict(refused.value.trailing_metadata())
    return code, reason, retry_s, trailers.get(PUSHBACK, "")


@contextmanager
def at_rest_after(server: RunningServer) -> Iterator[Caller]:
    """A connection; nothing is inside in the end."""
    with connect(server.address) as caller:
        yield caller
    wait_until(lambda: server.is_at_rest)


@pytest.fixture(scope="module")
def two_callers(slow_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that knows Ann and Bob and lets each have two requests inside."""
    keys: Path = tmp_path_factory.mktemp("keys") / "keys.toml"
    lines = [f'{name} = "{hash_token(f"{name}-secret")}"' for name in ("ann", "bob")]
    keys.write_text("\n".join(lines))
    with running(slow_bundle, token_keys=keys, max_in_flight_per_identity=2) as server:
        yield server


def test_one_caller_does_not_take_the_place_of_another(
    two_callers: RunningServer, slow_bundle: Bundle
) -> None:
    """Two of Ann's are inside, her third is told when to come back, Bob's first is let in."""
    with at_rest_after(two_callers) as caller:
        calls = [caller.generate(request(slow_bundle), metadata=ANN) for _ in range(2)]
        assert [next(call).WhichOneof("event") for call in calls] == ["accepted"] * 2
        code, reason, retry_s, trailer = refusal_of(
            caller.generate(request(slow_bundle), metadata=ANN)
        )
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
        assert retry_s is not None
        assert trailer == str(math.ceil(1000 * retry_s))
        his = caller.generate(request(slow_bundle), metadata=BOB)
        assert next(his).WhichOneof("event") == "accepted"
        calls[1].cancel()
        limits = two_callers.requests.limits
        wait_until(lambda: [limits.count(f"key:{name}") for name in ("ann", "bob")] == [1, 1])
        again = caller.generate(request(slow_bundle), metadata=ANN)
        assert next(again).WhichOneof("event") == "accepted"
        for call in (*calls, his, again):
            call.cancel()


def test_who_is_refused_for_want_of_room_is_not_read(slow_bundle: Bundle) -> None:
    """A wrong field of a request that finds no room is found only when there is room."""
    wrong = pb.OutputOptions(format=99)  # type: ignore[arg-type]
    with running(slow_bundle, max_in_flight=1) as server, at_rest_after(server) as caller:
        code, reason, retry_s, _ = refusal_of(caller.generate(request(slow_bundle, output=wrong)))
        assert (code, reason, retry_s) == ("INVALID_ARGUMENT", "INVALID_REQUEST", None)
        call = caller.generate(request(slow_bundle))
        next(call)
        code, reason, retry_s, _ = refusal_of(caller.generate(request(slow_bundle, output=wrong)))
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
        assert retry_s is not None
        call.cancel()


def test_joining_a_twin_takes_no_place(two_callers: RunningServer, slow_bundle: Bundle) -> None:
    """Asking again for what is inside is not one request more."""
    with at_rest_after(two_callers) as caller:
        asked = [request(slow_bundle) for _ in range(2)]
        calls = [caller.generate(message, metadata=ANN) for message in (*asked, *asked)]
        assert sorted(next(call).accepted.joined for call in calls) == [False, False, True, True]
        assert two_callers.requests.limits.count("key:ann") == 2
        for call in calls:
            call.cancel()


def test_nobody_reaches_the_request_of_another(
    two_callers: RunningServer, slow_bundle: Bundle
) -> None:
    """Not to join it, not to resume it, not to end it; not even to know that it is there."""
    with at_rest_after(two_callers) as caller:
        hers = request(slow_bundle)
        call = caller.generate(hers, metadata=ANN)
        next(call)
        asked = request_message(slow_bundle, request_id=hers.request_id, resume=pb.ResumeStart())
        with pytest.raises(grpc.RpcError) as unknown:
            list(caller.generate(asked, metadata=BOB))
        assert details_of(unknown.value)[:2] == ("NOT_FOUND", "UNKNOWN_REQUEST")
        assert not caller.cancel(hers.request_id, metadata=BOB)
        other = request(slow_bundle, seed=9, request_id=hers.request_id)
        his = caller.generate(other, metadata=BOB)
        assert not next(his).accepted.joined
        his.cancel()
        assert caller.cancel(hers.request_id, metadata=ANN)


def test_the_context_of_another_opens_nothing(
    two_callers: RunningServer, slow_bundle: Bundle
) -> None:
    """A handle is good for who uploaded it."""
    with at_rest_after(two_callers) as caller:
        encoder = request_message(slow_bundle, prompt=START, last_stage="text_encoder")
        tensor = results_of(caller.generate(encoder, metadata=ANN))["text_encoder"].context
        stored = pb.PutContextRequest(bundle_id=slow_bundle.bundle_id, context=tensor)
        handle = caller.put_context(stored, metadata=ANN).handle
        start = pb.ContextStart(context=pb.ContextReference(handle=handle))
        message = request_message(slow_bundle, context=start, last_stage="base")
        with pytest.raises(grpc.RpcError) as unknown:
            list(caller.generate(message, metadata=BOB))
        assert details_of(unknown.value)[:2] == ("NOT_FOUND", "UNKNOWN_CONTEXT")
        assert list(results_of(caller.generate(message, metadata=ANN))) == ["base"]


def test_bytes_up_to_the_bound_are_let_in_and_one_less_is_refused(slow_bundle: Bundle) -> None:
    """What two such requests hold is room for two, not for three; a byte less is room for one."""

    def whole() -> Any:
        return request_message(slow_bundle, prompt=START, options=LONG)

    with running(slow_bundle) as server, connect(server.address) as caller:
        call = caller.generate(whole())
        next(call)
        one = server.requests.limits.size_bytes
        call.cancel()
    assert one > 3 * (8 * 8 + 16 * 16)
    for bound, fitting in ((2 * one, 2), (2 * one - 1, 1)):
        with (
            running(slow_bundle, max_in_flight_bytes=bound) as server,
            at_rest_after(server) as caller,
        ):
            calls = [caller.generate(whole()) for _ in range(fitting)]
            assert [next(call).WhichOneof("event") for call in calls] == ["accepted"] * fitting
            refused = refusal_of(caller.generate(whole()))
            assert refused[:2] == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
            assert refused[2] is not None
            for call in calls:
                call.cancel()


def test_results_beyond_their_budget_push_out_the_oldest(slow_bundle: Bundle) -> None:
    """The newest is there, the first is not."""
    with running(slow_bundle, result_store_bytes=20_000) as server, at_rest_after(server) as caller:
        asked = [
            request_message(slow_bundle, prompt=START, last_stage="base", seed=seed)
            for seed in range(30)
        ]
        for message in asked:
            list(caller.generate(message))
        kept = server.requests.index.kept
        assert 1 < kept.count < 30
        assert kept.size_bytes <= 20_000
        again = [next(iter(list(caller.generate(asked[i])))).accepted.joined for i in (29, 0)]
        assert again == [True, False]
