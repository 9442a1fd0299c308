"""One request on its way through the server, and what is told about it.

Values and mutable marks only; who changes them and when is the executor's business.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cascade.errors import CascadeError
from cascade.events import Event
from cascade.request import Handoff
from runtime_server.admission.checks import Work
from runtime_server.protocol.callers import ANONYMOUS


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more will come; `error` is None after success."""

    error: Exception | None


Delivery = Event | Ended
Deliver = Callable[[Delivery], None]
"""Called from any thread; must not block."""


@dataclass(eq=False, slots=True)
class Job:
    """A request that was admitted. Its marks change only under the executor's lock."""

    work: Work
    deliver: Deliver
    deadline: float | None
    """On the executor's clock; None is no limit."""
    position: int
    """The component that it waits for or is in."""
    handoff: Handoff
    """What that component starts from."""
    identity: str = ANONYMOUS
    """Whose it is."""
    due: float = 0.0
    """What it is sorted by: its deadline, or earlier so that nobody waits for ever."""
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
        return self.position > self.work.first

    @property
    def last(self) -> int:
        """Position of its last component."""
        return self.work.last


def make_job(
    work: Work, deliver: Deliver, deadline: float | None, identity: str = ANONYMOUS
) -> Job:
    """A job at its starting point."""
    return Job(
        work=work,
        deliver=deliver,
        deadline=deadline,
        position=work.first,
        handoff=work.start,
        identity=identity,
    )
