"""So many lines of the log of each kind per window of time: callers cause them at no cost.

A kind is an event with its level and how it came out; all three are from fixed sets. What is not
written is counted, and the window's end tells. Knows kinds, numbers and a passed-in clock; not what
the lines say.
"""

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from runtime_server.system.clock import Clock

WINDOW_S = 10.0
LINES = 20
"""Of one kind in a window: a line costs as much as a call that is refused."""
LINES_OF_WORK = 200
"""Of a kind that tells of a request which was taken in."""
ABOUT_WORK = frozenset({"generate", "unheard", "prompt"})
DONE = "ok"
"""The outcome of work that was done for this one line: that took longer than writing it."""
MAX_KINDS = 1000
"""More than there are; memory is bounded even if a kind were made from what a caller wrote."""


@dataclass(frozen=True, slots=True)
class LineKind:
    """What lines have in common that share a budget."""

    event: str
    level: str
    outcome: str = ""
    """How it came out: the reason, the outcome, the kind of error, the status."""

    @property
    def lines(self) -> int:
        """How many of it are written in one window."""
        if self.event not in ABOUT_WORK:
            return LINES
        return sys.maxsize if self.outcome == DONE else LINES_OF_WORK


class LogRateLimit:
    """The lines that are left of every kind; safe to use from several threads."""

    def __init__(self, clock: Clock, window_s: float = WINDOW_S) -> None:
        """A whole budget.

        Args:
            clock: monotonic seconds.
            window_s: seconds from one settling of accounts to the next.
        """
        self._clock = clock
        self._window_s = window_s
        self._lock = threading.Lock()
        self._ends_at = clock() + window_s
        self._asked: dict[LineKind, int] = {}

    def take(self, kind: LineKind) -> bool:
        """Take a line of a kind; whether it is to be written."""
        with self._lock:
            # Kinds come from fixed sets; should one ever hold a caller's text, memory stays
            # bounded.
            if kind not in self._asked and len(self._asked) >= MAX_KINDS:
                kind = LineKind("other", "warning")
            asked = self._asked[kind] = self._asked.get(kind, 0) + 1
            return asked <= kind.lines

    def settle(self) -> Mapping[LineKind, int]:
        """Begin a new window if this one is over.

        Returns:
            By kind, how many lines the old window did without; empty before its end.
        """
        with self._lock:
            now = self._clock()
            if now < self._ends_at:
                return {}
            self._ends_at = now + self._window_s
            return self._spent()

    def settle_now(self) -> Mapping[LineKind, int]:
        """Begin a new window, whether this one is over or not; what it did without."""
        with self._lock:
            self._ends_at = self._clock() + self._window_s
            return self._spent()

    def _spent(self) -> Mapping[LineKind, int]:
        asked, self._asked = self._asked, {}
        return {kind: n - kind.lines for kind, n in asked.items() if n > kind.lines}
