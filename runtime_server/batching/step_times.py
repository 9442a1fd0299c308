"""How long things took lately: running medians and means, by engine and by rows in one run.

Numbers in, numbers out. Knows neither clocks nor what was timed.
"""

from collections import deque
from statistics import fmean, median

from runtime_server.batching.role_key import RoleKey

MEASURED_STEPS = 64
"""Times that a median is taken over: it follows a change of load within a few requests."""


class StepTimes:
    """Medians of the last times of each engine, by the rows that shared a run."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[RoleKey, int], deque[float]] = {}
        self._medians: dict[tuple[RoleKey, int], float] = {}

    def add(self, key: RoleKey, rows: int, seconds: float) -> None:
        """Note one time."""
        times = self._seconds.setdefault((key, rows), deque(maxlen=MEASURED_STEPS))
        # The median is kept beside the times: it is read far more often than a time is added.
        times.append(seconds)
        self._medians[key, rows] = median(times)

    def restart(self, key: RoleKey, rows: int, seconds: float) -> None:
        """Forget what is noted of so many rows, and begin with this."""
        self._seconds.pop((key, rows), None)
        self.add(key, rows, seconds)

    def seconds(self, key: RoleKey, rows: int = 1) -> float:
        """The median; 0 before the first."""
        return self._medians.get((key, rows), 0.0)

    def by_rows(self, key: RoleKey) -> dict[int, float]:
        """Rows to median of one engine, where there is one."""
        return {rows: s for (at, rows), s in self._medians.items() if at == key}

    def means(self, key: RoleKey) -> dict[int, float]:
        """Rows to mean of one engine: what throughput follows, where a median hides slow runs."""
        return {rows: fmean(times) for (at, rows), times in self._seconds.items() if at == key}
