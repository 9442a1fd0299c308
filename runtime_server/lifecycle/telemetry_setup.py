"""Where a server's events go: to metrics with the operator's port, to traces, or nowhere.

What the configuration does not ask for is not imported. Knows what there is; what each makes of an
event is its own.
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
from runtime_server.telemetry.call_tracer import NO_TRACER, CallTracer
from runtime_server.telemetry.logs import log_event
from runtime_server.telemetry.server_events import Emit, emit_to

LOOP_PATIENCE_S = 2.0
"""An event loop that does not turn for so long is not alive."""
RELOAD_PATIENCE_S = 600.0
"""How long the operator's port waits for the answer to a reload."""

if TYPE_CHECKING:
    from runtime_server.telemetry.metrics import PrometheusMetrics
    from runtime_server.telemetry.traces import TraceRecorder


class ServerTelemetry:
    """Where the events of one server go, and what the operator's port asks of it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        metrics: "PrometheusMetrics | None",
        traces: "TraceRecorder | None",
    ) -> None:
        """No server yet.

        Args:
            loop: the server's.
            metrics: counts events; None counts nothing.
            traces: makes spans of them; None makes none.
        """
        self.emit: Emit = emit_to(tuple(each for each in (traces, metrics) if each is not None))
        self.tracer: CallTracer = NO_TRACER if traces is None else traces
        self._metrics = metrics
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

    def exposition(self) -> bytes:
        """The metrics, with what is inside now; called from any thread."""
        return b"" if self._metrics is None else self._metrics.exposition(read_load(self.server))

    def reload(self) -> ReloadAnswer:
        """Reload and wait for the answer; called from any thread but the loop's."""
        if self._reloader is None:
            return ReloadAnswer(outcome="refused", bundle_id="", message="not yet started")
        # On the server's loop, which owns the generations; this thread only waits.
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
        traces = metrics = None
        if config.traces != "off":
            # Imported where they are asked for, so that other servers need not load them.
            from runtime_server.telemetry.traces import TraceRecorder, open_provider  # noqa: PLC0415

            provider = open_provider(config.traces)
            stack.callback(provider.shutdown)
            traces = TraceRecorder(provider)
        if config.metrics_listen:
            from runtime_server.telemetry.metrics import PrometheusMetrics  # noqa: PLC0415

            metrics = PrometheusMetrics()
        telemetry = ServerTelemetry(loop, metrics, traces)
        if metrics is not None:
            port = open_port(config.metrics_listen, telemetry, metrics.content_type)
            stack.callback(port.close)
        yield telemetry


def open_port(listen: str, telemetry: ServerTelemetry, metrics_type: str) -> AdminServer:
    """The operator's port.

    Args:
        listen: `host:port`.
        telemetry: what it shows and does.
        metrics_type: the content type of the metrics.
    """
    handlers = AdminHandlers(
        is_alive=telemetry.is_alive,
        is_ready=telemetry.is_ready,
        metrics=telemetry.exposition,
        metrics_type=metrics_type,
        reload=telemetry.reload,
    )
    port = AdminServer(listen, handlers)
    log_event("operators_port", address=port.address)
    return port
