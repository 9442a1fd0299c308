"""What happens in a server, as frozen values, and the list of functions that each is given to.

Metrics, traces and tests are listeners: functions of one event. A room that has something to tell
makes the value and passes it to `emit`; it knows neither who listens nor whether anybody does.
Listeners return at once, raise nothing, and are called from any thread. Called elsewhere: domain
events, the observer pattern.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from runtime_server.telemetry.traceparent import TraceParent

Refusal = Literal[
    "queue_full",
    "bytes",
    "identity",
    "in_flight",
    "deadline",
    "quota",
    "auth",
    "invalid",
    "draining",
]
"""Why a request was turned away before any work was done for it."""

Place = Literal["queue", "running", "delivery"]
"""Where a request was when it was cancelled or its time was over."""


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """A request as events name it."""

    request_id: str
    trace: TraceParent | None = None
    """The span of the call that brought it; None where nothing is traced."""


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call of the wire arrived."""

    method: str
    """Its full path, `/package.Service/Method`."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call of the wire is over."""

    method: str
    code: str
    """Its status code by name."""
    seconds: float


@dataclass(frozen=True, slots=True)
class BytesMoved:
    """The payload of one call that has ended, in bytes."""

    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """A request was turned away."""

    why: Refusal


@dataclass(frozen=True, slots=True)
class RequestAdmitted:
    """A request was taken in; some of what is done for it may have been told already."""

    request_id: str


@dataclass(frozen=True, slots=True)
class RequestReleased:
    """Nothing of a request is inside any more."""

    request_id: str


@dataclass(frozen=True, slots=True)
class RequestStopped:
    """A request ended early."""

    where: Place
    code: str
    """CANCELLED or DEADLINE_EXCEEDED."""


@dataclass(frozen=True, slots=True)
class QueueLeft:
    """A request left the queue of one component."""

    stage: str
    seconds: float
    """That it waited there."""


@dataclass(frozen=True, slots=True)
class EngineRan:
    """One run of an engine, for all the requests that shared it."""

    stage: str
    requests: tuple[TracedRequest, ...]
    begun: float
    """On the monotonic clock."""
    seconds: float


@dataclass(frozen=True, slots=True)
class StageEnded:
    """One component's work for one request is over."""

    stage: str
    request: TracedRequest
    begun: float
    """On the monotonic clock."""
    seconds: float
    code: str = "OK"
    """By name; INTERNAL where the component itself is at fault."""


ReloadOutcome = Literal["reloaded", "unchanged", "refused"]


@dataclass(frozen=True, slots=True)
class BundleReloaded:
    """A reload of the bundle was asked for."""

    outcome: ReloadOutcome


LossReason = Literal["died", "silent"]


@dataclass(frozen=True, slots=True)
class ReplicaReplaced:
    """A replica ended, or answered nothing for too long; another one takes its place."""

    reason: LossReason


RepeatOutcome = Literal["again", "given up"]


@dataclass(frozen=True, slots=True)
class WorkRepeated:
    """A request's replica was lost; its work is begun again, or was begun again before."""

    outcome: RepeatOutcome


ServerEvent = (
    CallStarted
    | CallEnded
    | BytesMoved
    | RequestRefused
    | RequestAdmitted
    | RequestReleased
    | RequestStopped
    | QueueLeft
    | EngineRan
    | StageEnded
    | BundleReloaded
    | ReplicaReplaced
    | WorkRepeated
)

Emit = Callable[[ServerEvent], None]
"""Where a room's events go; a listener is one too."""


def ignore(event: ServerEvent) -> None:
    """Nobody listens."""
    del event


def emit_to(listeners: tuple[Emit, ...]) -> Emit:
    """A function that gives each event to all of these, in order."""
    if not listeners:
        return ignore

    def emit(event: ServerEvent) -> None:
        # On the caller's thread: a queue would need a thread, and a bound, of its own.
        for listener in listeners:
            listener(event)

    return emit
