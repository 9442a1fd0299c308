"""What a caller wants of a placement and of a picture format that choose themselves.

One value, checked when made. Knows neither components nor servers.
"""

from dataclasses import dataclass
from typing import Literal

from cascade.errors import InvalidRequest

Objective = Literal["time", "bytes", "energy"]
LONGEST_S = 7 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What to optimise, and what must hold."""

    within_s: float | None = None
    """The picture is wanted within so many seconds; None for no limit. Where no picture without
    loss is in time, one with loss is taken, see `ClientConfig.chooses_format`."""
    least: Objective | None = None
    """What there should be least of; None is time, or bytes where there is a limit of time."""
    words_stay_here: bool = False
    """Whether the prompt must not leave this machine."""

    def __post_init__(self) -> None:
        """Check the limit."""
        if self.within_s is not None and not 0 < self.within_s <= LONGEST_S:
            raise InvalidRequest(
                f"within: expected more than 0 seconds and at most a week, got {self.within_s:g}",
                field="within",
            )

    @property
    def objective(self) -> Objective:
        """What to optimise."""
        if self.least is not None:
            return self.least
        return "time" if self.within_s is None else "bytes"
