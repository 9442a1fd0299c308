"""One request in the queue and with the workers: what it is, how far it is, where its events go.

Values and mutable marks only; the workers change them, under their lock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cascade.errors import CascadeError
from cascade.events import Event
from cascade.request import Handoff
from runtime_server.admission.checks import RequestPlan
from runtime_server.protocol.callers import ANONYMOUS
from runtime_server.runtime.fair_shares import FairTurn
from runtime_server.telemetry.server_events import TracedRequest


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more will come; `error` is None after success."""

    error: Exception | None


Delivery = Event | Ended


class EventSink(Protocol):
    """Where a job's events go."""

    def put(self, item: Delivery) -> None:
        """Take one in; called from any thread, returns at once."""
        ...


@dataclass(eq=False, slots=True)
class Job:
    """A request that was admitted. Its marks change only under the lock of the workers."""

    plan: RequestPlan
    events: EventSink
    """Receives every event and, last, that the job ended."""
    deadline: float | None
    """On the clock of the workers; None is no limit."""
    request: TracedRequest
    """As events of the server name it."""
    position: int
    """The component that it waits for or is in."""
    handoff: Handoff
    """What that component starts from."""
    caller: str = ANONYMOUS
    """Who asked for it; callers share the device fairly."""
    turn: FairTurn = field(default_factory=FairTurn)
    priority_deadline: float = 0.0
    """What it is sorted by among those of its caller: its deadline, or earlier, so that none waits
    for ever."""
    enqueued_at: float = 0.0
    waited_s: float = 0.0
    """In the queue of its present component."""
    steps_done: int = 0
    """Of its present component."""
    stop: CascadeError | None = None
    """What it is to end with, once somebody asked."""
    ended: bool = False

    @property
    def begun(self) -> bool:
        """Whether a component of it is done."""
        return self.position > self.plan.first

    @property
    def last(self) -> int:
        """Position of its last component."""
        return self.plan.last

    @property
    def units(self) -> int:
        """Of its present component; 0 where that hands on a picture of the caller's own."""
        return self.plan.steps[self.position]

    @property
    def steps_left(self) -> Mapping[int, int]:
        """Steps still to do, by position."""
        return remaining_steps(self.plan.steps, self.position, self.steps_done)


def remaining_steps(steps: Mapping[int, int], position: int, done: int) -> dict[int, int]:
    """Steps still to do at `position`, of which `done` are over, and at all later ones."""
    left = {p: n for p, n in steps.items() if p >= position}
    if position in left:
        left[position] = max(0, left[position] - done)
    return left


def make_job(
    plan: RequestPlan,
    events: EventSink,
    deadline: float | None,
    request: TracedRequest | None = None,
    caller: str = ANONYMOUS,
) -> Job:
    """A job at its starting point."""
    return Job(
        plan=plan,
        events=events,
        deadline=deadline,
        request=request or TracedRequest(plan.request_id),
        position=plan.first,
        handoff=plan.start,
        caller=caller,
    )
