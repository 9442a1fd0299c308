"""How a call ends once its last message has come: with its own status, not with a cancel."""

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from runtime_client.client import Client
from runtime_client.remote.transport import Security, Transport
from runtime_server.telemetry.server_events import CallEnded
from tests.support.serving import HANG_S, PROMPT, running, wait_until
from wire.service import GENERATE


class LastWords(grpc.GenericRpcHandler):
    """Sends one message, and ends the call only when it is told to."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.cancelled = threading.Event()
        self.was_open: Queue[bool] = Queue()

    def service(self, call: Any) -> Any:
        """One handler for every method."""
        del call
        return grpc.unary_stream_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(self.cancelled.set)
        try:
            yield request
            self.may_end.wait(HANG_S)
        finally:
            # gRPC never asks a cancelled call for what follows the yield.
            self.was_open.put(context.is_active())


@pytest.fixture
def spoken() -> Iterator[tuple[LastWords, Transport]]:
    """A server, and the way to it."""
    words = LastWords()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[words])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    transport = Transport(f"127.0.0.1:{port}", Security())
    yield words, transport
    words.may_end.set()
    transport.close()
    server.stop(None).wait()


def test_a_call_that_was_left_is_still_open(spoken: tuple[LastWords, Transport]) -> None:
    """Also if its stream is cancelled and collected afterwards."""
    words, transport = spoken
    stream = transport.stream(GENERATE, b"last", timeout_s=HANG_S)
    assert next(stream) == b"last"
    stream.leave()
    stream.cancel()
    del stream
    gc.collect()
    words.may_end.set()
    assert words.was_open.get(timeout=HANG_S)


def test_a_call_that_is_cancelled_is_not(spoken: tuple[LastWords, Transport]) -> None:
    """The server sees it as a caller that gave up."""
    words, transport = spoken
    stream = transport.stream(GENERATE, b"last", timeout_s=HANG_S)
    assert next(stream) == b"last"
    stream.cancel()
    assert words.cancelled.wait(HANG_S)
    words.may_end.set()
    assert not words.was_open.get(timeout=HANG_S)


def test_pictures_that_came_are_counted_as_such(bundle: Bundle) -> None:
    """Every call of a client that got its picture ends with OK at the server."""
    ended: list[CallEnded] = []

    def note(event: object) -> None:
        if isinstance(event, CallEnded) and event.method.endswith("/Generate"):
            ended.append(event)

    with running(bundle, emit=note) as server:
        with Client(bundle, server=server.address, cut=3, threads=1) as client:
            for seed in range(8):
                client.generate(PROMPT, seed=seed)
            wait_until(lambda: len(ended) == 8)
        wait_until(lambda: server.is_at_rest)
    assert {event.code for event in ended} == {"OK"}
