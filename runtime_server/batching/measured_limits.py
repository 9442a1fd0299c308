"""What one run of each engine may hold, brought up to date by what runs took.

Has a lock of its own, the innermost: it is taken under any other and nothing is called under it.
Knows numbers; neither engines nor who asks.
"""

import threading
from collections.abc import Mapping
from dataclasses import replace

from runtime_server.batching.batch_policy import BatchLimits, saving_s
from runtime_server.batching.role_key import RoleKey
from runtime_server.batching.step_times import StepTimes


class MeasuredLimits:
    """Limits by engine; safe to use from several threads."""

    def __init__(self, limits: Mapping[RoleKey, BatchLimits]) -> None:
        """Nothing measured yet.

        Args:
            limits: of one run, by engine.
        """
        self._lock = threading.Lock()
        self._limits = dict(limits)
        positions = sorted({key.position for key in limits})
        self._keys = {at: tuple(key for key in limits if key.position == at) for at in positions}
        self._run_s = StepTimes()

    @property
    def present(self) -> Mapping[RoleKey, BatchLimits]:
        """Every engine's; its values are replaced, never changed."""
        return self._limits

    def roles(self, position: int) -> tuple[RoleKey, ...]:
        """The engines of one component."""
        return self._keys[position]

    def max_rows(self, position: int) -> int:
        """Rows that may share a run of any engine of one component."""
        return max(self._limits[key].max_rows for key in self._keys[position])

    @property
    def caps(self) -> dict[int, int]:
        """Rows that may share a run, by position."""
        return {position: self.max_rows(position) for position in self._keys}

    def run_seconds(self, key: RoleKey) -> dict[int, float]:
        """Rows to the median seconds of a run, as far as known."""
        with self._lock:
            return self._run_s.by_rows(key)

    def mean_seconds(self, key: RoleKey) -> dict[int, float]:
        """Rows to the mean seconds of the last runs, as far as known."""
        with self._lock:
            return self._run_s.means(key)

    def note(self, key: RoleKey, rows: int, seconds: float) -> None:
        """Learn from one run in which nothing went wrong."""
        with self._lock:
            self._run_s.add(key, rows, seconds)
            self._refresh(key)

    def learn(
        self,
        key: RoleKey,
        run_s: Mapping[int, float],
        *,
        max_rows: int | None = None,
        allows_padding: bool = False,
    ) -> None:
        """Take over measurements; they count more than what was seen so far.

        Args:
            key: the engine.
            run_s: rows to seconds of one run.
            max_rows: the new limit; None leaves it.
            allows_padding: whether inputs of unequal length may share a run.
        """
        with self._lock:
            # Measured in quiet; what was seen under load is forgotten.
            for rows, seconds in run_s.items():
                self._run_s.restart(key, rows, seconds)
            limits = self._limits[key]
            self._limits[key] = replace(
                limits,
                max_rows=limits.max_rows if max_rows is None else max_rows,
                allows_padding=allows_padding,
            )
            self._refresh(key)

    def _refresh(self, key: RoleKey) -> None:
        """Bring the limits up to what is measured; under the lock."""
        known = self._run_s.by_rows(key)
        # The fewest rows are those of one request: two where guidance doubles them.
        fewest = min(known)
        self._limits[key] = replace(
            self._limits[key], run_s=known[fewest], saving_s=saving_s(known)
        )
