"""The operator's HTTP port: /livez, /readyz, /metrics, and POST /reload.

Plain HTTP for this machine. Where scrapers from elsewhere are let in, they may read; what changes
the server is for callers from this machine alone. Knows HTTP; what it shows comes from functions.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cascade.addresses import is_loopback, split_address
from cascade.errors import TransportError
from runtime_server.lifecycle.reload import ReloadAnswer
from runtime_server.system.listeners import Endpoint, bind, find_endpoints
from runtime_server.telemetry.logs import log_event

READ_PATIENCE_S = 5.0
"""A connection that sends nothing for so long is closed."""
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, kw_only=True, slots=True)
class AdminHandlers:
    """What the port shows and does; every function may be called from any thread."""

    is_alive: Callable[[], bool]
    """Whether the server's event loop still turns."""
    is_ready: Callable[[], bool]
    metrics: Callable[[], bytes]
    metrics_type: str
    reload: Callable[[], ReloadAnswer]


class AdminServer:
    """One port at every address of its host, served by threads of its own."""

    def __init__(self, listen: str, handlers: AdminHandlers) -> None:
        """Listen, and answer from now on.

        Args:
            listen: `host:port`; port 0 takes a free one.
            handlers: what is shown.

        Raises:
            TransportError: one of the addresses is taken or not ours.
        """
        host, port = split_address(listen, "metrics_listen")
        endpoints = find_endpoints(host, port)
        self._servers: list[AdminHTTPServer] = []
        try:
            for endpoint in endpoints:
                self._servers.append(AdminHTTPServer(endpoint, handlers))
        except OSError as exc:
            self._close_sockets()
            raise TransportError(f"cannot listen on {endpoint}: {exc.strerror}") from exc
        self.address = f"{listen.rpartition(':')[0]}:{self._servers[0].server_address[1]}"
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.05,), name="admin", daemon=True)
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.shutdown()
        self._close_sockets()
        for thread in self._threads:
            thread.join()

    def _close_sockets(self) -> None:
        for server in self._servers:
            server.server_close()


class AdminHTTPServer(ThreadingHTTPServer):
    """The standard library's server, with the handlers at hand for its handlers."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, endpoint: Endpoint, handlers: AdminHandlers) -> None:
        self.handlers = handlers
        self.address_family = endpoint.family
        self._endpoint = endpoint
        super().__init__((endpoint.host, endpoint.port), AdminRequestHandler)

    def server_bind(self) -> None:
        """Bind as every listener here does; the standard library would look up this host's name."""
        bind(self.socket, self._endpoint)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self._endpoint.host, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that is gone is no news; the standard library would print a traceback."""


class AdminRequestHandler(BaseHTTPRequestHandler):
    """One connection."""

    server: AdminHTTPServer
    timeout = READ_PATIENCE_S
    server_version = "cascade"
    sys_version = ""

    def do_GET(self) -> None:
        """Show something."""
        handlers = self.server.handlers
        if self.path == "/livez":
            self._state(working=handlers.is_alive(), name="alive")
        elif self.path == "/readyz":
            self._state(working=handlers.is_ready(), name="ready")
        elif self.path == "/metrics":
            self._answer(HTTPStatus.OK, handlers.metrics(), handlers.metrics_type)
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"/livez /readyz /metrics, POST /reload\n", TEXT)

    def do_POST(self) -> None:
        """Do something: only for programs on this machine, which a page in a browser is not."""
        if self.path != "/reload":
            self._answer(HTTPStatus.NOT_FOUND, b"POST /reload\n", TEXT)
        # A page in a browser on this machine comes from loopback as well, but says its origin.
        elif not is_loopback(self.client_address[0]) or "Origin" in self.headers:
            self._answer(HTTPStatus.FORBIDDEN, b"only from this machine\n", TEXT)
        else:
            answer = self.server.handlers.reload()
            refused = answer.outcome == "refused"
            code = HTTPStatus.UNPROCESSABLE_ENTITY if refused else HTTPStatus.OK
            self._answer(code, json.dumps(asdict(answer)).encode() + b"\n", JSON)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """A line per scrape helps nobody; what was refused does."""
        del format
        if args and str(args[1])[:1] not in ("2", "("):
            log_event("admin", level="debug", status=str(args[1])[:3])

    def _state(self, *, working: bool, name: str) -> None:
        """Yes or no, as probes want it."""
        if working:
            self._answer(HTTPStatus.OK, f"{name}\n".encode(), TEXT)
        else:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"not {name}\n".encode(), TEXT)

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        """One response."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
