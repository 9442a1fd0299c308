"""Which request runs next, how long one will wait, how fast a component is: decisions as functions.

Numbers in, numbers out. Knows neither threads nor clocks; the executor asks and acts.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sized
from statistics import median

from cascade.errors import CascadeError, DeadlineExceeded, ServerBusy

MEASURED_STEPS = 64
"""Step times that a median is taken over: it follows a change of load within a few requests."""
SHORTEST_RETRY_S = 0.1
"""A full queue is not asked again sooner, however fast its component is."""


class StepTimes:
    """Running median of the seconds per step of each component."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}

    def add(self, position: int, seconds: float) -> None:
        """Note one step."""
        self._seconds.setdefault(position, deque(maxlen=MEASURED_STEPS)).append(seconds)

    def seconds_per_step(self, position: int) -> float:
        """The median; 0 before the first step."""
        seconds = self._seconds.get(position)
        return median(seconds) if seconds else 0.0

    def estimate_s(self, steps: Mapping[int, int]) -> float:
        """Seconds that so many steps per position take."""
        return sum(n * self.seconds_per_step(position) for position, n in steps.items())


def next_position(queues: Mapping[int, Sized]) -> int | None:
    """The queue to take from: the latest component that has work, so what was begun is finished."""
    return max((position for position, queue in queues.items() if len(queue)), default=None)


def remaining_steps(steps: Mapping[int, int], position: int, done: int) -> dict[int, int]:
    """Steps still to do at `position`, of which `done` are over, and at all later ones."""
    left = {p: n for p, n in steps.items() if p >= position}
    if position in left:
        left[position] = max(0, left[position] - done)
    return left


def stop_reason(
    stop: CascadeError | None, deadline: float | None, now: float
) -> CascadeError | None:
    """Why a request must not go on, None when it may.

    Args:
        stop: what somebody asked for it to end with.
        deadline: when its time is over, on the same clock as `now`.
        now: the time.
    """
    if stop is not None:
        return stop
    if deadline is not None and now >= deadline:
        return DeadlineExceeded("the time allowed for this request is over")
    return None


def refuse_when_full(name: str, queued: int, limit: int, waits_s: Iterable[float]) -> None:
    """Raise `ServerBusy` when a queue is full.

    Args:
        name: of the component, for the message.
        queued: requests waiting for it.
        limit: how many may.
        waits_s: estimated seconds of everything that runs before its first place becomes free.
    """
    if queued < limit:
        return
    retry_after_s = max(SHORTEST_RETRY_S, sum(waits_s))
    raise ServerBusy(
        f"{queued} requests already wait for {name}: try again in {retry_after_s:.1f} s",
        retry_after_s=retry_after_s,
    )
