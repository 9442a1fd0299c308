"""A gRPC server around a core: options, interceptors, health, reflection, TLS, drain.

Knows sockets; what a call means is the service's business, signals are the process's.
"""

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

from cascade.addresses import split_address
from cascade.errors import TransportError
from runtime_server.app.auth_interceptor import AuthInterceptor
from runtime_server.app.bundle_generations import BundleGenerations
from runtime_server.app.call_metrics import CallMetrics
from runtime_server.app.credentials import server_credentials
from runtime_server.app.foreign_messages import ForeignMessages
from runtime_server.app.grpc_aio import (
    REFLECTION_SERVICE,
    add_port,
    add_reflection,
    add_service,
    make_server,
)
from runtime_server.app.health_board import HEALTH_SERVICE, HealthBoard
from runtime_server.app.service import CascadeService
from runtime_server.auth.authenticator import Authenticator
from runtime_server.config.config import ServerConfig
from runtime_server.core import Core
from runtime_server.system.listeners import find_endpoints
from runtime_server.telemetry.call_tracer import NO_TRACER, CallTracer
from runtime_server.telemetry.logs import LogLevel, log_event
from runtime_server.telemetry.server_events import Emit, ignore
from wire.limits import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES
from wire.service import SERVICE_NAME

MIN_PING_INTERVAL_MS = 5_000
"""A client that pings more often is told to calm down, and loses its connection."""

GRPC_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", 100),
    # A second server on a taken port must fail, not share its calls.
    ("grpc.so_reuseport", 0),
    # Our clients ping every 10 s while a call is silent; the rest is for clocks and busy machines.
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    # A peer that is silently gone is found within 80 s; the second time limit is the one that ends
    # a connection (gRPC 1.85), and 60 s where it is not set.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
)

DRAIN_POLL_S = 0.02
WATCH_POLL_S = 0.1
FLUSH_S = 2.0
"""Time for the last bytes of finished calls to leave."""


class CascadeServer:
    """One listening server; its methods are called on one event loop."""

    def __init__(
        self,
        config: ServerConfig,
        core: Core,
        emit: Emit = ignore,
        tracer: CallTracer = NO_TRACER,
    ) -> None:
        """A server that does not listen yet.

        Args:
            config: where and how to listen, and to whom.
            core: of the first bundle; ready to answer.
            emit: where what happens here is told; the core has its own.
            tracer: begins the spans of calls.

        Raises:
            InvalidRequest: a file of keys cannot be used.
        """
        self._config = config
        self.generations = BundleGenerations(core, emit)
        self.authentication = AuthInterceptor(Authenticator(config), emit)
        """Says who a call is from, whichever door it comes by."""
        interceptors = (CallMetrics(emit, tracer), self.authentication, ForeignMessages())
        self._server: Any = make_server(GRPC_OPTIONS, [each.intercept for each in interceptors])
        self.service = CascadeService(self.generations, self.authentication, emit)
        add_service(self._server, SERVICE_NAME, self.service.methods())
        self._health = HealthBoard(self._server)
        self._watching: asyncio.Task[None] | None = None
        self._leaving = False
        if config.reflection:
            add_reflection(self._server, (SERVICE_NAME, HEALTH_SERVICE, REFLECTION_SERVICE))
        self.address = config.listen
        """Where clients reach it; the port is the true one once it listens."""

    @property
    def is_ready(self) -> bool:
        """Whether new requests are taken, and every component works."""
        return not self._leaving and all(self.generations.present.core.stages_work().values())

    async def start(self) -> None:
        """Listen and report SERVING.

        Raises:
            TransportError: one of the addresses is taken or not ours.
            InvalidRequest: certificate and key cannot be read or do not belong together.
        """
        credentials = server_credentials(self._config)
        port = self._bind(credentials)
        if self._config.socket_path is None:
            self.address = f"{self._config.listen.rpartition(':')[0]}:{port}"
        await self._health.show(self.generations.present.core.stages_work())
        await self._server.start()
        self._watching = asyncio.create_task(self._watch())

    async def drain(self, *, give_up: asyncio.Event | None = None) -> bool:
        """Refuse new work, report NOT_SERVING, and let what is in flight finish.

        Args:
            give_up: ends the wait when set.

        Returns:
            Whether everything finished within the grace.
        """
        self._leaving = True
        # First: a load balancer that looks now sends nothing more.
        await self._health.leave()
        self.generations.refuse_new()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._config.drain_grace_s
        while not (idle := self.generations.are_idle) and loop.time() < until:
            if give_up is not None and give_up.is_set():
                break
            await asyncio.sleep(DRAIN_POLL_S)
        return idle

    async def stop(self, grace_s: float = FLUSH_S) -> None:
        """Close every connection, the open ones after `grace_s`; the cores stay."""
        if self._watching is not None:
            self._watching.cancel()
        await self._server.stop(grace_s)
        await self.generations.close_requests()
        if self._config.socket_path is not None:
            self._config.socket_path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Release every core."""
        await self.generations.close()

    async def _watch(self) -> None:
        """Keep the health board true, and try components that do not work."""
        shown: dict[str, bool] = {}
        tried_at = 0.0
        loop = asyncio.get_running_loop()
        while not self._leaving:
            core = self.generations.present.core
            works = core.stages_work()
            if works != shown:
                await self._health.show(works)
                for name in sorted(name for name in works if works[name] != shown.get(name, True)):
                    level: LogLevel = "info" if works[name] else "error"
                    log_event("stage_health", level=level, stage=name, works=int(works[name]))
                shown = works
            broken = [name for name, work in works.items() if not work]
            # Requests that use it are refused by nobody; without a trial it would stay broken in an
            # idle server.
            if broken and loop.time() - tried_at >= self._config.stage_probe_s:
                tried_at = loop.time()
                for name in broken:
                    await core.probe(name)
            await asyncio.sleep(WATCH_POLL_S)

    def _bind(self, credentials: Any) -> int:
        """Take every address, or none; returns the port, 0 for a Unix socket."""
        path = self._config.socket_path
        if path is None:
            host, port = split_address(self._config.listen, "listen")
            for endpoint in find_endpoints(host, port):
                port = add_port(self._server, str(endpoint), credentials)
            return port
        clear_stale_socket(path)
        # A Unix socket is its owner's alone.
        before = os.umask(0o177)
        try:
            return add_port(self._server, f"unix:{path.absolute()}", credentials)
        finally:
            os.umask(before)


def clear_stale_socket(path: Path) -> None:
    """Remove a socket that nobody listens on any more.

    Raises:
        TransportError: another server listens there, or it is some other file.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise TransportError(f"cannot listen on {path}: a file of that name exists")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise TransportError(f"cannot listen on {path}: another server does")
