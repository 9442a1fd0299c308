"""One call of `Generate` that survives a broken connection: sent, streamed, and sent again.

The request keeps its id (an idempotency key), so the server does nothing twice, and results that
have come are not sent again. Knows a link and messages; not what they mean for a picture.
"""

import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from cascade.errors import Cancelled, MessageTooLarge, TransportError, UnknownContext
from cascade.events import Accepted, Resumed
from cascade.system.free_memory import give_back_free_memory
from runtime_client.deadline import Deadline
from runtime_client.remote.connection import Connection
from runtime_client.remote.retry import MAX_RESUMES, RETRIED, Retrier
from runtime_client.remote.server_link import Peer
from runtime_client.remote.transfer_stats import PACK, UNPACK, TransferStats
from runtime_client.remote.transport import ByteStream
from wire.fragments import Fragment, encode_fragment, split
from wire.generate_call import GenerateCall, encode_generate
from wire.generate_events import Done, GenerateEvent, StageResult, decode_event
from wire.limits import MAX_MESSAGE_BYTES, max_joined_bytes
from wire.service import GENERATE, GENERATE_FROM_FRAGMENTS
from wire.starts import ResumeStart, Start

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InlineStart:
    """What to start from instead, where the server no longer holds the context of a handle."""

    handle: bytes
    start: Start


