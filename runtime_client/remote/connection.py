"""One server as a client knows it: where it is, that it fits, and which contexts it holds.

The handshake happens once, in the background, and again only after it failed. Shared by all
requests of a client, from any thread. Knows no request.
"""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from cascade.codecs.tensor import pack_tensor
from cascade.errors import BundleMismatch, Cancelled, VersionMismatch
from cascade.system.owning_process import OwningProcess
from cascade.types import ContextF16
from runtime_client.remote.context_uploads import ContextUploads, Uploaded
from runtime_client.remote.deadline import Deadline
from runtime_client.remote.pending_cancels import PENDING_CANCEL_S, PendingCancels
from runtime_client.remote.places import Places, max_open_requests
from runtime_client.remote.retry import Pacing, RetryBudget, RetryPolicy, with_retries
from runtime_client.remote.transport import Posted, Security, Transport
from wire.cancels import decode_cancelled, encode_cancel
from wire.contexts import PutContextCall, decode_stored_context, encode_put_context
from wire.server_info import ServerInfo, decode_info, encode_info_request
from wire.service import CANCEL, GET_SERVER_INFO, PUT_CONTEXT, WIRE_VERSION

UPLOAD_THREADS = 4
"""Contexts that may be on their way at once."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that fits this client."""

    address: str
    transport: Transport
    info: ServerInfo
    places: Places
    """Requests that may be inside at once."""


