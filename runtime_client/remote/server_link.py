"""The link to one server: where it is, the handshake, and the calls that have one answer.

The handshake (`GetServerInfo`) runs once, in the background, and again only after it failed. Shared
by all requests of a client, from any thread. Knows no request and no context that is kept.
"""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from typing import Any, Protocol

from cascade.codecs.tensor import pack_tensor
from cascade.errors import BundleMismatch, Cancelled, VersionMismatch
from cascade.system.owning_process import OwningProcess
from cascade.types import ContextF16
from runtime_client.config import DEFAULT_WAIT_S
from runtime_client.deadline import Deadline
from runtime_client.remote.request_slots import RequestSlots, max_open_requests
from runtime_client.remote.retry import RETRIED, Retrier, RetryBudget, RetryPolicy
from runtime_client.remote.transport import Posted, Security, Transport
from wire.cancels import decode_cancelled, encode_cancel
from wire.contexts import PutContextCall, decode_stored_context, encode_put_context
from wire.server_info import InfoCall, ServerInfo, decode_info, encode_info_request
from wire.service import CANCEL, GET_SERVER_INFO, PUT_CONTEXT, WIRE_VERSION


class ServerLocator(Protocol):
    """Where a server is, once it is there."""

    def wait_until_ready(self, allowed_s: float) -> str:
        """The address; may block up to `allowed_s` seconds, or raise `TransportError`."""
        ...


@dataclass(frozen=True, slots=True)
class NamedServer:
    """A server whose address is known."""

    address: str

    def wait_until_ready(self, allowed_s: float) -> str:
        """The address, at once."""
        del allowed_s
        return self.address


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that fits this client."""

    address: str
    transport: Transport
    info: ServerInfo
    slots: RequestSlots
    """Requests that may be in progress at once."""
    bundle_id: str
    """By which both sides know the bundle."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What the upload of one context cost, and for how long it holds."""

    handle: bytes
    lifetime_s: float
    bytes_up: int
    bytes_down: int


