"""The time that one request may take, counted from its start.

A value with a passed-in clock. Knows nothing of what the time is spent on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from cascade.errors import DeadlineExceeded
from runtime_client.ending import Ending

Clock = Callable[[], float]
"""Seconds from some fixed moment, never going back."""
ENDED_WITHIN_S = 0.02
"""How soon a wait that nothing interrupts notices that its call was ended."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment that must not be passed."""

    allowed_s: float
    ends_at: float
    clock: Clock
    ending: Ending | None = None
    """Ends the request before its time; None where nothing does."""

    @classmethod
    def after(
        cls, allowed_s: float, clock: Clock = time.monotonic, ending: Ending | None = None
    ) -> "Deadline":
        """The deadline that many seconds from now."""
        return cls(allowed_s, clock() + allowed_s, clock, ending)

    def remaining_s(self) -> float:
        """Seconds left, more than 0.

        Raises:
            DeadlineExceeded: none are left.
            Cancelled: the request was ended from another thread.
        """
        if self.ending is not None:
            self.ending.check()
        left = self.ends_at - self.clock()
        if left <= 0:
            raise self.exceeded()
        return left

    def patience_s(self) -> float:
        """Seconds that a wait may take before it looks again; see `remaining_s`."""
        left = self.remaining_s()
        return left if self.ending is None else min(left, ENDED_WITHIN_S)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.ends_at <= self.clock()

    def earlier(self, seconds: float) -> "Deadline":
        """The deadline that many seconds before this one."""
        # Both, so that the error names the time that was really given.
        return replace(self, allowed_s=self.allowed_s - seconds, ends_at=self.ends_at - seconds)

    def exceeded(self) -> DeadlineExceeded:
        """The error for a deadline that has passed."""
        return DeadlineExceeded(
            f"the {self.allowed_s:g} s allowed for the request are over: allow more time, or "
            "ask for fewer steps"
        )
