"""One request of a run: when it was due, sent and done, what it made, and where the time went.

Values alone; measures nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

RESIDUAL = "residual"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One request. Times are seconds from the begin of its window."""

    number: int
    """Of its item in the workload."""
    due_s: float
    """When it should have been sent; in a closed loop, when it was."""
    sent_s: float
    done_s: float | None
    """When the last picture was there and written; None where it failed."""
    pictures_s: Mapping[str, float] = field(default_factory=dict)
    """When each stage's picture was there, in order."""
    hops: Mapping[str, float] = field(default_factory=dict)
    """Seconds by hop in the order of the work; the last is `residual`, which may be negative:
    two processes measured."""
    bytes_up: int = 0
    bytes_down: int = 0
    hashes: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the pixels of each stage's picture."""
    error: str = ""
    """The reason, as in `cascade.errors`; empty where the picture came."""

    @property
    def latency_s(self) -> float:
        """From when it was due to its end; infinity for a failure."""
        return float("inf") if self.done_s is None else self.done_s - self.due_s

    @property
    def send_lag_s(self) -> float:
        """How late it was sent: the load generator's fault, not the system's."""
        return self.sent_s - self.due_s

    def picture_latency_s(self, position: int) -> float | None:
        """From when it was due to one picture, by its position; None where there is none."""
        times = list(self.pictures_s.values())
        return times[position] - self.due_s if -len(times) <= position < len(times) else None


def with_residual(hops: Mapping[str, float], total_s: float) -> dict[str, float]:
    """Hops with what they leave unexplained of a total, as the last."""
    found = dict(hops)
    found[RESIDUAL] = total_s - sum(found.values())
    return found
