"""Which request starts next, and which is refused: decisions as functions of values.

Fair shares between callers, and among the requests of one the earliest deadline first, with a bound
on waiting. Knows neither threads nor clocks; `JobQueue` asks
and `Workers` act. Which rows share a run of an engine is decided in `batching.batch_policy`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from cascade.errors import CascadeError, DeadlineExceeded, ServerBusy, TransportError
from runtime_server.admission.concurrency_limits import SHORTEST_RETRY_S
from runtime_server.runtime.fair_shares import FairTurn


class Candidate(Protocol):
    """What the choice of the next request looks at."""

    @property
    def position(self) -> int:
        """The component that it waits for or is in."""
        ...

    @property
    def last(self) -> int:
        """The component that it ends with."""
        ...

    @property
    def priority_deadline(self) -> float:
        """Earliest first."""
        ...

    @property
    def begun(self) -> bool:
        """Whether a component of it is done."""
        ...

    @property
    def caller(self) -> str:
        """Who asked for it."""
        ...

    @property
    def turn(self) -> FairTurn:
        """When its caller's share allows it."""
        ...


def urgency(job: Candidate) -> tuple[float, float]:
    """Sorts the least start tag first, and equals by deadline."""
    return job.turn.start_tag, job.priority_deadline


def overtakes(waiting: Candidate, running: Candidate) -> bool:
    """Whether one that waits is more urgent than one that runs.

    By deadline within one caller: no deadline of one takes turns from another.
    """
    if waiting.caller == running.caller:
        return waiting.priority_deadline < running.priority_deadline
    return waiting.turn.start_tag < running.turn.start_tag


def priority_deadline_of(
    deadline: float | None, admitted_at: float, max_queue_age_s: float
) -> float:
    """What a request is sorted by: its deadline, and never later than its turn.

    A request without a deadline, or with a far one, has its turn `max_queue_age_s` after it came:
    only requests that came before then can stand before it, so nobody starves.
    """
    # The only bound on waiting: without it requests with deadlines could pass for ever.
    turn = admitted_at + max_queue_age_s
    return turn if deadline is None else min(deadline, turn)


def next_to_start(
    queued: Sequence[Candidate],
    running: Sequence[Candidate],
    caps: Mapping[int, int],
    *,
    max_running: int,
    max_waiting_between: int,
) -> int | None:
    """Which of the waiting requests begins its component now.

    The most urgent that finds the device idle, or can join rows of its component; or the most
    urgent of all, if it is more urgent than all that run: then its steps go first from the next
    step on. Nobody else begins: it could only slow down what was begun before. And nobody begins a
    component behind which too many wait for the next one.

    Args:
        queued: who waits, in any order.
        running: who runs.
        caps: rows that may share a run, by position.
        max_running: requests inside components at once.
        max_waiting_between: begun requests that may wait for a component while others still work
            towards it.

    Returns:
        Its index in `queued`; None when nobody begins.
    """
    if len(running) >= max_running:
        return None
    # Only those that have come from a component: the others hold no picture yet.
    between = Counter(q.position for q in queued if q.begun)
    inside = Counter(r.position for r in running)
    first = True
    for index in sorted(range(len(queued)), key=lambda i: urgency(queued[i])):
        q = queued[index]
        # Or pictures in the making would pile up before the slowest component.
        if q.last > q.position and between[q.position + 1] > max_waiting_between:
            continue
        joins = 0 < inside[q.position] < caps.get(q.position, 1)
        # What is running is interrupted by nobody; it only lets the more urgent go first. And only
        # the first in turn: or a caller's deadlines could keep another from its turn for ever.
        if joins or (first and all(overtakes(q, r) for r in running)):
            return index
        first = False
    return None


def stop_reason(
    stop: CascadeError | None, deadline: float | None, now: float
) -> CascadeError | None:
    """Why a request must not go on, None when it may.

    Args:
        stop: what somebody asked for it to end with.
        deadline: when its time is over, on the same clock as `now`.
        now: the time.
    """
    # A cancelled request is cancelled, also where its time is over by now.
    if stop is not None:
        return stop
    if deadline is not None and now >= deadline:
        return DeadlineExceeded("the time allowed for this request is over")
    return None


def full_error(name: str, queued: int, limit: int, waits_s: Iterable[float]) -> ServerBusy | None:
    """The error for a request that a full queue refuses; None while there is room.

    Args:
        name: of the component, for the message.
        queued: requests waiting for it.
        limit: how many may.
        waits_s: estimated seconds of everything that runs before its first place becomes free;
            counted only where it is full.
    """
    if queued < limit:
        return None
    retry_after_s = max(SHORTEST_RETRY_S, sum(waits_s))
    return ServerBusy(
        f"{queued} requests already wait for {name}: try again in {retry_after_s:.1f} s",
        retry_after_s=retry_after_s,
    )


def draining_error() -> TransportError:
    """The error for every request while the server shuts down."""
    return TransportError("the server is shutting down: use another one or try again later")


def in_flight_error(inside: int, soonest_s: float) -> ServerBusy:
    """The error for a request beside which too many are inside.

    Args:
        inside: admitted and not yet delivered.
        soonest_s: until one of them is likely to be through.
    """
    return ServerBusy(
        f"{inside} requests are in flight, no more are accepted",
        retry_after_s=max(SHORTEST_RETRY_S, soonest_s),
    )


def late_error(allowed_s: float | None, alone_s: float, through_s: float) -> CascadeError | None:
    """The error for a request that cannot be through in the time that it has; None for others.

    Args:
        allowed_s: until its deadline; None is no limit.
        alone_s: what it takes on an idle server.
        through_s: what it will take, see `forecast_s`.

    Returns:
        `DeadlineExceeded` where not even an idle server could: a retry cannot help. `ServerBusy`
        where too much is before it; the error says when that will be over.
    """
    if allowed_s is None or through_s <= allowed_s:
        return None
    if alone_s > allowed_s:
        return DeadlineExceeded(
            f"this takes {alone_s:.2g} s here and {allowed_s:.2g} s are allowed: allow more time "
            "or ask for fewer steps"
        )
    retry_after_s = max(SHORTEST_RETRY_S, through_s - allowed_s)
    return ServerBusy(
        f"it would be through in {through_s:.2g} s and {allowed_s:.2g} s are allowed: try again in "
        f"{retry_after_s:.1f} s",
        retry_after_s=retry_after_s,
    )
