"""A time that several pieces of work share, in their order. Knows a clock; not what the work is.

What a piece leaves over goes to those after it: put the fast ones first, and the slow ones get what
there is.
"""

import time
from collections.abc import Callable


class TimeBudget:
    """So many seconds for so many pieces."""

    def __init__(
        self, seconds: float, pieces: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Begin now.

        Args:
            seconds: for all of them; infinity bounds nothing.
            pieces: how many there are.
            clock: seconds.
        """
        self._clock, self._pieces = clock, pieces
        self._until = clock() + seconds

    @property
    def left_s(self) -> float:
        """Seconds; 0 when it is over."""
        return max(0.0, self._until - self._clock())

    def share_s(self) -> float:
        """Seconds of the next piece, which is counted as begun."""
        share = self.left_s / max(1, self._pieces)
        self._pieces -= 1
        return share