class ResumableStream:
    """The events of one request; `terminate` may come from another thread."""

    def __init__(
        self,
        connection: Connection,
        deadline: Deadline,
        stats: TransferStats,
        *,
        largest_picture: int,
    ) -> None:
        """Nothing sent yet.

        Args:
            connection: the way to the server.
            deadline: when it must be over.
            stats: bytes and seconds are added to it.
            largest_picture: width and height in pixels; bounds what is joined from fragments.
        """
        self._connection = connection
        self._link = connection.link
        self._deadline = deadline
        self._stats = stats
        self._max_joined_bytes = max_joined_bytes(largest_picture)
        self._joining = bytearray()
        self._results = 0
        self._breaks = 0
        self._ended: Future[None] = Future()
        self._stream: ByteStream | None = None

    def handshake(self) -> Peer:
        """The server, once it is known to fit."""
        with self._stats.timed("connect"):
            return self.wait_for(self._link.begin_handshake())

    @contextmanager
    def slot(self, peer: Peer) -> Iterator[None]:
        """Inside the block this is one of the requests that the server lets in at once.

        Raises:
            DeadlineExceeded: no slot became free in time.
            Cancelled: the request was ended before.
        """
        slot = peer.slots.acquire()
        try:
            with self._stats.timed("queue"):
                self.wait_for(slot)
            yield
        finally:
            # The copy of a forked child may be locked for ever, and is nobody's.
            if self._connection.owner.is_this:
                peer.slots.release(slot)

    def messages(
        self, peer: Peer, call: GenerateCall, inline: InlineStart | None = None
    ) -> Iterator[GenerateEvent | Resumed | None]:
        """Every event of a call, up to and with `Done`; None is of an unknown kind.

        Args:
            peer: the server.
            call: what is asked for. After a break it is sent again if it lingers or resumes.
            inline: the start without a handle, where the call names one.
        """
        # Any other call the server ends with its connection: sent again, it would be done twice.
        resumes = call.detach or call.linger_s > 0 or isinstance(call.start, ResumeStart)
        data: bytes | None
        call, data = self._open(peer, call, inline)
        # While the server works: what stages here took for their runs would lie beside its picture.
        give_back_free_memory()
        while data is not None:
            self._stats.bytes_down += len(data)
            message = self._decoded(data)
            self._results += isinstance(message, StageResult)
            if isinstance(message, Done) and self._stream is not None:
                self._stream.leave()
            # After a break the server accepts once more; whoever reads has been told already.
            if not (self._breaks and isinstance(message, Accepted)):
                yield message
            if isinstance(message, Done):
                return
            try:
                data = self._next()
            except TransportError as exc:
                self._breaks += 1
                if not resumes or self._breaks > MAX_RESUMES or self._ended.done():
                    raise
                # The patience counts from here, not from the first attempt that fails after it.
                broken_at = self._deadline.clock()
                self._joining.clear()
                yield Resumed(str(exc))
                call, data = self._open(peer, call, inline, broken_at)
        raise TransportError("the server ended the call before it was done")

    def wait_for(self, future: "Future[T]") -> T:
        """A background result, unless the request is ended or out of time before."""
        # Futures, so that one wait covers all three; polling would cost a wake-up per request and
        # tick.
        ends = (self._ended, self._link.closing)
        waited: list[Future[Any]] = [future, *ends]
        done, _ = wait(waited, self._deadline.remaining_s(), FIRST_COMPLETED)
        self._refuse_ended()
        if not done:
            raise self._deadline.exceeded()
        try:
            return future.result()
        except CancelledError as exc:
            raise Cancelled("the client was closed") from exc

    def terminate(self) -> None:
        """End the request, from another thread."""
        if not self._ended.done():
            self._ended.set_result(None)
        self.cancel()

    def cancel(self) -> None:
        """Cancel the call in progress; harmless when it is over, nothing in another process."""
        if self._stream is not None and self._connection.owner.is_this:
            self._stream.cancel()

    def _open(
        self,
        peer: Peer,
        call: GenerateCall,
        inline: InlineStart | None,
        broken_at: float | None = None,
    ) -> tuple[GenerateCall, bytes]:
        """Send a call until the server takes it.

        Args:
            peer: the server.
            call: what is asked for.
            inline: see `messages`.
            broken_at: when the connection broke, if it did.

        Returns:
            The call that was taken, and its first event's bytes.
        """
        link = self._link
        retrier = Retrier(link.policy, link.budget, self._deadline, broken_at=broken_at)
        while True:
            try:
                # What has come is not sent again: the server skips as many results as are held
                # here.
                data = self._send(peer, replace(call, results_held=self._results))
            except UnknownContext:
                # A second time would be the server's fault, not an expired handle: no endless
                # exchange.
                if inline is None or call.start == inline.start:
                    raise
                self._connection.contexts.forget(inline.handle)
                call = replace(call, start=inline.start)
            except RETRIED as error:
                self._sleep(retrier.pause_after(error))
            else:
                retrier.note_success()
                return call, data

    def _send(self, peer: Peer, call: GenerateCall) -> bytes:
        """One attempt at the call; returns its first event's bytes."""
        with self._stats.timed_packing(PACK):
            message = encode_generate(call)
        self._stats.bytes_up += len(message)
        self._stats.call_bytes = len(message)
        begun = time.perf_counter()
        with self._stats.timed("first"):
            path, data = in_fragments(peer, message)
            self._stream = peer.transport.stream(
                path,
                data,
                timeout_s=self._deadline.remaining_s(),
                request_id=call.request_id,
            )
            # `terminate` may have come before there was a stream to cancel.
            if self._ended.done():
                self._stream.cancel()
            first = next(self._stream, None)
        if first is None:
            raise TransportError("the server ended the call without an event")
        self._stats.first_s = time.perf_counter() - begun
        return first

    def _next(self) -> bytes | None:
        """The next event's bytes; the time spent here is the server's and the wire's."""
        if self._stream is None:
            return None
        with self._stats.timed("later"):
            return next(self._stream, None)

    def _decoded(self, data: bytes) -> GenerateEvent | None:
        """A message as an event; None for an unknown kind, and for a fragment that is not the last.

        Raises:
            TransportError: more fragments than any answer of this bundle has.
        """
        with self._stats.timed_packing(UNPACK):
            message = decode_event(data)
            if not isinstance(message, Fragment):
                return message
            # Checked before the bytes are kept: a server must not decide how much memory a client
            # holds.
            if len(self._joining) + len(message.data) > self._max_joined_bytes:
                raise TransportError("the server sent more than the largest picture takes")
            self._joining += message.data
            if not message.is_last:
                return None
            joined = bytes(self._joining)
            # Before the message is read: a picture is megabytes, and would lie here once more.
            self._joining.clear()
            whole = decode_event(joined)
            return None if isinstance(whole, Fragment) else whole

    def _sleep(self, seconds: float) -> None:
        """A pause between attempts that an end cuts short."""
        wait([self._ended, self._link.closing], seconds, FIRST_COMPLETED)
        self._refuse_ended()

    def _refuse_ended(self) -> None:
        """Raise when there is nothing to wait for any more."""
        if self._ended.done():
            raise Cancelled("the run was ended from outside")
        if self._link.closing.done():
            raise Cancelled("the client was closed")


def in_fragments(peer: Peer, message: bytes) -> tuple[str, bytes | list[bytes]]:
    """The method and the message, or the messages, that carry a request up.

    Raises:
        MessageTooLarge: the server takes none so large.
    """
    if len(message) <= MAX_MESSAGE_BYTES:
        return GENERATE, message
    # 0 from servers that join nothing, so that every message over the limit is refused here.
    limit = peer.info.limits.max_joined_bytes
    if len(message) > limit:
        raise MessageTooLarge(
            f"image: the request takes {len(message)} bytes, the server takes "
            f"{max(limit, MAX_MESSAGE_BYTES)}: update it, or use a lower cut",
            field="image.image.data",
        )
    return GENERATE_FROM_FRAGMENTS, [encode_fragment(part) for part in split(message)]
