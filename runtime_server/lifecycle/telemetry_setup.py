"""Who watches a server: metrics with the operator's port, traces, or nobody, as configured.

What is not asked for is not imported. Knows who there is; what they do with what they are told is
theirs.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import TimeoutError as Late
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from runtime_server.app.server import CascadeServer
from runtime_server.config.config import ServerConfig
from runtime_server.lifecycle.admin import AdminHandlers, AdminServer
from runtime_server.lifecycle.load_reader import read_load
from runtime_server.lifecycle.reload import ReloadAnswer, Reloader
from runtime_server.telemetry.logs import log_event
from runtime_server.telemetry.observer import CompositeObserver, NullObserver, Observer

LOOP_PATIENCE_S = 2.0
"""An event loop that does not turn for so long is not alive."""
RELOAD_PATIENCE_S = 600.0
"""How long the operator's port waits for the answer to a reload."""

if TYPE_CHECKING:
    from runtime_server.telemetry.metrics import PrometheusMetrics


class ServerTelemetry:
    """The observers of one server, and what the operator's port asks of it."""

    def __init__(self, observers: list[Observer], loop: asyncio.AbstractEventLoop) -> None:
        """Nothing to watch yet.

        Args:
            observers: who is told what happens.
            loop: the server's.
        """
        self.observer: Observer = CompositeObserver(*observers) if observers else NullObserver()
        self._loop = loop
        self.server: CascadeServer | None = None
        self._reloader: Reloader | None = None

    def watch(self, server: CascadeServer, reloader: Reloader) -> None:
        """There is a server now."""
        self.server, self._reloader = server, reloader

    def is_alive(self) -> bool:
        """Whether the event loop turns; called from any thread but its own."""
        try:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(LOOP_PATIENCE_S)
        except (Late, RuntimeError):
            return False
        return True

    def is_ready(self) -> bool:
        """Whether new requests are taken."""
        return self.server is not None and self.server.is_ready

    def reload(self) -> ReloadAnswer:
        """Reload and wait for the answer; called from any thread but the loop's."""
        if self._reloader is None:
            return ReloadAnswer(outcome="refused", bundle_id="", message="not yet started")
        reloading = asyncio.run_coroutine_threadsafe(self._reloader.reload(), self._loop)
        return reloading.result(RELOAD_PATIENCE_S)


@contextmanager
def open_telemetry(
    config: ServerConfig, loop: asyncio.AbstractEventLoop
) -> Iterator[ServerTelemetry]:
    """What the configuration asks for, for the length of a `with` block.

    Raises:
        TransportError: the operator's port cannot be listened on.
        MissingExtra: a package is not installed.
    """
    with ExitStack() as stack:
        observers: list[Observer] = []
        if config.traces != "off":
            # Imported where they are asked for, so that other servers need not load them.
            from runtime_server.telemetry.traces import TraceRecorder, open_provider  # noqa: PLC0415

            provider = open_provider(config.traces)
            stack.callback(provider.shutdown)
            observers.append(TraceRecorder(provider))
        if not config.metrics_listen:
            yield ServerTelemetry(observers, loop)
            return
        from runtime_server.telemetry.metrics import PrometheusMetrics  # noqa: PLC0415

        metrics = PrometheusMetrics()
        instruments = ServerTelemetry([*observers, metrics], loop)
        metrics.show(lambda: read_load(instruments.server))
        stack.callback(open_port(config.metrics_listen, instruments, metrics).close)
        yield instruments


def open_port(
    listen: str, instruments: ServerTelemetry, metrics: "PrometheusMetrics"
) -> AdminServer:
    """The operator's port."""
    panel = AdminHandlers(
        is_alive=instruments.is_alive,
        is_ready=instruments.is_ready,
        metrics=metrics.exposition,
        metrics_type=metrics.content_type,
        reload=instruments.reload,
    )
    port = AdminServer(listen, panel)
    log_event("operators_port", address=port.address)
    return port
