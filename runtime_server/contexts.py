"""Text embeddings kept under the sha256 of their content, for requests that name them.

Least recently used first out under a budget of bytes, and out after a time unused. Knows arrays and
a passed-in clock; not who asks.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cascade.agreement import context_handle
from cascade.types import ContextF16

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class KeptContext:
    """One entry."""

    context: ContextF16
    used_at: float


class ContextStore:
    """The contexts of recent requests; safe to use from several threads."""

    def __init__(self, *, budget_bytes: int, lifetime_s: float, clock: Clock) -> None:
        """An empty store.

        Args:
            budget_bytes: never holds more; a context larger than all of it is not kept.
            lifetime_s: an entry is forgotten so long after its last use.
            clock: monotonic seconds.
        """
        self._budget_bytes = budget_bytes
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, KeptContext] = OrderedDict()
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes held now."""
        return self._size_bytes

    def put(self, context: ContextF16) -> bytes:
        """Keep a context; keeping it again only refreshes it.

        Args:
            context: `[tokens, width]` float16; not changed by the caller later.

        Returns:
            Its handle.
        """
        handle = context_handle(context)
        with self._lock:
            self._forget_old()
            if context.nbytes > self._budget_bytes:
                return handle
            self._drop(handle)
            while self._size_bytes + context.nbytes > self._budget_bytes:
                self._drop(next(iter(self._kept)))
            self._kept[handle] = KeptContext(context, self._clock())
            self._size_bytes += context.nbytes
        return handle

    def get(self, handle: bytes) -> ContextF16 | None:
        """The context of that handle, now the most recently used; None when it is not held."""
        with self._lock:
            self._forget_old()
            entry = self._kept.pop(handle, None)
            if entry is None:
                return None
            self._kept[handle] = KeptContext(entry.context, self._clock())
            return entry.context

    def _forget_old(self) -> None:
        """Drop what was not used for a lifetime; the order of the entries is that of their use."""
        oldest = self._clock() - self._lifetime_s
        while self._kept:
            handle, entry = next(iter(self._kept.items()))
            if entry.used_at >= oldest:
                return
            self._drop(handle)

    def _drop(self, handle: bytes) -> None:
        """Remove one entry if it is there."""
        entry = self._kept.pop(handle, None)
        if entry is not None:
            self._size_bytes -= entry.context.nbytes
