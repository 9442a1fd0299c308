"""The signals of a server's process, taken on its event loop until the process has ended.

A second SIGTERM may arrive after the loop is closed, while the interpreter takes engines down: a
drain that succeeded must still exit with 0. `loop.add_signal_handler` cannot promise that, because
closing the loop restores the default action, and so does Python at its end for every handler but
SIG_IGN. Knows asyncio and the operating system; no server.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_on(
    loop: asyncio.AbstractEventLoop, handlers: Mapping[int, Callable[[], object]]
) -> Iterator[None]:
    """Call handlers on a loop for the length of a block; after it the process ignores the signals.

    Args:
        loop: the one that runs, in the main thread.
        handlers: what to call for each signal number; looked up when the signal arrives.
    """
    receiver, sender = socket.socketpair()
    with receiver, sender:
        receiver.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        sender.setblocking(False)  # noqa: FBT003

        def arrived() -> None:
            # The interpreter writes one byte per signal: its number.
            for number in receiver.recv(4096):
                handlers.get(number, int)()

        before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        loop.add_reader(receiver, arrived)
        take(handlers)
        try:
            yield
        finally:
            for number in handlers:
                signal.signal(number, signal.SIG_IGN)
            loop.remove_reader(receiver)
            signal.set_wakeup_fd(before)


def take(handlers: Iterable[int]) -> None:
    """Take signals, again where a library took them since: Ray's core does when it connects.

    Args:
        handlers: numbers of signals that `signals_on` calls something for.
    """
    for number in handlers:
        signal.signal(number, written_as_byte)


def written_as_byte(number: int, frame: FrameType | None) -> None:
    """A handler of Python's own: without one the interpreter writes no byte."""
    del number, frame
