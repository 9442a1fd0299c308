"""Each context goes up once, until the server may have forgotten it."""

from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from cascade.errors import TransportError
from cascade.types import ContextF16
from runtime_client.remote.context_uploads import ContextUploads
from runtime_client.remote.server_link import Uploaded
from wire.contexts import context_handle

ONE = np.ones((2, 4), np.float16)
TWO = np.full((2, 4), 2, np.float16)
LIFETIME_S = 10.0


class AtOnce(Executor):
    """Runs everything where it is submitted."""

    def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run it."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except TransportError as exc:
            future.set_exception(exc)
        return future


class FakeServer:
    """Counts uploads and keeps the time."""

    def __init__(self) -> None:
        self.uploads = 0
        self.is_gone = False
        self.now = 0.0
        self.contexts = ContextUploads(AtOnce(), self, lambda: self.now)

    def put_context(self, context: ContextF16) -> Uploaded:
        """Take one context."""
        self.uploads += 1
        if self.is_gone:
            raise TransportError("gone")
        return Uploaded(context_handle(context), LIFETIME_S, 100, 40)


def test_a_context_goes_up_once() -> None:
    """However often it is announced; another one goes up too."""
    server = FakeServer()
    for context in (ONE, ONE.copy(), TWO, ONE):
        server.contexts.begin(context)
    assert server.uploads == 2


def test_a_context_is_found_by_content() -> None:
    """Under the sha256 that both sides compute."""
    server = FakeServer()
    assert server.contexts.find(ONE) is None
    server.contexts.begin(ONE)
    upload = server.contexts.find(ONE.copy())
    assert upload is not None
    assert upload.handle == context_handle(ONE)


def test_an_upload_is_charged_once() -> None:
    """The first request pays, the second does not."""
    server = FakeServer()
    server.contexts.begin(ONE)
    upload = server.contexts.find(ONE)
    assert upload is not None
    cost = server.contexts.charge_once(upload)
    assert cost is not None
    assert (cost.bytes_up, cost.bytes_down) == (100, 40)
    assert server.contexts.charge_once(upload) is None


def test_a_context_expires_before_the_server_forgets_it() -> None:
    """At nine tenths of the lifetime that the server promised."""
    server = FakeServer()
    server.contexts.begin(ONE)
    server.now = 0.89 * LIFETIME_S
    assert server.contexts.find(ONE) is not None
    server.now = 0.91 * LIFETIME_S
    assert server.contexts.find(ONE) is None


def test_what_the_server_forgot_goes_up_again() -> None:
    """After `forget` the next announcement uploads."""
    server = FakeServer()
    server.contexts.begin(ONE)
    server.contexts.forget(context_handle(ONE))
    server.contexts.begin(ONE)
    assert server.uploads == 2


def test_a_failed_upload_is_tried_again() -> None:
    """By the next request, not counted by this one."""
    server = FakeServer()
    server.is_gone = True
    server.contexts.begin(ONE)
    server.is_gone = False
    server.contexts.begin(ONE)
    upload = server.contexts.find(ONE)
    assert upload is not None
    assert server.contexts.charge_once(upload) is not None
    assert server.uploads == 2
