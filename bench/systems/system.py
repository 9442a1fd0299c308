"""What every system under test must answer; a load generator knows nothing else of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bench.workload import WorkItem
from cascade.types import ImageU8

OnPicture = Callable[[str, ImageU8], None]
"""Called the moment a stage's picture is there: its name, `[height, width, 3]` uint8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureOutcome:
    """What a system says of one request that it has made."""

    hops: Mapping[str, float] = field(default_factory=dict)
    """Seconds by hop, in the order of the work, as far as the system tells."""
    bytes_up: int = 0
    bytes_down: int = 0


class System(Protocol):
    """One system, opened. Requests come from several threads at once."""

    @property
    def caching(self) -> tuple[str, ...]:
        """What it says that it keeps from one request for the next; the audit holds it to that."""
        ...

    def describe(self) -> Mapping[str, object]:
        """What it is, for the record: kind, versions, choices."""
        ...

    def run(self, item: WorkItem, on_picture: OnPicture) -> PictureOutcome:
        """Make one picture, and return when it is there.

        Raises:
            CascadeError: it could not.
        """
        ...

    def processes(self) -> Mapping[str, int]:
        """Process ids by side, `client` and `server`, of those on this machine."""
        ...

    def close(self) -> None:
        """End what is in progress and release everything."""
        ...
