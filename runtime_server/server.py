"""A gRPC server around a core: options, health, reflection, TLS, signals, drain.

Knows sockets and processes; what a call means is the service's business.
"""

import asyncio
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from cascade.agreement import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES
from cascade.errors import MissingExtra, TransportError
from runtime_server.access import Access
from runtime_server.config import ServerConfig
from runtime_server.core import Core, load_core
from runtime_server.identity import Gate
from runtime_server.logs import log_event
from runtime_server.observer import NullObserver
from runtime_server.service import CascadeService
from runtime_server.tls import read_credentials
from runtime_server.warm_up import warm_up
from runtime_server.wire import SERVICE_NAME

try:
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection
except ImportError as exc:
    raise MissingExtra(
        "the server's packages are not installed: pip install 'edge-cascade[server]'"
    ) from exc

GRPC_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", 100),
    # A second server on a taken port must fail, not share its calls.
    ("grpc.so_reuseport", 0),
    # Clients may ping twice a minute; a peer that is silently gone is found within 80 s.
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)

DRAIN_POLL_S = 0.02
FLUSH_S = 2.0
"""Time for the last bytes of finished calls to leave."""


class CascadeServer:
    """One listening server; its methods are called on one event loop."""

    def __init__(self, config: ServerConfig, core: Core) -> None:
        """A server that does not listen yet.

        Args:
            config: where and how to listen, and to whom.
            core: what answers; closed by its owner, after the server has stopped.

        Raises:
            InvalidRequest: a file of keys cannot be used.
        """
        self._config = config
        self._core = core
        observer = NullObserver()
        gate = Gate(Access(config), observer)
        self._server: Any = grpc.aio.server(options=GRPC_OPTIONS, interceptors=(gate,))
        self.service = CascadeService(core, gate, observer)
        self._server.add_generic_rpc_handlers((self.service.handlers(),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if config.reflection:
            names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.address = config.listen
        """Where clients reach it; the port is the true one once it listens."""

    async def start(self) -> None:
        """Listen and report SERVING.

        Raises:
            TransportError: the address is taken or not ours.
            InvalidRequest: certificate and key cannot be read or do not belong together.
        """
        credentials = read_credentials(self._config)
        port = self._bind(credentials)
        if self._config.socket_path is None:
            self.address = f"{self._config.listen.rpartition(':')[0]}:{port}"
        await self._health.set(SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def drain(self, *, give_up: asyncio.Event | None = None) -> bool:
        """Refuse new work, report NOT_SERVING, and let what is in flight finish.

        Args:
            give_up: ends the wait when set.

        Returns:
            Whether everything finished within the grace.
        """
        await self._health.enter_graceful_shutdown()
        self._core.executor.refuse_new()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._config.drain_grace_s
        while not (idle := self._core.executor.counts.idle) and loop.time() < until:
            if give_up is not None and give_up.is_set():
                break
            await asyncio.sleep(DRAIN_POLL_S)
        return idle

    async def stop(self, grace_s: float = FLUSH_S) -> None:
        """Close every connection, the open ones after `grace_s`."""
        await self._server.stop(grace_s)
        await self.service.close()
        if self._config.socket_path is not None:
            self._config.socket_path.unlink(missing_ok=True)

    def _bind(self, credentials: Any) -> int:
        """Take the address; a Unix socket is its owner's alone."""
        path = self._config.socket_path
        target = self._config.listen if path is None else f"unix:{path.absolute()}"
        if path is not None:
            clear_stale_socket(path)
        cause = "it is in use, not of this machine, or not permitted"
        before = os.umask(0o177) if path is not None else None
        try:
            if credentials is None:
                port = self._server.add_insecure_port(target)
            else:
                port = self._server.add_secure_port(target, credentials)
        except RuntimeError as exc:
            raise TransportError(f"cannot listen on {self._config.listen}: {cause}") from exc
        finally:
            if before is not None:
                os.umask(before)
        return int(port)


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


async def serve(config: ServerConfig) -> int:
    """Load a bundle, serve it, and return when asked to stop.

    The first SIGTERM or SIGINT drains, the second ends at once.

    Args:
        config: what to serve.

    Returns:
        The exit code: 0 when everything in flight could finish.

    Raises:
        CascadeError: the server could not start.
    """
    stop, force = asyncio.Event(), asyncio.Event()

    def ask_to_stop() -> None:
        (force if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop)
    if config.until_stdin_closes:
        watch_for_eof(sys.stdin.fileno(), lambda: loop.call_soon_threadsafe(stop.set))
    core = await asyncio.to_thread(load_core, config, None, warm_up if config.warm_up else None)
    try:
        server = CascadeServer(config, core)
        await server.start()
        log_event(
            "listening",
            address=server.address,
            bundle_id=core.bundle_id,
            warm_up_s=dict(core.warmed),
        )
        await stop.wait()
        log_event("draining")
        drained = await server.drain(give_up=force)
        await server.stop(FLUSH_S if drained else 0)
        log_event("stopped", outcome="drained" if drained else "forced")
    finally:
        await asyncio.to_thread(core.close)
    return 0 if drained else 1


def watch_for_eof(descriptor: int, then: Callable[[], object]) -> None:
    """Call `then` from a thread of its own once the file descriptor has nothing more to read."""

    def read_to_end() -> None:
        while os.read(descriptor, 4096):
            pass
        then()

    threading.Thread(target=read_to_end, name="stdin", daemon=True).start()


def run_server(config: ServerConfig) -> int:
    """`serve` on an event loop of its own; the signals of the process are taken over."""
    return asyncio.run(serve(config))
