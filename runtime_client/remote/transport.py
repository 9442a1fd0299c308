"""One channel to a server: bytes up, bytes down, and gRPC's errors made ours.

The only file here that imports grpc. Knows method paths and sizes; not what the bytes mean. Nothing
is retried here: a call that failed before it had an effect is tried again by `retry`.
"""

import contextlib
import math
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from grpc_status import rpc_status

from cascade.errors import (
    Cancelled,
    CascadeError,
    DeadlineExceeded,
    InvalidRequest,
    MessageTooLarge,
    PermissionDenied,
    ServerBusy,
    StageError,
    TransportError,
    Unauthenticated,
    VersionMismatch,
)
from runtime_client.config import is_on_this_machine
from runtime_client.credentials import BearerToken
from wire.errors import error_of_status
from wire.limits import MAX_MESSAGE_BYTES, REQUEST_ID
from wire.service import REQUEST_ID_KEY

RECONNECT_FIRST_MS = 100
"""gRPC's own default of 1 s would let every retry within it fail without having tried."""
RECONNECT_LONGEST_MS = 2_000
CONNECT_PATIENCE_MS = 10_000
"""How long one attempt to connect may take, handshakes included; a far or busy server needs it."""
RECONNECT_PATIENCE_MS = 5_000
"""The same once a server was there: a request on a dead link waits this long too."""

PUSHBACK = "grpc-retry-pushback-ms"
"""Trailer with the milliseconds after which a retry is welcome; ours say it in RetryInfo too."""
PUSHBACK_MS = re.compile(r"[0-9]{1,9}")

TRIED_IN_VAIN = ("failed to connect", "DNS resolution failed")
"""In the details of calls for which there was no connection. The channel then fails every call at
once, with the same words and without having tried, until its own pause is over."""
DEAD_LINK = "ping timeout"
"""A new attempt to connect on the same channel would take `CONNECT_PATIENCE_MS`."""
TORN = "Stream removed ("
"""At the beginning of the details of calls whose connection broke, or whose stream was reset."""
REFUSED_STREAM = "error code 7)"
"""RFC 9113, 8.7: the stream was not processed; the server has as many as it takes."""
TOO_MANY_REQUESTS = "header with status: 429"
"""What proxies without room say in HTTP."""

DEADLINE_SLACK_S = 0.05
"""A call that breaks off so close to its deadline broke off because of it."""

