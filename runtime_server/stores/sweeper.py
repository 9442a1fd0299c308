"""Gives back what is too old even if nobody uses the stores any more.

A store forgets at its next use; after the last one there is none. Lives on one event loop.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

LONGEST_PAUSE_S = 30.0
SHORTEST_PAUSE_S = 0.05


class Expiring(Protocol):
    """A store whose values have a lifetime."""

    @property
    def count(self) -> int:
        """Values held now."""
        ...

    def forget_old(self) -> None:
        """Give back what was not used for a lifetime."""
        ...


class Sweeper:
    """Sweeps some stores for as long as they hold anything; used on one event loop."""

    def __init__(self, stores: Callable[[], Sequence[Expiring]], lifetime_s: float) -> None:
        """At rest.

        Args:
            stores: looked up at every sweep: a bundle's successor takes over what is kept.
            lifetime_s: of a value; a quarter of it passes between two sweeps.
        """
        self._stores = stores
        self._pause_s = min(max(lifetime_s / 4, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
        self._timer: asyncio.TimerHandle | None = None

    def sweep_later(self) -> None:
        """Sweep after a pause, and again until the stores are empty."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._sweep)

    def close(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        self._timer = None
        for store in self._stores():
            store.forget_old()
        # No timer in an empty server: nothing would ever end it.
        if any(store.count for store in self._stores()):
            self.sweep_later()
