"""The thread that does one call of a client for an event loop, and how the call is ended from it.

The loop waits for the thread, never the other way round but for a callback. Knows asyncio and
threads; not what the call does.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from runtime_client.ending import Ending

P = ParamSpec("P")
T = TypeVar("T")

ASK_AGAIN_S = 0.02
"""Between two times that a call is asked to end: it may only be about to block."""


class RequestThread:
    """One thread, which lasts as long as its call."""

    def __init__(self) -> None:
        """Nothing runs."""
        self.ending = Ending()
        self._pool = ThreadPoolExecutor(1, "cascade-async")
        self._running: Future[Any] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the thread works now."""
        return self._running is not None and not self._running.done()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a function returns or raises, run on the thread.

        A task that is cancelled meanwhile ends the work first, and is cancelled then: nothing runs
        on behind it.
        """
        running = self._pool.submit(function, *args, **kwargs)
        self._running = running
        try:
            return await asyncio.wrap_future(running)
        finally:
            # Only a cancellation comes here before it is done.
            await ended(running, self.ending)

    def close(self) -> None:
        """Let the thread end; called when nothing runs on it."""
        self._pool.shutdown(wait=False)


async def ended(running: "Future[T]", ending: Ending) -> None:
    """Wait until work has noticed that it is to end; a further cancellation comes out afterwards.

    Args:
        running: the work.
        ending: asked again and again.
    """
    loop, noticed = asyncio.get_running_loop(), asyncio.Event()
    running.add_done_callback(lambda _: loop.call_soon_threadsafe(noticed.set))
    again: asyncio.CancelledError | None = None
    while not running.done():
        ending.ask()
        try:
            async with asyncio.timeout(ASK_AGAIN_S):
                await noticed.wait()
        except TimeoutError:
            continue
        except asyncio.CancelledError as exc:
            again = exc
    if again is not None:
        raise again


def on_loop(callback: Callable[[T], None] | None) -> Callable[[T], None] | None:
    """A function for a thread that has a callback called on the running loop, and waits for it.

    Args:
        callback: gets a value; what it raises is raised in the thread. None stays None.
    """
    if callback is None:
        return None
    loop = asyncio.get_running_loop()

    def call(value: T) -> None:
        called: Future[None] = Future()

        def act() -> None:
            try:
                callback(value)
            # Not swallowed: it is raised on the thread that waits, and ends the call there.
            except BaseException as exc:  # noqa: BLE001
                called.set_exception(exc)
            else:
                called.set_result(None)

        loop.call_soon_threadsafe(act)
        called.result()

    return call