CODES: dict[str, type[CascadeError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "CANCELLED": Cancelled,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "RESOURCE_EXHAUSTED": ServerBusy,
    "OUT_OF_RANGE": MessageTooLarge,
    "UNAVAILABLE": TransportError,
    "UNIMPLEMENTED": VersionMismatch,
    "INTERNAL": StageError,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
}
"""What a status without details of ours means; any other code is a plain `CascadeError`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Keepalive:
    """How a link that is dead, and does not say so, is found while a call is open.

    After so long without a byte from the server a ping is sent, and after so long without an answer
    the connection is given up. Servers must permit pings so often (`runtime_server.app.server`);
    one that does not answers GOAWAY too_many_pings, the request is resumed, and gRPC then pings
    half as often.
    """

    time_ms: int = 10_000
    timeout_ms: int = 5_000

    @classmethod
    def within(cls, seconds: float) -> "Keepalive":
        """That finds a dead link in that time: two thirds until the ping, one for the answer."""
        timeout_ms = max(1, round(seconds * 1000 / 3))
        return cls(time_ms=2 * timeout_ms, timeout_ms=timeout_ms)

    def options(self) -> list[tuple[str, int]]:
        """As channel options.

        `keepalive_timeout_ms` alone changes nothing in gRPC 1.85: what ends a connection is the
        time limit of a ping, 60 s by default. And after two pings without data of its own a client
        sends one a minute, unless told that there is no such limit.
        """
        return [
            ("grpc.keepalive_time_ms", self.time_ms),
            ("grpc.keepalive_timeout_ms", self.timeout_ms),
            ("grpc.http2.ping_timeout_ms", self.timeout_ms),
            ("grpc.http2.max_pings_without_data", 0),
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Security:
    """How the connection is protected and watched."""

    tls: bool = False
    ca_file: Path | None = None
    """PEM file; None trusts the authorities of the system."""
    client_cert: Path | None = None
    """PEM file with this side's certificate, together with `client_key`."""
    client_key: Path | None = None
    tls_name: str = ""
    """Name that the server's certificate must hold; empty is the host of the address."""
    token: BearerToken = field(default_factory=BearerToken)
    """Goes with every call."""
    keepalive: Keepalive = Keepalive()


class ByteStream:
    """The events of one call in progress, as bytes."""

    def __init__(
        self, call: Any, expires_at: float, note_failure: Callable[[TransportError], None]
    ) -> None:
        self._call = call
        self._note_failure = note_failure
        self._expires_at = expires_at
        self._cancelled = self._left = False

    def __iter__(self) -> Iterator[bytes]:
        """Itself."""
        return self

    def __next__(self) -> bytes:
        """The next message.

        Raises:
            CascadeError: the call failed, or was cancelled from here.
        """
        try:
            data: bytes = next(self._call)
        except grpc.RpcError as exc:
            error = translate(exc, cancelled=self._cancelled)
            if isinstance(error, TransportError):
                self._note_failure(error)
            raise judge_time(error, self._expires_at) from exc
        return data

    def leave(self) -> None:
        """Read no more, and let the call end: its last message has come, its status is on the way.

        A cancel now would look like a caller that gave up, to the server and to every proxy.
        """
        self._left = True
        # gRPC cancels a call that is collected before its end; what it calls back holds it.
        self._call.add_callback(partial(nothing_with, self._call))

    def cancel(self) -> None:
        """End the call, from any thread; harmless when it is over or was left."""
        if not self._left:
            self._cancelled = True
            self._call.cancel()


def nothing_with(call: Any) -> None:
    """Done with a call that has ended."""
    del call


class Posted:
    """A message on its way, whose answer nobody needs."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def wait(self, timeout_s: float) -> None:
        """Wait until it is answered or has failed, at most that long."""
        with contextlib.suppress(grpc.RpcError, grpc.FutureTimeoutError, grpc.FutureCancelledError):
            self._call.result(timeout_s)


class Transport:
    """The way to one address. Calls may overlap and come from any thread."""

    def __init__(self, address: str, security: Security) -> None:
        """Create the first channel; nothing is sent yet.

        Args:
            address: `host:port` or `unix:PATH`.
            security: TLS or none, and how a dead link is found.
        """
        self._address = address
        self._security = security
        self._lock = threading.Lock()
        self._closed = False
        # Also those that were given up, as long as a call on them lasts.
        self._channels: weakref.WeakSet[Any] = weakref.WeakSet()
        self._channel: Any = self._open(CONNECT_PATIENCE_MS)

    def unary(self, path: str, data: bytes, *, timeout_s: float, request_id: str = "") -> bytes:
        """One message there, one back.

        Args:
            path: of the method.
            data: the message.
            timeout_s: for the whole call.
            request_id: of the request that the call is about, if it is about one.

        Raises:
            CascadeError: as the server said, or as the connection failed.
        """
        expires_at = time.monotonic() + timeout_s
        channel = self._open_channel()
        try:
            reply: bytes = channel.unary_unary(path)(
                data, timeout=timeout_s, metadata=self._metadata(request_id)
            )
        except grpc.RpcError as exc:
            error = translate(exc, cancelled=self._closed)
            if isinstance(error, TransportError):
                self._give_up_if_dead(channel, error)
            raise judge_time(error, expires_at) from exc
        except ValueError as exc:
            raise Cancelled("the client was closed") from exc
        return reply

    def post(
        self, path: str, data: bytes, *, timeout_s: float, request_id: str = ""
    ) -> Posted | None:
        """Send one message and go on; None when the channel is closed. Arguments as `unary`."""
        try:
            call = (
                self._open_channel()
                .unary_unary(path)
                .future(data, timeout=timeout_s, metadata=self._metadata(request_id))
            )
        except (ValueError, Cancelled):
            return None
        return Posted(call)

    def stream(
        self, path: str, data: bytes | list[bytes], *, timeout_s: float, request_id: str = ""
    ) -> ByteStream:
        """One message there, or several, a stream back; errors come from the stream.

        Arguments as `unary`.
        """
        expires_at = time.monotonic() + timeout_s
        channel = self._open_channel()
        several = isinstance(data, list)
        try:
            start = (channel.stream_stream if several else channel.unary_stream)(path)
            call = start(
                iter(data) if several else data,
                timeout=timeout_s,
                metadata=self._metadata(request_id),
            )
        except ValueError as exc:
            raise Cancelled("the client was closed") from exc
        return ByteStream(call, expires_at, partial(self._give_up_if_dead, channel))

    def _metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Of one call."""
        # What is no id is the server's to refuse, by field; gRPC would refuse it as a header.
        named = ((REQUEST_ID_KEY, request_id),) if REQUEST_ID.fullmatch(request_id) else ()
        return (*self._security.token.metadata(), *named)

    def close(self) -> None:
        """End every call and every channel."""
        with self._lock:
            self._closed = True
            channels = list(self._channels)
        for channel in channels:
            channel.close()

    def _open_channel(self) -> Any:
        """The channel for the next call."""
        with self._lock:
            if self._closed:
                raise Cancelled("the client was closed")
            if self._channel is None:
                self._channel = self._open(RECONNECT_PATIENCE_MS)
            return self._channel

    def _give_up_if_dead(self, channel: Any, error: TransportError) -> None:
        """Let the next call have a new channel, which tries to connect at once.

        Args:
            channel: on which a call failed.
            error: how; only without any connection the channel is given up, for gRPC remembers in
                it that a server wants fewer pings.
        """
        if any(words in str(error) for words in (*TRIED_IN_VAIN, DEAD_LINK)):
            with self._lock:
                if self._channel is channel:
                    self._channel = None

    def _open(self, connect_patience_ms: int) -> Any:
        """A new channel."""
        options: list[tuple[str, int | str]] = [
            *channel_options(self._address, self._security.keepalive, connect_patience_ms)
        ]
        if self._security.tls_name:
            options.append(("grpc.ssl_target_name_override", self._security.tls_name))
        if self._security.tls:
            credentials = channel_credentials(self._security)
            channel = grpc.secure_channel(self._address, credentials, options)
        else:
            channel = grpc.insecure_channel(self._address, options)
        self._channels.add(channel)
        return channel


def channel_credentials(security: Security) -> Any:
    """TLS credentials of a channel.

    Raises:
        InvalidRequest: a file cannot be read any more.
    """
    files = (security.ca_file, security.client_key, security.client_cert)
    try:
        return grpc.ssl_channel_credentials(*(f and f.read_bytes() for f in files))
    except OSError as exc:
        raise InvalidRequest(f"tls: {exc.filename}: {exc.strerror}", field="tls") from exc


def channel_options(
    address: str, keepalive: Keepalive, connect_patience_ms: int = CONNECT_PATIENCE_MS
) -> list[tuple[str, int]]:
    """Every limit and interval of the channel, none left to gRPC's defaults."""
    options = [
        *keepalive.options(),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
        # By its name a pause, by its effect the time limit of one attempt to connect.
        ("grpc.min_reconnect_backoff_ms", connect_patience_ms),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_LONGEST_MS),
        # Otherwise channels to one address share their sockets, and one client's backoff is all's.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_on_this_machine(address):
        options.append(("grpc.enable_http_proxy", 0))
    return options


def translate(exc: grpc.RpcError, *, cancelled: bool) -> CascadeError:
    """The error of ours for one of gRPC.

    Args:
        exc: what gRPC raised.
        cancelled: whether this side ended the call.
    """
    if cancelled:
        return Cancelled("the call was ended from here")
    with contextlib.suppress(ValueError):
        status = rpc_status.from_call(exc)
        if status is not None:
            found = error_of_status(status)
            if found is not None:
                return found
    return from_code(exc.code().name, exc.details() or "", pushback_s(exc))


def pushback_s(exc: grpc.RpcError) -> float | None:
    """The pause that a server without details of ours asks for in its trailers; None if none.

    References:
        gRFC A6: what is not a number of milliseconds forbids any retry.
    """
    for key, value in exc.trailing_metadata() or ():
        if key == PUSHBACK:
            said = value if isinstance(value, str) else ""
            return int(said) / 1000 if PUSHBACK_MS.fullmatch(said) else math.inf
    return None


def judge_time(error: CascadeError, expires_at: float) -> CascadeError:
    """The error, or `DeadlineExceeded` where a call broke off because its time was over.

    At the deadline either side may be the first to give up, and gRPC reports a cancelled, removed
    or reset stream as well as its own code for it.
    """
    if isinstance(error, TransportError) and time.monotonic() > expires_at - DEADLINE_SLACK_S:
        return DeadlineExceeded("the time allowed for the request is over")
    return error


def from_code(code: str, details: str, retry_after_s: float | None = None) -> CascadeError:
    """The error for a status that carries no details of ours."""
    if code == "RESOURCE_EXHAUSTED" and "message larger than max" in details.lower():
        return MessageTooLarge(details)
    if code == "DEADLINE_EXCEEDED" or "Deadline Exceeded" in details:
        return DeadlineExceeded("the time allowed for the request is over")
    crowded = REFUSED_STREAM in details or TOO_MANY_REQUESTS in details
    if code == "RESOURCE_EXHAUSTED" or crowded:
        return ServerBusy(f"the server has no room: {details}", retry_after_s=retry_after_s)
    if code == "UNIMPLEMENTED":
        return VersionMismatch(f"the server does not speak cascade.v1: {details}")
    # What is left of a stream when its server dies or gives it up.
    broken = code == "CANCELLED" or "RST_STREAM" in details or "Stream removed" in details
    if broken or code == "UNAVAILABLE":
        words = "went away" if broken else "cannot be reached"
        gone = TransportError(f"the server {words}: {details}", retry_after_s=retry_after_s)
        gone.was_answered = not is_without_connection(details)
        return gone
    return CODES.get(code, CascadeError)(f"{code}: {details}", retry_after_s=retry_after_s)


def is_without_connection(details: str) -> bool:
    """Whether a call failed because no connection was there, or because it broke."""
    torn = details.startswith(TORN) and "RST_STREAM" not in details
    return torn or any(words in details for words in TRIED_IN_VAIN)
