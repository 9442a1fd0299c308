"""How fast the line from a server is, from the pictures that came down it.

Knows bytes and seconds; what follows from them for the encoding of pictures is one constant.
"""

import threading

ENOUGH_BYTES = 100_000
"""Fewer say more about round trips than about the line."""
SLOW_BYTES_PER_S = 375_000
"""3 Mbit/s. Below it a 1024x1024 picture is in time by being smaller: WebP of method 2 takes 240 ms
more than method 0 to encode and saves 100 kB (docs/decisions/0046-half-the-time.md)."""


class LinkSpeed:
    """The latest measure of one line; used from any thread."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._lock = threading.Lock()
        self._bytes_per_s = 0.0

    def note(self, size_bytes: int, seconds: float) -> None:
        """Take in a run's results.

        Args:
            size_bytes: that came down.
            seconds: that were spent waiting for them alone.
        """
        if size_bytes >= ENOUGH_BYTES and seconds > 0:
            with self._lock:
                # The last run alone: a device that changes its network is right after one picture.
                self._bytes_per_s = size_bytes / seconds

    @property
    def is_slow(self) -> bool:
        """Whether pictures are worth more time of encoding for fewer bytes; not until measured."""
        with self._lock:
            return 0 < self._bytes_per_s < SLOW_BYTES_PER_S
