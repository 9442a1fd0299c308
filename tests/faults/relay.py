"""A gRPC server that passes every call on to another and may refuse it or change what comes back.

So that a client meets servers that do not exist yet, or that fail half the time. Knows methods and
bytes; not what they mean.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from tests.support.serving import CHANNEL_OPTIONS, HANG_S, SERVICE

Refuse = Callable[[str, int], "tuple[grpc.StatusCode, tuple[tuple[str, str], ...]] | None"]
"""Given method and number of the attempt: code and trailers to fail with, None to pass it on."""
Change = Callable[[str, bytes], list[bytes]]
"""Given method and a message of the server: the messages that the client gets."""


class Relay:
    """Passes on to one address, counting attempts by method."""

    def __init__(self, target: str, refuse: Refuse | None, change: Change | None) -> None:
        self.attempts: dict[str, int] = {}
        self._refuse = refuse
        self._change: Change = change if change is not None else (lambda _, message: [message])
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._server: Any = grpc.server(ThreadPoolExecutor(16), options=CHANNEL_OPTIONS)
        methods = {
            "GetServerInfo": grpc.unary_unary_rpc_method_handler(self._unary("GetServerInfo")),
            "PutContext": grpc.unary_unary_rpc_method_handler(self._unary("PutContext")),
            "Generate": grpc.unary_stream_rpc_method_handler(self._stream("Generate")),
        }
        name = SERVICE.strip("/")
        handler = grpc.method_handlers_generic_handler(name, methods)
        self._server.add_generic_rpc_handlers((handler,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _count(self, method: str, context: Any) -> None:
        """Note an attempt, and refuse it if it is to be."""
        self.attempts[method] = self.attempts.get(method, 0) + 1
        refusal = self._refuse and self._refuse(method, self.attempts[method])
        if refusal is not None:
            context.set_trailing_metadata(refusal[1])
            context.abort(refusal[0], "refused by the relay")

    def _unary(self, method: str) -> Callable[[bytes, Any], bytes]:
        def handle(data: bytes, context: Any) -> bytes:
            self._count(method, context)
            with passing_errors(context):
                reply: bytes = self._channel.unary_unary(SERVICE + method)(data, timeout=HANG_S)
            return self._change(method, reply)[0]

        return handle

    def _stream(self, method: str) -> Callable[[bytes, Any], Iterator[bytes]]:
        def handle(data: bytes, context: Any) -> Iterator[bytes]:
            self._count(method, context)
            call = self._channel.unary_stream(SERVICE + method)(data, timeout=HANG_S)
            context.add_callback(call.cancel)
            with passing_errors(context):
                for message in call:
                    yield from self._change(method, message)

        return handle

    def close(self) -> None:
        """End it."""
        self._server.stop(0).wait()
        self._channel.close()


@contextmanager
def passing_errors(context: Any) -> Iterator[None]:
    """What the target failed with, the client is told the same way."""
    try:
        yield
    except grpc.RpcError as exc:
        error: Any = exc
        context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
        context.abort(error.code(), error.details())


@contextmanager
def relay(
    target: str, *, refuse: Refuse | None = None, change: Change | None = None
) -> Iterator[Relay]:
    """A relay in front of an address for the length of a `with` block."""
    between = Relay(target, refuse, change)
    try:
        yield between
    finally:
        between.close()
