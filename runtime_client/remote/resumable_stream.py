"""The calls of one request: asked, listened to, and asked again when the connection breaks.

The request keeps its id, so the server does nothing twice, and what is here already is not sent
again. Knows a connection and messages; not what they mean for a picture.
"""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

from cascade.errors import Cancelled, MessageTooLarge, TransportError
from cascade.events import Accepted, Resumed
from runtime_client.remote.connection import Connection, Peer
from runtime_client.remote.deadline import Deadline
from runtime_client.remote.retry import MAX_RESUMES, Pacing, with_retries
from runtime_client.remote.transfer_stats import Traffic
from runtime_client.remote.transport import ByteStream
from wire.fragments import Fragment, encode_fragment, split
from wire.generate_events import Done, GenerateEvent, StageResult, decode_event
from wire.limits import MAX_MESSAGE_BYTES, max_joined_bytes
from wire.service import GENERATE, GENERATE_FROM_FRAGMENTS

T = TypeVar("T")


class ResumableStream:
    """One request's talk with a server; `end` may come from another thread."""

    def __init__(
        self, connection: Connection, deadline: Deadline, traffic: Traffic, request_id: str
    ) -> None:
        """Nothing said yet.

        Args:
            connection: the way to the server.
            deadline: when it must be over.
            traffic: is told bytes and seconds.
            request_id: names the work; the same in every call.
        """
        self.request_id = request_id
        self.held = 0
        """Results that have come."""
        self.resumes = False
        """Whether it asks again after a break in the middle."""
        self.largest_picture = 0
        """Width and height; bounds what is joined from fragments."""
        self._joining = bytearray()
        self._connection = connection
        self._deadline = deadline
        self._traffic = traffic
        self._ended: Future[None] = Future()
        self._stream: ByteStream | None = None
        self._breaks = 0

    def greet(self) -> Peer:
        """The server, once it is known to fit."""
        with self._traffic.timed("connect"):
            return self.wait_for(self._connection.begin())

    @contextmanager
    def placed(self, peer: Peer) -> Iterator[None]:
        """Inside the block this is one of the requests that the server lets in at once.

        Raises:
            DeadlineExceeded: no place became free in time.
            Cancelled: the talk was ended before.
        """
        place = peer.places.take()
        try:
            with self._traffic.timed("queue"):
                self.wait_for(place)
            yield
        finally:
            # The copy of a forked child may be locked for ever, and is nobody's.
            if self._connection.owner.is_this:
                peer.places.give_back(place)

    def messages(self, ask: Callable[[], bytes]) -> Iterator[GenerateEvent | Resumed | None]:
        """Everything that the server says, up to and with `Done`; None is of an unknown kind.

        Args:
            ask: one attempt at the call, which calls `send`; used again after every break.
        """
        data: bytes | None = self._ask(ask, None)
        while data is not None:
            self._traffic.bytes_down += len(data)
            message = self._decoded(data)
            self.held += isinstance(message, StageResult)
            if not (self._breaks and isinstance(message, Accepted)):
                yield message
            if isinstance(message, Done):
                return
            try:
                data = self._next()
            except TransportError as exc:
                self._breaks += 1
                if not self.resumes or self._breaks > MAX_RESUMES or self._ended.done():
                    raise
                broken_at = self._deadline.clock()
                self._joining.clear()
                yield Resumed(str(exc))
                data = self._ask(ask, broken_at)
        raise TransportError("the server ended the call before it was done")

    def send(self, peer: Peer, message: bytes) -> bytes:
        """One attempt at the call; returns its first event."""
        self._traffic.bytes_up += len(message)
        with self._traffic.timed("first"):
            path, data = in_fragments(peer, message)
            self._stream = peer.transport.stream(path, data, timeout_s=self._deadline.remaining_s())
            if self._ended.done():
                self._stream.cancel()
            first = next(self._stream, None)
        if first is None:
            raise TransportError("the server ended the call without an event")
        return first

    def _decoded(self, data: bytes) -> GenerateEvent | None:
        """A message as an event; None for an unknown kind, and for a fragment that is not the last.

        Raises:
            TransportError: more fragments than any answer of this bundle has.
        """
        with self._traffic.timed("serialise"):
            message = decode_event(data)
            if not isinstance(message, Fragment):
                return message
            if len(self._joining) + len(message.data) > max_joined_bytes(self.largest_picture):
                raise TransportError("the server sent more than the largest picture takes")
            self._joining += message.data
            if not message.is_last:
                return None
            whole = decode_event(bytes(self._joining))
            self._joining.clear()
            return None if isinstance(whole, Fragment) else whole

    def wait_for(self, future: "Future[T]") -> T:
        """A background result, unless the talk is ended or out of time before."""
        ends = (self._ended, self._connection.closing)
        waited: list[Future[Any]] = [future, *ends]
        done, _ = wait(waited, self._deadline.remaining_s(), FIRST_COMPLETED)
        self._refuse_ended()
        if not done:
            raise self._deadline.exceeded()
        try:
            return future.result()
        except CancelledError as exc:
            raise Cancelled("the client was closed") from exc

    def end(self) -> None:
        """Cancel, from another thread."""
        if not self._ended.done():
            self._ended.set_result(None)
        self.cancel_call()

    def cancel_call(self) -> None:
        """End the call in progress; harmless when it is over, nothing in another process."""
        if self._stream is not None and self._connection.owner.is_this:
            self._stream.cancel()

    def _ask(self, ask: Callable[[], bytes], broken_at: float | None) -> bytes:
        """The first event's bytes mean that the server took the request.

        Args:
            ask: one attempt.
            broken_at: when the connection broke, if it did.
        """
        return with_retries(
            ask,
            policy=self._connection.policy,
            budget=self._connection.budget,
            deadline=self._deadline,
            pacing=Pacing(sleep=self._sleep, chance=random.random, broken_at=broken_at),
        )

    def _next(self) -> bytes | None:
        """The next event's bytes; the time spent here is the server's and the wire's."""
        if self._stream is None:
            return None
        with self._traffic.timed("later"):
            return next(self._stream, None)

    def _sleep(self, seconds: float) -> None:
        """A pause between attempts that an end cuts short."""
        wait([self._ended, self._connection.closing], seconds, FIRST_COMPLETED)
        self._refuse_ended()

    def _refuse_ended(self) -> None:
        """Raise when there is nothing to wait for any more."""
        if self._ended.done():
            raise Cancelled("the run was ended from outside")
        if self._connection.closing.done():
            raise Cancelled("the client was closed")


def in_fragments(peer: Peer, message: bytes) -> tuple[str, bytes | list[bytes]]:
    """The method and the message, or the messages, that carry a request up.

    Raises:
        MessageTooLarge: the server takes none so large.
    """
    if len(message) <= MAX_MESSAGE_BYTES:
        return GENERATE, message
    limit = peer.info.limits.max_joined_bytes
    if len(message) > limit:
        raise MessageTooLarge(
            f"image: the request takes {len(message)} bytes, the server takes "
            f"{max(limit, MAX_MESSAGE_BYTES)}: update it, or use a lower cut",
            field="image.image.data",
        )
    return GENERATE_FROM_FRAGMENTS, [encode_fragment(part) for part in split(message)]
