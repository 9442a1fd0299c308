"""The time that one request may take, counted from its start.

A value with a passed-in clock. Knows nothing of what the time is spent on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from cascade.errors import DeadlineExceeded

Clock = Callable[[], float]
"""Seconds from some fixed moment, never going back."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment that must not be passed."""

    allowed_s: float
    ends_at: float
    clock: Clock

    @classmethod
    def after(cls, allowed_s: float, clock: Clock = time.monotonic) -> "Deadline":
        """The deadline that many seconds from now."""
        return cls(allowed_s, clock() + allowed_s, clock)

    def remaining_s(self) -> float:
        """Seconds left, more than 0.

        Raises:
            DeadlineExceeded: none are left.
        """
        left = self.ends_at - self.clock()
        if left <= 0:
            raise self.exceeded()
        return left

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.ends_at <= self.clock()

    def earlier(self, seconds: float) -> "Deadline":
        """The deadline that many seconds before this one."""
        # Both, so that the error names the time that was really given.
        return Deadline(self.allowed_s - seconds, self.ends_at - seconds, self.clock)

    def exceeded(self) -> DeadlineExceeded:
        """The error for a deadline that has passed."""
        return DeadlineExceeded(
            f"the {self.allowed_s:g} s allowed for the request are over: allow more time, or "
            "ask for fewer steps"
        )
