"""How one call of a client is ended from another thread: asked once, noticed at the next wait.

The thread that works checks it wherever it checks its time; a run that blocks on a server is
terminated too. Knows no run and no loop.
"""

import threading
from concurrent.futures import Future
from typing import Protocol

from cascade.errors import Cancelled


class Terminable(Protocol):
    """A run that blocks."""

    def terminate(self) -> None:
        """End it, from another thread; harmless when it is over or has not begun."""
        ...


class Ending:
    """The end of one call, and the runs that the call has begun."""

    def __init__(self) -> None:
        """Nothing has begun, and nothing is asked for."""
        self.asked: Future[None] = Future()
        """Done once the end was asked for: whatever waits stops waiting."""
        self._lock = threading.Lock()
        self._runs: list[Terminable] = []

    def watch(self, run: Terminable) -> None:
        """Terminate that run too."""
        with self._lock:
            self._runs.append(run)

    def ask(self) -> None:
        """End the call, from any thread; again and again until it is over.

        A run may be about to block in that very moment, so that one time is not enough.
        """
        with self._lock:
            if not self.asked.done():
                self.asked.set_result(None)
            runs = list(self._runs)
        for run in runs:
            run.terminate()

    def check(self) -> None:
        """Raise `Cancelled` once the end was asked for."""
        if self.asked.done():
            raise Cancelled("the call was ended from here")
