"""`cascade serve` as a process: start, signals, drain, exit code.

SIGTERM and SIGINT drain and, the second time, end at once; SIGHUP reloads the bundle. Knows the
server and who watches it; neither what a call means nor how it is counted.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from runtime_server.app.server import FLUSH_S, CascadeServer
from runtime_server.config.config import ServerConfig
from runtime_server.core import Core, load_core
from runtime_server.lifecycle.engine_lines import engine_words, log_hints
from runtime_server.lifecycle.http_port import make_http_port
from runtime_server.lifecycle.reload import Reloader, Reread
from runtime_server.lifecycle.signals import signals_on, take
from runtime_server.lifecycle.telemetry_setup import open_telemetry
from runtime_server.runtime.warm_up import warm_up
from runtime_server.system.memory import share_arenas
from runtime_server.telemetry.logs import log_event
from runtime_server.telemetry.server_events import Emit, ignore
from wire.limits import PRIVATE_FOLDER

if TYPE_CHECKING:
    from runtime_server.http_door.listener import HttpListener


class ShutdownSignal:
    """The wish to end: first with time for what is in flight, then at once."""

    def __init__(self) -> None:
        self.soon, self.now = asyncio.Event(), asyncio.Event()

    def ask(self) -> None:
        """One more signal."""
        (self.now if self.soon.is_set() else self.soon).set()


async def serve(config: ServerConfig, reread: Reread) -> int:
    """Load a bundle, serve it, and return when asked to stop.

    Args:
        config: what to serve.
        reread: the configuration as it is written when a reload is asked for.

    Returns:
        The exit code: 0 when everything in flight could finish.

    Raises:
        CascadeError: the server could not start.
    """
    stops = ShutdownSignal()
    loop = asyncio.get_running_loop()
    handlers: dict[int, Callable[[], object]] = {
        signal.SIGTERM: stops.ask,
        signal.SIGINT: stops.ask,
        # Its default would end the process; before there is a bundle there is nothing to reload.
        signal.SIGHUP: lambda: None,
    }
    if config.until_stdin_closes:
        watch_for_eof(sys.stdin.fileno(), lambda: loop.call_soon_threadsafe(stops.soon.set))
    # Before anything is loaded: a signal in the first seconds must end the process too.
    with signals_on(loop, handlers), open_telemetry(config, loop) as telemetry:
        load = partial(load_warm, emit=telemetry.emit)
        core = await loaded(asyncio.to_thread(load, config), stops, config)
        take(handlers)
        server = CascadeServer(config, core, telemetry.emit, telemetry.tracer)
        try:
            reloader = Reloader(server.generations, config, reread, load, telemetry.emit)
            telemetry.watch(server, reloader)
            async with http_port(
                make_http_port(config, server, telemetry.emit, telemetry.tracer)
            ) as port:
                await server.start()
                handlers[signal.SIGHUP] = Reloads(reloader).ask
                return await serve_until(stops, server, port)
        finally:
            await server.close()


@asynccontextmanager
async def http_port(port: "HttpListener | None") -> AsyncIterator["HttpListener | None"]:
    """Listen on a port for the length of a block, where there is one."""
    if port is None:
        yield None
        return
    await port.start()
    log_event("http_port", address=port.address)
    try:
        yield port
    finally:
        await port.stop(0)


async def loaded(
    loading: Coroutine[None, None, Core], stops: ShutdownSignal, config: ServerConfig
) -> Core:
    """The core, once it is loaded; asked to stop before that, the process ends at once.

    Nothing is in flight then, and nothing can interrupt an engine that compiles a graph.
    """
    task = asyncio.create_task(loading)
    asked = asyncio.create_task(stops.soon.wait())
    await asyncio.wait([task, asked], return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        log_event("stopped", outcome="while loading")
        leave_no_folder(config)
        # Without running exit handlers: a thread is inside an engine that cannot be interrupted.
        os._exit(0)
    asked.cancel()
    return task.result()


def leave_no_folder(config: ServerConfig) -> None:
    """Remove the folder that a client made for this server alone: it may be gone, and killed."""
    path = config.socket_path
    if config.until_stdin_closes and path and path.parent.name.startswith(PRIVATE_FOLDER):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()


async def serve_until(
    stops: ShutdownSignal, server: CascadeServer, port: "HttpListener | None"
) -> int:
    """From the first call to the end; returns the exit code."""
    core = server.generations.present.core
    log_event(
        "listening",
        address=server.address,
        bundle_id=core.bundle_id,
        warm_up_s=dict(core.executor.warmed),
        engines=engine_words(core),
        untuned=list(core.plan.untuned),
    )
    log_hints(core)
    core.executor.measure_beside()
    await stops.soon.wait()
    log_event("draining")
    drained = await server.drain(give_up=stops.now)
    grace_s = FLUSH_S if drained else 0
    if port is not None:
        # Before the requests are ended, so that finished answers still leave.
        await port.stop(grace_s)
    await server.stop(grace_s)
    log_event("stopped", outcome="drained" if drained else "forced")
    return 0 if drained else 1


def load_warm(config: ServerConfig, emit: Emit = ignore) -> Core:
    """A core that is ready for requests, warmed up where the configuration says so."""
    return load_core(config, None, warm_up if config.warm_up else None, emit)


class Reloads:
    """Reloads asked for by a signal, which waits for no answer."""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader
        self._tasks: set[asyncio.Task[object]] = set()

    def ask(self) -> None:
        """Begin one; its outcome is in the log."""
        task: asyncio.Task[object] = asyncio.create_task(self._reloader.reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def watch_for_eof(descriptor: int, then: Callable[[], object]) -> None:
    """Call `then` from a thread of its own once the file descriptor has nothing more to read."""

    def read_to_end() -> None:
        while os.read(descriptor, 4096):
            pass
        then()

    threading.Thread(target=read_to_end, name="stdin", daemon=True).start()


def run_server(config: ServerConfig, reread: Reread) -> int:
    """`serve` on an event loop of its own; the signals of the process are taken over."""
    share_arenas()
    try:
        return asyncio.run(serve(config, reread))
    finally:
        leave_no_folder(config)
