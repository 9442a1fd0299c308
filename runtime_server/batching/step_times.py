"""How long things took lately: running medians, by component and by rows in one run.

Numbers in, numbers out. Knows neither clocks nor what was timed.
"""

from collections import deque
from statistics import median

MEASURED_STEPS = 64
"""Times that a median is taken over: it follows a change of load within a few requests."""

Key = tuple[int, int]
"""Position of a component, and rows."""


class StepTimes:
    """Medians of the last times under each key."""

    def __init__(self) -> None:
        self._seconds: dict[Key, deque[float]] = {}
        self._medians: dict[Key, float] = {}

    def add(self, key: Key, seconds: float) -> None:
        """Note one time."""
        times = self._seconds.setdefault(key, deque(maxlen=MEASURED_STEPS))
        times.append(seconds)
        self._medians[key] = median(times)

    def restart(self, key: Key, seconds: float) -> None:
        """Forget what is noted under a key, and begin with this."""
        self._seconds.pop(key, None)
        self.add(key, seconds)

    def seconds(self, key: Key) -> float:
        """The median; 0 before the first."""
        return self._medians.get(key, 0.0)

    def by_rows(self, position: int) -> dict[int, float]:
        """Rows to median of one component, where there is one."""
        return {rows: s for (at, rows), s in self._medians.items() if at == position}
