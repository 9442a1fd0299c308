"""Which request starts next, how long one will take, who is refused: decisions as functions.

Numbers in, numbers out. Knows neither threads nor clocks; the executor asks and acts. Which rows
share a run of the engine is decided in `next_run`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from cascade.errors import CascadeError, DeadlineExceeded, ServerBusy
from runtime_server.admission.concurrency_limits import SHORTEST_RETRY_S

Steps = Mapping[int, int]
"""Position to steps."""


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
    def due(self) -> float:
        """Earliest first."""
        ...

    @property
    def begun(self) -> bool:
        """Whether a component of it is done."""
        ...


def priority_deadline(deadline: float | None, admitted_at: float, max_queue_age_s: float) -> float:
    """What a request is sorted by: its deadline, and never later than its turn.

    A request without a deadline, or with a far one, has its turn `max_queue_age_s` after it came:
    only requests that came before then can stand before it, so nobody starves.
    """
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

    The most urgent that finds the device idle, or can join rows of its component, or is more urgent
    than all that run: then its steps go first from the next step on. Nobody else begins: it could
    only slow down what was begun before. And nobody begins a component behind which too many
    wait for the next one.

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
    between = Counter(q.position for q in queued if q.begun)
    inside = Counter(r.position for r in running)
    earliest = min((r.due for r in running), default=None)
    for index in sorted(range(len(queued)), key=lambda i: queued[i].due):
        q = queued[index]
        if q.last > q.position and between[q.position + 1] > max_waiting_between:
            continue
        joins = 0 < inside[q.position] < caps.get(q.position, 1)
        if earliest is None or joins or q.due < earliest:
            return index
    return None


def remaining_steps(steps: Steps, position: int, done: int) -> dict[int, int]:
    """Steps still to do at `position`, of which `done` are over, and at all later ones."""
    left = {p: n for p, n in steps.items() if p >= position}
    if position in left:
        left[position] = max(0, left[position] - done)
    return left


def forecast_s(
    own: Steps,
    ahead: Sequence[Steps],
    step_s: Mapping[int, float],
    shared: Mapping[int, Mapping[int, float]],
) -> float:
    """Seconds until a request is through.

    All the work before it and its own, at the pace of rows that share runs; never less than its own
    steps one after the other.

    Args:
        own: its steps.
        ahead: the remaining steps of everybody before it.
        step_s: seconds of a step by position; one that was never measured counts nothing.
        shared: see `pace`; by position.
    """
    alone = sum(n * step_s.get(p, 0.0) for p, n in own.items())
    total = 0.0
    for position in {p for steps in (own, *ahead) for p in steps}:
        visits = [steps[position] for steps in (own, *ahead) if steps.get(position)]
        share = pace(len(visits), shared.get(position, {}))
        total += sum(visits) * step_s.get(position, 0.0) * share
    return max(alone, total)


def pace(company: int, run_s: Mapping[int, float]) -> float:
    """A row's share of a run with so much company, in runs of its own; 1 is no gain.

    Args:
        company: requests that want the component, this one included.
        run_s: rows to seconds of a run, up to the component's cap; empty for runs of one row.
    """
    if not run_s:
        return 1.0
    fewest = min(run_s)
    alone = run_s[fewest] / fewest
    sizes = [rows for rows in run_s if rows <= company * fewest]
    return min([1.0, *(run_s[rows] / rows / alone for rows in sizes)]) if alone else 1.0


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


def refuse_when_late(allowed_s: float | None, alone_s: float, forecast: float) -> None:
    """Raise unless a request can be through in the time that it has.

    Args:
        allowed_s: until its deadline; None is no limit.
        alone_s: what it takes on an idle server.
        forecast: what it will take, see `forecast_s`.

    Raises:
        DeadlineExceeded: not even an idle server could: a retry cannot help.
        ServerBusy: too much is before it; the error says when that will be over.
    """
    if allowed_s is None or forecast <= allowed_s:
        return
    if alone_s > allowed_s:
        raise DeadlineExceeded(
            f"this takes {alone_s:.2g} s here and {allowed_s:.2g} s are allowed: allow more time "
            "or ask for fewer steps"
        )
    retry_after_s = max(SHORTEST_RETRY_S, forecast - allowed_s)
    raise ServerBusy(
        f"it would be through in {forecast:.2g} s and {allowed_s:.2g} s are allowed: try again in "
        f"{retry_after_s:.1f} s",
        retry_after_s=retry_after_s,
    )