class ServerLink:
    """The way to one server."""

    def __init__(
        self,
        locator: ServerLocator,
        security: Security,
        bundle_ids: Sequence[str],
        timeout_s: float,
        patience_s: float = 0.0,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> None:
        """Not connected yet.

        Args:
            locator: where the server is.
            security: TLS or none.
            bundle_ids: every id that names this side's bundle.
            timeout_s: longest time for one handshake or upload.
            patience_s: how long a server that was there and is gone is asked again, if that is
                longer than one that never was.
            wait_s: how long one that never was is asked again.
        """
        self._locator = locator
        self._security = security
        self._bundle_ids = tuple(bundle_ids)
        self._timeout_s = timeout_s
        self.owner = OwningProcess()
        # Guards the handshake, the transport and whether the link is closed.
        self._lock = threading.Lock()
        # A thread of its own: queued behind uploads that wait for it, it would never start.
        self._executor = ThreadPoolExecutor(1, "cascade-handshake")
        self._handshake: Future[Peer] | None = None
        self._transport: Transport | None = None
        self._closed = False
        self.closing: Future[None] = Future()
        """Done once the link is closed: whatever waits for something here stops waiting."""
        self._first_policy = RetryPolicy(patience_s=wait_s)
        self.policy = RetryPolicy(patience_s=max(patience_s, self._first_policy.patience_s))
        """Towards a server that was there before."""
        self.budget = RetryBudget()

    def begin_handshake(self) -> "Future[Peer]":
        """Start the handshake in the background, unless it is done or under way."""
        with self._lock:
            if self._closed:
                raise Cancelled("the client was closed")
            handshake = self._handshake
            # A failure is not kept: the next request tries anew, for the server may be back.
            if handshake is None or (handshake.done() and handshake.exception() is not None):
                handshake = self._executor.submit(self._shake_hands)
                self._handshake = handshake
            return handshake

    def peer(self, deadline: Deadline) -> Peer:
        """The server, once it is known to fit.

        Raises:
            CascadeError: it does not, is not there, or the time or this client is over.
        """
        handshake = self.begin_handshake()
        ends = [] if deadline.ending is None else [deadline.ending.asked]
        waited: list[Future[Any]] = [handshake, *ends]
        wait(waited, deadline.remaining_s(), FIRST_COMPLETED)
        if not handshake.done():
            # Ended or over: the first raises here.
            deadline.remaining_s()
            raise deadline.exceeded()
        try:
            return handshake.result()
        except CancelledError as exc:
            raise Cancelled("the client was closed") from exc

    @property
    def software_version(self) -> str:
        """The server's, once it is known to fit; empty before."""
        with self._lock:
            handshake = self._handshake
        if handshake is None or not handshake.done() or handshake.cancelled():
            return ""
        return "" if handshake.exception() else handshake.result().info.software_version[:40]

    def raise_failure(self) -> None:
        """Raise what the handshake failed with, if it has failed; never waits."""
        with self._lock:
            handshake = self._handshake
        if handshake is not None and handshake.done() and not handshake.cancelled():
            handshake.result()

    def measured_info(self, call: InfoCall, *, timeout_s: float) -> tuple[ServerInfo, float]:
        """What the server tells of itself now, and the seconds that the answer took; blocks.

        Args:
            call: how far question and answer are filled up.
            timeout_s: for the whole.

        Raises:
            CascadeError: it did not answer; nothing is tried again.
        """
        deadline = Deadline.after(timeout_s)
        transport, message = self.peer(deadline).transport, encode_info_request(call)
        begun = time.perf_counter()
        reply = transport.unary(GET_SERVER_INFO, message, timeout_s=deadline.remaining_s())
        seconds = time.perf_counter() - begun
        return decode_info(reply), seconds

    def put_context(self, context: ContextF16) -> Uploaded:
        """Upload one context, `[tokens, width]` float16; blocks."""
        deadline = Deadline.after(self._timeout_s)
        peer = self.peer(deadline)
        message = encode_put_context(
            PutContextCall(bundle_id=peer.bundle_id, context=pack_tensor(context))
        )
        retrier = self._retrier(deadline, self.policy)
        reply = self._unary(peer.transport, PUT_CONTEXT, message, retrier)
        stored = decode_stored_context(reply)
        return Uploaded(stored.handle, stored.lifetime_s, len(message), len(reply))

    def cancel(self, request_id: str) -> bool:
        """End a request by its id, and have what is kept of it deleted.

        Returns:
            Whether there was anything.
        """
        deadline = Deadline.after(self._timeout_s)
        transport = self.peer(deadline).transport
        message = encode_cancel(request_id)
        retrier = self._retrier(deadline, self.policy)
        return decode_cancelled(self._unary(transport, CANCEL, message, retrier, request_id))

    def post_cancel(self, request_id: str, *, timeout_s: float) -> Posted | None:
        """Send the cancel of a request and go on; None where there is no connection."""
        with self._lock:
            transport = self._transport
        if transport is None:
            return None
        message = encode_cancel(request_id)
        return transport.post(CANCEL, message, timeout_s=timeout_s, request_id=request_id)

    def stop(self) -> None:
        """Refuse what is new, and let whatever waits here stop waiting."""
        with self._lock:
            self._closed = True
        # Its result is set once; `close` and a client that is closed twice both come here.
        if not self.closing.done():
            self.closing.set_result(None)

    def close(self) -> None:
        """End every call and release the channel; waits for the handshake to notice."""
        self.stop()
        with self._lock:
            transport = self._transport
        if transport is not None:
            transport.close()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _shake_hands(self) -> Peer:
        """Connect, and check that both sides have the same wire and the same bundle."""
        deadline = Deadline.after(self._timeout_s)
        # On the handshake's own thread: a private server takes a second to start, and nobody waits
        # here.
        address = self._locator.wait_until_ready(self._timeout_s)
        transport = self._open(address)
        try:
            message = encode_info_request()
            retrier = self._retrier(deadline, self._first_policy)
            reply = self._unary(transport, GET_SERVER_INFO, message, retrier)
            info = decode_info(reply)
            bundle_id = check_fits(info, self._bundle_ids)
        # The next handshake opens a channel of its own and forgets this one.
        except BaseException:
            transport.close()
            raise
        # New slots with each handshake: the limits are those of the server that is there now.
        return Peer(address, transport, info, RequestSlots(max_open_requests(info)), bundle_id)

    def _open(self, address: str) -> Transport:
        """A new channel that `close` can end at any time."""
        transport = Transport(address, self._security)
        with self._lock:
            if not self._closed:
                self._transport = transport
                return transport
        transport.close()
        raise Cancelled("the client was closed")

    def _retrier(self, deadline: Deadline, policy: RetryPolicy) -> Retrier:
        """For the attempts at one call."""
        return Retrier(policy, self.budget, deadline, chance=random.random)

    def _unary(
        self,
        transport: Transport,
        path: str,
        message: bytes,
        retrier: Retrier,
        request_id: str = "",
    ) -> bytes:
        """A call with one answer, repeated as often as policy and budget allow."""
        while True:
            try:
                reply = transport.unary(
                    path,
                    message,
                    timeout_s=retrier.deadline.remaining_s(),
                    request_id=request_id,
                )
            except RETRIED as error:
                pause_s = retrier.pause_after(error)
            else:
                retrier.note_success()
                return reply
            # A pause that closing cuts short; `time.sleep` would hold up the end of the client.
            wait([self.closing], pause_s)
            if self.closing.done():
                raise Cancelled("the client was closed")


def check_fits(info: ServerInfo, bundle_ids: Sequence[str]) -> str:
    """The id by which a server knows this side's bundle.

    Args:
        info: of the server.
        bundle_ids: every id that names this side's bundle, the present one first.

    Raises:
        VersionMismatch: it has another version of the wire.
        BundleMismatch: it holds another bundle.
    """
    if info.wire_version != WIRE_VERSION:
        raise VersionMismatch(
            f"the server speaks version {info.wire_version} of the wire, this client "
            f"{WIRE_VERSION}: update the older side (the server runs {info.software_version[:40]})"
        )
    # Two bundles upgraded from one may differ since: by the id from before only an older server is
    # met, which has no other, or a bundle that has no other.
    theirs = {info.bundle_id, *info.bundle_ids}
    for bundle_id in bundle_ids[:1] if info.bundle_ids else bundle_ids:
        if bundle_id in theirs:
            return bundle_id
    present = info.bundle_ids[0] if info.bundle_ids else info.bundle_id
    raise BundleMismatch(
        f"the server holds bundle {info.bundle_name[:40]!r} {present[:12]}, this client "
        f"{bundle_ids[0][:12]}: give both the same bundle",
        field="bundle_id",
    )
