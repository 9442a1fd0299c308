"""The sockets of the HTTP door: uvicorn on the server's own event loop, with TLS as gRPC has it.

The one file that imports uvicorn. Knows connections, certificates and times; not what is asked.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from cascade.addresses import split_address
from cascade.errors import MissingExtra, TransportError
from runtime_server.auth.tls import TlsFiles, watch_tls_files
from runtime_server.auth.watched_file import WatchedFiles
from runtime_server.config.config import ServerConfig
from runtime_server.http_door.http_errors import HttpError
from runtime_server.system.listeners import bind, find_endpoints
from wire.limits import MAX_METADATA_BYTES

try:
    import h11
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as exc:
    raise MissingExtra(
        "the HTTP door's packages are not installed: pip install 'edge-cascade[http]'"
    ) from exc

MAX_CONNECTIONS = 1000
"""One more is closed at once."""
HEAD_PATIENCE_S = 10.0
"""The head of a request that is not here whole after so long ends its connection."""
IDLE_S = 75
"""A connection without a request is kept so long: longer than a proxy keeps it, which then never
sends into one that is being closed."""
POLL_S = 0.01
NAMES = {"DNS", "URI", "email", "IP Address"}


class DoorConnection(H11Protocol):
    """One connection: its certificate, a time limit for heads, and errors in the API's form."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Note who it is from."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self.app_state = {
            **self.app_state,
            "certificate": certificate_of(transport.get_extra_info("ssl_object")),
        }
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes in."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no request."""
        self._end_with(HttpError(status=400, message=msg, code="malformed_request"))

    def _watch(self) -> None:
        """Count the time as long as a head is awaited of which there is something, or the first."""
        awaited = self.conn.their_state is h11.IDLE and (
            self.cycle is None or bool(self.conn.trailing_data[0])
        )
        if awaited and self._late is None:
            self._late = self.loop.call_later(HEAD_PATIENCE_S, self._give_up)
        elif not awaited and self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        """End a connection whose head does not come."""
        self._late = None
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            text = f"the request was not complete after {HEAD_PATIENCE_S:g} s"
            self._end_with(HttpError(status=408, message=text, code="request_timeout"))

    def _end_with(self, error: HttpError) -> None:
        """Send an error and close."""
        headers = [
            *error.headers,
            (b"content-length", b"%d" % len(error.body)),
            (b"connection", b"close"),
        ]
        with contextlib.suppress(h11.LocalProtocolError):
            response = h11.Response(status_code=error.status, headers=headers)
            for event in (response, h11.Data(data=error.body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()


class DoorServer(uvicorn.Server):
    """uvicorn inside a process that has signals of its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to the process."""
        with nullcontext():
            yield


class HttpListener:
    """The door's listening sockets; used on the server's event loop."""

    def __init__(self, config: ServerConfig, app: Any) -> None:
        """Nothing is bound yet.

        Args:
            config: where to listen, and with which certificate.
            app: an ASGI application.
        """
        self._config = config
        self.address = config.http
        """The port is the true one once it listens."""
        settings = uvicorn.Config(
            app,
            http=DoorConnection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=IDLE_S,
            h11_max_incomplete_event_size=2 * MAX_METADATA_BYTES,
        )
        settings.load()
        settings.ssl = tls_context(config)
        self._server = DoorServer(settings)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            TransportError: an address is taken, or not of this machine.
            InvalidRequest: certificate and key cannot be read.
        """
        sockets = bound(self._config.http)
        port = sockets[0].getsockname()[1]
        self.address = f"{self._config.http.rpartition(':')[0]}:{port}"
        self._serving = asyncio.create_task(self._server.serve(sockets))
        while not self._server.started:
            await asyncio.sleep(POLL_S)

    async def stop(self, grace_s: float) -> None:
        """Close every connection, those with a request after `grace_s`."""
        if self._serving is None:
            return
        self._server.should_exit = True
        await asyncio.wait({self._serving}, timeout=grace_s)
        self._server.force_exit = True
        for task in list(self._server.server_state.tasks):
            task.cancel()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        await self._serving


def bound(address: str) -> list[socket.socket]:
    """A socket at every address of a host, or none.

    Raises:
        TransportError: one cannot be bound.
    """
    host, port = split_address(address, "http")
    sockets: list[socket.socket] = []
    for endpoint in find_endpoints(host, port):
        opened = socket.socket(endpoint.family, socket.SOCK_STREAM)
        sockets.append(opened)
        try:
            bind(opened, endpoint)
        except OSError as exc:
            for each in sockets:
                each.close()
            raise TransportError(f"cannot listen on {endpoint}: {exc.strerror}") from exc
    return sockets


def tls_context(config: ServerConfig) -> ssl.SSLContext | None:
    """The door's TLS, which follows its files; None for plaintext.

    Raises:
        InvalidRequest: a file cannot be read, or the files do not belong together.
    """
    watched = watch_tls_files(config)
    if watched is None:
        return None
    last = watched.current()
    context = context_of(config, last)

    def follow(connection: Any, name: str | None, first: Any) -> None:
        nonlocal last, context
        del name, first
        last, context = newest(config, watched, (last, context))
        # A handshake that has begun goes on with the newest certificate.
        connection.context = context

    context.sni_callback = follow
    return context


def newest(
    config: ServerConfig, watched: WatchedFiles[TlsFiles], known: tuple[TlsFiles, ssl.SSLContext]
) -> tuple[TlsFiles, ssl.SSLContext]:
    """The files as they are now, and a context of them."""
    files = watched.current()
    return known if files is known[0] else (files, context_of(config, files))


def context_of(config: ServerConfig, files: TlsFiles) -> ssl.SSLContext:
    """A context with the certificate, and the authorities of clients where they are named."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    if config.tls_cert is not None:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    if files.authorities is not None:
        context.load_verify_locations(cadata=files.authorities.decode("ascii"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def certificate_of(connection: ssl.SSLObject | None) -> Mapping[str, list[bytes]]:
    """What gRPC would tell of a connection's certificate; empty where there is none."""
    told = None if connection is None else connection.getpeercert()
    if not told or connection is None:
        return {}
    names: Any = told.get("subjectAltName", ())
    subject: Any = told.get("subject", ())
    found = {
        "x509_pem_cert": [b"given"],
        "x509_subject_alternative_name": [v.encode() for kind, v in names if kind in NAMES],
        "x509_common_name": [
            value.encode() for group in subject for key, value in group if key == "commonName"
        ],
    }
    return {key: values for key, values in found.items() if values}