class Connection:
    """The way to one server."""

    def __init__(
        self,
        locate: Callable[[], str],
        security: Security,
        bundle_id: str,
        timeout_s: float,
        patience_s: float = 0.0,
    ) -> None:
        """Not connected yet.

        Args:
            locate: gives the address; may block until the server is there, or raise.
            security: TLS or none.
            bundle_id: what this side holds.
            timeout_s: longest time for one handshake or upload.
            patience_s: how long a server that was there and is gone is asked again, if that is
                longer than one that never was.
        """
        self._locate = locate
        self._security = security
        self._bundle_id = bundle_id
        self._timeout_s = timeout_s
        self.owner = OwningProcess()
        self._lock = threading.Lock()
        # Apart: a handshake queued behind uploads that wait for it would never start.
        self._greeter = ThreadPoolExecutor(1, "cascade-greet")
        self._uploader = ThreadPoolExecutor(UPLOAD_THREADS, "cascade-upload")
        self._greeting: Future[Peer] | None = None
        self._transport: Transport | None = None
        self._closed = False
        self.closing: Future[None] = Future()
        """Done once it is closed: whoever waits for something here stops waiting."""
        self._first_policy = RetryPolicy()
        self.policy = RetryPolicy(patience_s=max(patience_s, self._first_policy.patience_s))
        """Towards a server that was there before."""
        self.budget = RetryBudget()
        self.pending_cancels = PendingCancels(self._post_cancel)
        self.contexts = ContextUploads(self._uploader, self._put_context, time.monotonic)

    def begin(self) -> "Future[Peer]":
        """Start the handshake in the background, unless it is done or under way."""
        with self._lock:
            if self._closed:
                raise Cancelled("the client was closed")
            greeting = self._greeting
            if greeting is None or (greeting.done() and greeting.exception() is not None):
                greeting = self._greeter.submit(self._greet)
                self._greeting = greeting
            return greeting

    @property
    def software_version(self) -> str:
        """The server's, once it is known to fit; empty before."""
        with self._lock:
            greeting = self._greeting
        if greeting is None or not greeting.done() or greeting.cancelled() or greeting.exception():
            return ""
        return greeting.result().info.software_version[:40]

    def raise_failure(self) -> None:
        """Raise what the handshake failed with, if it has failed; never waits."""
        with self._lock:
            greeting = self._greeting
        if greeting is not None and greeting.done() and not greeting.cancelled():
            greeting.result()

    def close(self) -> None:
        """End every call and release the channel; waits for the background work to notice."""
        with self._lock:
            self._closed = True
            transport = self._transport
        if not self.closing.done():
            self.closing.set_result(None)
        self.pending_cancels.close()
        if transport is not None:
            transport.close()
        self._greeter.shutdown(wait=True, cancel_futures=True)
        self._uploader.shutdown(wait=True, cancel_futures=True)

    def _greet(self) -> Peer:
        """Connect, and check that both sides speak the same and hold the same."""
        deadline = Deadline.after(self._timeout_s)
        address = self._locate()
        transport = self._open(address)

        def ask() -> bytes:
            return transport.unary(
                GET_SERVER_INFO, encode_info_request(), timeout_s=deadline.remaining_s()
            )

        try:
            reply = self._retried(ask, deadline, self._first_policy)
            info = decode_info(reply)
            check_fits(info, self._bundle_id)
        except BaseException:
            transport.close()
            raise
        return Peer(address, transport, info, Places(max_open_requests(info)))

    def _open(self, address: str) -> Transport:
        """A new channel that `close` can end at any time."""
        transport = Transport(address, self._security)
        with self._lock:
            if not self._closed:
                self._transport = transport
                return transport
        transport.close()
        raise Cancelled("the client was closed")

    def _retried(
        self, call: Callable[[], bytes], deadline: Deadline, policy: RetryPolicy | None = None
    ) -> bytes:
        """A call in the background, tried as often as policy and budget allow."""
        return with_retries(
            call,
            policy=policy or self.policy,
            budget=self.budget,
            deadline=deadline,
            pacing=Pacing(sleep=self._sleep, chance=random.random),
        )

    def _sleep(self, seconds: float) -> None:
        """A pause between attempts that `close` cuts short."""
        wait([self.closing], seconds)
        if self.closing.done():
            raise Cancelled("the client was closed")

    def cancel(self, request_id: str) -> bool:
        """End a request by its id, and have what is kept of it forgotten.

        Returns:
            Whether there was anything.
        """
        deadline = Deadline.after(self._timeout_s)
        peer = self.greeted(deadline)
        message = encode_cancel(request_id)

        def ask() -> bytes:
            return peer.transport.unary(CANCEL, message, timeout_s=deadline.remaining_s())

        return decode_cancelled(self._retried(ask, deadline))

    def _post_cancel(self, request_id: str) -> Posted | None:
        """Tell the server, if there is one, that nobody wants a request any more."""
        with self._lock:
            transport = self._transport
        if transport is None:
            return None
        message = encode_cancel(request_id)
        return transport.post(CANCEL, message, timeout_s=PENDING_CANCEL_S)

    def greeted(self, deadline: Deadline) -> Peer:
        """The server, once it is known to fit.

        Raises:
            CascadeError: it does not, is not there, or the time or this client is over.
        """
        try:
            return self.begin().result(timeout=deadline.remaining_s())
        except TimeoutError as exc:
            raise deadline.exceeded() from exc
        except CancelledError as exc:
            raise Cancelled("the client was closed") from exc

    def _put_context(self, context: ContextF16) -> Uploaded:
        """Upload one context; runs in the background."""
        deadline = Deadline.after(self._timeout_s)
        peer = self.greeted(deadline)
        message = encode_put_context(
            PutContextCall(bundle_id=self._bundle_id, context=pack_tensor(context))
        )

        def put() -> bytes:
            return peer.transport.unary(PUT_CONTEXT, message, timeout_s=deadline.remaining_s())

        reply = self._retried(put, deadline)
        stored = decode_stored_context(reply)
        return Uploaded(stored.handle, stored.lifetime_s, len(message), len(reply))


def check_fits(info: ServerInfo, bundle_id: str) -> None:
    """Raise the typed error for a server that must not be used."""
    if info.wire_version != WIRE_VERSION:
        raise VersionMismatch(
            f"the server speaks version {info.wire_version} of the wire, this client "
            f"{WIRE_VERSION}: update the older side (the server runs {info.software_version[:40]})"
        )
    if info.bundle_id != bundle_id:
        raise BundleMismatch(
            f"the server holds bundle {info.bundle_name[:40]!r} {info.bundle_id[:12]}, this client "
            f"{bundle_id[:12]}: give both the same bundle",
            field="bundle_id",
        )
