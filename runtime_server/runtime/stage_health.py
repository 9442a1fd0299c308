"""Whether each component works: one whose engine fails again and again does not, until it runs.

Requests that are wrong, cancelled or late say nothing about an engine and are not counted. Called
elsewhere: a circuit breaker's failure count. Knows outcomes; not what follows from them.
"""

import threading
from collections import Counter

from runtime_server.batching.role_key import RoleKey

AT_FAULT = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})
"""Codes by which a component says that itself is broken."""


class StageHealth:
    """Failures in a row, by engine; safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        """Everything works.

        Args:
            limit: so many failures in a row mean that an engine does not work.
        """
        self._limit = limit
        self._lock = threading.Lock()
        self._in_a_row: Counter[RoleKey] = Counter()

    def works(self, position: int) -> bool:
        """Whether a component works: all of its engines do."""
        with self._lock:
            return all(
                failures < self._limit
                for key, failures in self._in_a_row.items()
                if key.position == position
            )

    def succeeded(self, position: int) -> None:
        """A component has done its work for a request, so all of its engines work."""
        with self._lock:
            # Entries of engines that work cost nothing: they are none.
            for key in [key for key in self._in_a_row if key.position == position]:
                del self._in_a_row[key]

    def failed(self, key: RoleKey, code: str) -> None:
        """A component's work for a request ended with an error.

        Args:
            key: the engine in which it did.
            code: of the error, by name.
        """
        # A caller could take a component out of service with wrong requests otherwise.
        if code not in AT_FAULT:
            return
        with self._lock:
            self._in_a_row[key] += 1
