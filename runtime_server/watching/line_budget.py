"""So many lines of the log per window of time, for events that a stranger causes at no cost.

What is not written is counted and told with the next line. Knows numbers and a passed-in clock; not
what the lines say.
"""

import threading
from collections.abc import Callable


class LineBudget:
    """The lines that are left; safe to use from several threads."""

    def __init__(self, lines: int, window_s: float, clock: Callable[[], float]) -> None:
        """A whole budget.

        Args:
            lines: per window.
            window_s: its length.
            clock: monotonic seconds.
        """
        self._lines = lines
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._began_at = clock()
        self._written = 0
        self._unwritten = 0

    def take(self) -> int | None:
        """Take a line.

        Returns:
            How many went unwritten since the last one; None when this one is not to be written.
        """
        with self._lock:
            now = self._clock()
            if now - self._began_at >= self._window_s:
                self._began_at, self._written = now, 0
            if self._written >= self._lines:
                self._unwritten += 1
                return None
            self._written += 1
            unwritten, self._unwritten = self._unwritten, 0
            return unwritten
