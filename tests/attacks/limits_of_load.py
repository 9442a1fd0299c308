"""The limits on how much is inside a server at once, and on what it keeps."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.app.server import GRPC_OPTIONS
from runtime_server.config.config import ServerConfig
from runtime_server.requests.active_request import MAX_SUBSCRIPTIONS
from tests.attacks.limits import OK, Ground, Holding, Limit, answer_of, held, once
from tests.support.manifests import encoder_of, stages_of
from tests.support.serving import (
    PROMPT,
    SERVICE,
    Caller,
    RunningServer,
    connect,
    details_of,
    request_message,
    running,
    tensor_message,
    wait_until,
)
from tests.support.tiny_bundle import WIDTH

STREAMS = dict(GRPC_OPTIONS)["grpc.max_concurrent_streams"]
ONE_CONTEXT = np.zeros((4, WIDTH), np.float16).nbytes
PATIENCE_S = 1.0
"""How long a call that must wait is watched not being answered."""


def message(ground: Ground, number: int, **fields: Any) -> bytes:
    """A request of its own id."""
    start = pb.PromptStart(prompt=PROMPT)
    fields = {"request_id": f"load-{number}", "prompt": start, **fields}
    return request_message(ground.bundle, **fields).SerializeToString()


def first_answer(call: Any) -> str:
    """`OK` once a request is let in, else what refused it."""
    try:
        next(iter(call))
    except grpc.RpcError as exc:
        code, reason, field, _ = details_of(exc)
        return f"{reason} {field}".strip() or code
    return OK


def last_of(ground: Ground, count: int, *, first_runs: bool = False, **settings: Any) -> str:
    """What the last of so many requests is told while nothing is finished.

    Args:
        ground: whose bundle.
        count: requests that are asked for one after the other.
        first_runs: wait until the first has left the queue; it is not counted.
        **settings: of the server.
    """
    with running(ground.bundle, Holding, **settings) as server, connect(server.address) as caller:
        with held():
            if first_runs:
                calls = [caller.generate(message(ground, 0))]
                assert first_answer(calls[0]) == OK
                wait_until(lambda: server.core.executor.counts.queued == 0)
            else:
                calls = []
            for number in range(1, count + 1):
                calls.append(caller.generate(message(ground, number)))
                answer = first_answer(calls[-1])
                assert answer == OK or number == count
        finish(server, calls, answer)
    return answer


def finish(server: RunningServer, calls: list[Any], last: str) -> None:
    """Let everything that was let in come to its end."""
    for call in calls if last == OK else calls[:-1]:
        assert answer_of(call) == OK
    wait_until(lambda: server.is_at_rest)


def held_bytes(ground: Ground) -> int:
    """What one request holds."""
    spec = encoder_of(ground.bundle.manifest)
    pictures = sum(3 * stage.makes.width**2 for stage in stages_of(ground.bundle.manifest))
    return 2 * spec.max_tokens * spec.makes.width + pictures


def megapixels(ground: Ground) -> float:
    """What one request costs."""
    return sum(s.steps * s.makes.width**2 for s in stages_of(ground.bundle.manifest)) / 1e6


def listeners(ground: Ground, count: int) -> str:
    """What becomes of the one that is cut off, where so many calls listen to one request.

    Which one that is, the server does not promise: calls reach it in an order of their own.
    """
    with running(ground.bundle, Holding) as server, connect(server.address) as caller:
        with held():
            calls = [caller.generate(message(ground, 1)) for _ in range(count)]
            assert [first_answer(call) for call in calls] == [OK] * count
        answers = [answer_of(call) for call in calls]
    lost = [answer for answer in answers if answer != OK]
    assert len(lost) <= 1
    return lost[0] if lost else OK


def streams(ground: Ground, others: int) -> str:
    """A call beside so many open ones on one connection."""
    timeout_s = 60.0 if others < STREAMS else PATIENCE_S
    with ExitStack() as stack:
        caller = stack.enter_context(ground.caller())
        for _ in range(others):
            open_stream(caller, stack)
        call = caller.channel.unary_unary(SERVICE + "GetServerInfo")
        answer = answer_of(once(lambda: call(b"", timeout=timeout_s)))
    return "waits" if answer == "DEADLINE_EXCEEDED" else answer


def open_stream(caller: Caller, stack: ExitStack) -> None:
    """A call whose body never comes; it is ended with the block."""
    over = threading.Event()

    def never() -> Any:
        over.wait(60)
        yield from ()

    call = caller.channel.stream_unary(SERVICE + "PutContext").future(never())
    stack.callback(call.cancel)
    stack.callback(over.set)


def contexts(ground: Ground, count: int) -> str:
    """The first of so many contexts, in a store that has room for two."""
    settings = {"context_store_bytes": 2 * ONE_CONTEXT}
    with running(ground.bundle, **settings) as server, connect(server.address) as caller:
        handles = []
        for number in range(count):
            tensor = tensor_message(np.full((4, WIDTH), number, np.float16))
            put = pb.PutContextRequest(bundle_id=ground.bundle.bundle_id, context=tensor)
            handles.append(caller.put_context(put).handle)
        start = pb.ContextStart(context=pb.ContextReference(handle=handles[0]))
        request = request_message(ground.bundle, context=start, last_stage="base")
        return answer_of(caller.generate(request))


def default(name: str) -> str:
    """The default of a setting."""
    return f"{getattr(DEFAULTS, name)}"


def default_mib(name: str) -> str:
    """The same, of bytes."""
    return f"{getattr(DEFAULTS, name) >> 20} MiB"


DEFAULTS = ServerConfig(bundle=Path("b"))
BUSY = "SERVER_BUSY"

LOAD = [
    Limit(
        name="streams", what="open calls of one connection", bound=f"{STREAMS}",
        set_by=("runtime_server/app/server.py:GRPC_OPTIONS",), probe=streams,
        within=STREAMS - 1, beyond=STREAMS, refused="waits",
    ),
    Limit(
        name="queue", what="requests waiting for one component",
        bound=default("max_queued_per_stage"),
        set_by=("max_queued_per_stage",),
        probe=lambda g, n: last_of(g, n, first_runs=True, max_queued_per_stage=2),
        within=2, beyond=3, refused=BUSY,
    ),
    Limit(
        name="in-flight", what="requests inside",
        bound=default("max_in_flight"),
        set_by=("max_in_flight",),
        probe=lambda g, n: last_of(g, n, max_in_flight=3), within=3, beyond=4, refused=BUSY,
    ),
    Limit(
        name="in-flight-of-one", what="requests of one caller inside",
        bound=default("max_in_flight_per_identity"),
        set_by=("max_in_flight_per_identity",),
        probe=lambda g, n: last_of(g, n, max_in_flight_per_identity=2),
        within=2, beyond=3, refused=BUSY,
    ),
    Limit(
        name="in-flight-bytes", what="bytes of all requests inside: embeddings, pictures, results",
        bound=default_mib("max_in_flight_bytes"),
        set_by=("max_in_flight_bytes",),
        probe=lambda g, n: last_of(g, n, max_in_flight_bytes=2 * held_bytes(g)),
        within=2, beyond=3, refused=BUSY,
    ),
    Limit(
        name="quota", what="megapixels of steps a minute of one caller", bound="off by default",
        set_by=("quota_megapixels_per_minute",),
        probe=lambda g, n: last_of(g, n, quota_megapixels_per_minute=2.01 * megapixels(g)),
        within=2, beyond=3, refused="QUOTA_EXCEEDED",
    ),
    Limit(
        name="listeners", what="calls that listen to one request", bound=f"{MAX_SUBSCRIPTIONS}",
        set_by=("runtime_server/requests/active_request.py:MAX_SUBSCRIPTIONS",), probe=listeners,
        within=MAX_SUBSCRIPTIONS, beyond=MAX_SUBSCRIPTIONS + 1, refused="CANCELLED",
    ),
    Limit(
        name="contexts", what="contexts kept, in bytes", bound=default_mib("context_store_bytes"),
        set_by=("context_store_bytes",), probe=contexts, within=2, beyond=3,
        refused="UNKNOWN_CONTEXT context.context.handle",
    ),
]  # fmt: skip
