"""Noise that is drawn before it is needed, beside the engine of the stage before.

The noise of a large picture takes a single core several per cent of its stage's time, and follows
from the request alone. Drawn early or late it is the same to the bit: it has an address, not a
state. Knows addresses; neither stages nor requests.
"""

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod

from cascade.numerics.noise import normals
from cascade.types import Array

WORTH_VALUES = 1 << 19
"""Fewer are drawn in less time than another thread is worth."""
KEPT = 4
"""Draws that may wait to be taken, 12 MB each at 1024 pixels; the oldest is forgotten."""

NoiseKey = tuple[tuple[int, ...], tuple[tuple[str, int], ...]]


class NoiseAhead:
    """Draws of one stage, for any number of requests; used from any thread."""

    def __init__(self) -> None:
        """No thread is started before the first draw."""
        self._lock = threading.Lock()
        self._draws: OrderedDict[NoiseKey, Future[Array]] = OrderedDict()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def begin(self, shape: tuple[int, ...], **address: int) -> None:
        """Draw in the background, if that is worth it; returns at once.

        Args:
            shape: see `normals`.
            **address: see `normals`.
        """
        key = (shape, tuple(sorted(address.items())))
        with self._lock:
            if self._closed or prod(shape) < WORTH_VALUES or key in self._draws:
                return
            if self._pool is None:
                # One: draws fight for the interpreter, and what comes first is needed first.
                self._pool = ThreadPoolExecutor(1, "cascade-noise")
            self._draws[key] = self._pool.submit(normals, shape, **address)
            if len(self._draws) > KEPT:
                self._draws.popitem(last=False)[1].cancel()

    def normals(self, shape: tuple[int, ...], **address: int) -> Array:
        """The noise at an address, float32 of that shape; see `cascade.numerics.noise.normals`.

        Raises:
            InvalidRequest: the seed or the image index is out of range.
        """
        with self._lock:
            drawn = self._draws.pop((shape, tuple(sorted(address.items()))), None)
        # One that still waits for the thread is drawn here, and sooner.
        if drawn is None or drawn.cancel():
            return normals(shape, **address)
        return drawn.result()

    @property
    def waiting(self) -> int:
        """Draws that were begun and not taken."""
        with self._lock:
            return len(self._draws)

    def close(self) -> None:
        """Forget everything, and end the thread; a second call is harmless."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
            self._draws.clear()
        if pool is not None:
            pool.shutdown(cancel_futures=True)
