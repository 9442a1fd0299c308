"""What happens while a picture is made, in order, as values.

The same events come from a stage on this machine, from a remote one and from the client. Knows no
transport and no screen.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cascade.precision import Precision
from cascade.request import Handoff
from cascade.types import ImageU8


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took the request."""

    queue_position: int
    """Requests ahead of this one."""
    estimated_wait_s: float
    joined: bool = False
    """Whether an earlier call of the same request began the work."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A stage has done `done` of `total` units of its work."""

    stage: str
    done: int
    total: int
    unit: str = "step"
    """What is counted, for people: a word of the stage's family."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The stage's present estimate of its picture, at most 256 pixels wide."""

    stage: str
    done: int
    """Units of its work, as `Progress` counts them."""
    image: ImageU8
    format: str = ""
    """In which a server sent it, `jpeg` for one that loses pixels; empty where it was made here."""


@dataclass(frozen=True, slots=True)
class Backend:
    """How a component was computed."""

    engine: str
    """Its name; a server may have one that this side does not know."""
    precision: Precision


@dataclass(frozen=True, slots=True)
class StageFinished:
    """A stage is done; its result is what the next one starts from."""

    stage: str
    handoff: Handoff
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Where the time went, by name: `tokenise`, `encode`, the stage's own name, `queue`."""
    computed: Backend | None = None
    """Engine and precision, where whoever ran the stage said so."""
    engine_s: float = 0.0
    """Seconds of its own that its engines ran, without any wait for them; 0 where unknown. The rest
    of its time is the host's."""
    format: str = ""
    """In which a server sent its picture; empty where it made none, or was run here."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """A remote stage's traffic so far, message bytes without framing."""

    bytes_up: int
    bytes_down: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    """`serialise`, `upload`, `download`."""
    packing: Mapping[str, float] = field(default_factory=dict)
    """Seconds that `serialise` consists of: `pack` here, `server pack` there, `unpack` here; each
    without what went on while a component ran."""
    result_bytes: Mapping[str, int] = field(default_factory=dict)
    """Of the encoded picture of each component."""
    result_formats: Mapping[str, str] = field(default_factory=dict)
    """In which each of them came."""
    call_bytes: int = 0
    """Of the call alone; a context that was uploaded before it is left out."""
    picture_bytes: int = 0
    """Of the encoded picture in it; 0 without one."""
    first_s: float = 0.0
    """From sending the call to its first event."""


@dataclass(frozen=True, slots=True)
class FellBack:
    """The server is gone and the rest runs on this machine."""

    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The connection broke and the same request is listened to again; nothing is done twice."""

    reason: str


PROGRESS_INTERVAL_S = 0.05
"""Nobody reads faster; a stage of thousands of short steps would send little else."""

Event = Accepted | Progress | Preview | StageFinished | Transferred | Resumed | FellBack


class ProgressThrottle:
    """Lets `Progress` pass at most so often (rate limiting); every other event passes."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        interval_s: float = PROGRESS_INTERVAL_S,
    ) -> None:
        """Nothing has passed.

        Args:
            clock: monotonic seconds.
            interval_s: least time between two that pass.
        """
        self._clock = clock
        self._interval_s = interval_s
        self._stage = ""
        self._passed_at = 0.0

    def passes(self, event: Event) -> bool:
        """Whether an event is passed on: of each stage the first and the last one always are."""
        if not isinstance(event, Progress):
            return True
        now = self._clock()
        is_edge = event.stage != self._stage or event.done >= event.total
        if not is_edge and now - self._passed_at < self._interval_s:
            return False
        self._stage, self._passed_at = event.stage, now
        return True
