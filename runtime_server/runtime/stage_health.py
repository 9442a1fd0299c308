"""Whether each component works: one whose engine fails again and again does not, until it runs.

Requests that are wrong, cancelled or late say nothing about an engine and are not counted. Knows
names and outcomes; not what follows from them.
"""

import threading
from collections import Counter

from runtime_server.telemetry.observer import Failure, Observer

AT_FAULT = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})
"""Codes by which a component says that itself is broken."""


class StageHealth(Observer):
    """Failures in a row, per component; told of them from any thread."""

    def __init__(self, limit: int) -> None:
        """Everything works.

        Args:
            limit: so many failures in a row mean that a component does not work.
        """
        self._limit = limit
        self._lock = threading.Lock()
        self._in_a_row: Counter[str] = Counter()

    def works(self, stage: str) -> bool:
        """Whether a component works."""
        return self._in_a_row[stage] < self._limit

    def stage_finished(self, stage: str, request_id: str, begun: float, seconds: float) -> None:
        """It works."""
        del request_id, begun, seconds
        with self._lock:
            self._in_a_row[stage] = 0

    def stage_failed(self, stage: str, request_id: str, begun: float, failure: Failure) -> None:
        """Perhaps it does not."""
        del request_id, begun
        if failure.code not in AT_FAULT:
            return
        with self._lock:
            self._in_a_row[stage] += 1
