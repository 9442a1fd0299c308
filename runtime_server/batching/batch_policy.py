"""Dynamic batching: which waiting rows the engine runs together next, one pure function of values.

A row is one request inside one component; between two steps it asks for one run of the engine. The
server and `benchmarks/batching_policy.py` decide by the same function. Knows numbers; neither
threads, nor arrays, nor why a row is urgent.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from runtime_server.batching.role_key import RoleKey

PAYS_BELOW = 0.9
"""Rows share a run only if two in one take less than this share of the time of two alone: what is
nearer to 1 than that is within the noise of measuring, and sharing delays the first to finish."""
PATIENCE = 0.25
"""A less urgent step is held back for a row that is expected within this share of its length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """One run of an engine that a row waits for."""

    number: int
    """In order of arrival."""
    key: RoleKey
    """Which engine."""
    priority_deadline: float
    """When its row should be through, on the same clock as `since`."""
    rows: int
    """Samples along the batch axis: 2 where guidance asks with and without the text at once."""
    size_bytes: int
    """Of its inputs and outputs."""
    batch_key: Hashable
    """Requests for one engine may share a run when these are equal: shapes and dtypes."""
    since: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedRun:
    """A row between two runs: its host work is under way, and then it asks again."""

    key: RoleKey
    priority_deadline: float
    expected_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """What one run of one engine may hold, and what sharing it saves."""

    max_rows: int
    max_bytes: int
    allows_padding: bool = False
    """Whether inputs of unequal length may share a run."""
    run_s: float = 0.0
    """Seconds of a run for one request; 0 before anything is known."""
    saving_s: float = 0.0
    """Seconds that each further request in a run saves against a run of its own."""


@dataclass(frozen=True, slots=True)
class RunNow:
    """Run these together now, the most urgent first."""

    requests: tuple[RunRequest, ...]


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Decide again when another row asks or leaves, at this time at the latest."""

    until: float


def decide(
    waiting: Sequence[RunRequest],
    expected: Sequence[ExpectedRun],
    limits: Mapping[RoleKey, BatchLimits],
    *,
    free_since: float,
    now: float,
) -> RunNow | WaitUntil | None:
    """What a free device does next.

    Earliest deadline first over all engines of the device; then requests of the same batch key join
    in that order, up to the engine's limits. The device idles only

    1. for a more urgent row that is expected within a quarter of the run that would begin instead;
    2. for rows that could join, at most as long as a joint run saves. So waiting in vain costs at
       most what sharing gains, and where sharing gains nothing nobody waits.

    Args:
        waiting: the runs asked for; one over the limits runs alone.
        expected: the rows that will ask again.
        limits: by engine.
        free_since: when the device became free.
        now: the time.

    Returns:
        None when nothing waits.
    """
    if not waiting:
        return None
    # Sorted anew every time: there are as many as requests run, a handful.
    order = sorted(waiting, key=urgency)
    head = order[0]
    together = compatible(order, limits[head.key])
    if expected:
        # From when the run could have begun; not from now, or each decision would extend the wait.
        opened = max(head.since, free_since)
        until = batch_window(together, expected, limits[head.key], opened)
        if until > now:
            return WaitUntil(until)
    return RunNow(together)


def urgency(request: RunRequest) -> tuple[float, int]:
    """Sorts the earliest deadline first, and equals in the order of arrival."""
    return request.priority_deadline, request.number


def compatible(order: Sequence[RunRequest], limits: BatchLimits) -> tuple[RunRequest, ...]:
    """The first request, and those after it that fit into its run."""
    head = order[0]
    taken, rows, size_bytes = [head], head.rows, head.size_bytes
    for request in order[1:]:
        # What does not fit is passed over, not the end: a smaller one behind it may still fit.
        same = request.key == head.key and request.batch_key == head.batch_key
        fits = (
            rows + request.rows <= limits.max_rows
            and size_bytes + request.size_bytes <= limits.max_bytes
        )
        if same and fits:
            taken.append(request)
            rows += request.rows
            size_bytes += request.size_bytes
    return tuple(taken)


def batch_window(
    together: Sequence[RunRequest],
    expected: Sequence[ExpectedRun],
    limits: BatchLimits,
    opened: float,
) -> float:
    """Until when the device should idle rather than run `together`; the past for not at all.

    Args:
        together: what would run now.
        expected: the rows that will ask again.
        limits: of that engine.
        opened: since when it could have run.
    """
    head = together[0]
    hold = opened + PATIENCE * limits.run_s
    if any(
        row.priority_deadline < head.priority_deadline and row.expected_at <= hold
        for row in expected
    ):
        # Bounded by a share of the run that is held back, so waiting in vain costs a quarter of it.
        return hold
    joined = opened + limits.saving_s
    room = limits.max_rows - sum(request.rows for request in together) >= head.rows
    near = (row.key == head.key and row.expected_at <= joined for row in expected)
    return joined if room and any(near) else opened


def row_cap(run_s: Mapping[int, float]) -> int:
    """How many rows should share a run, from what runs of 1, 2, 4, ... rows took.

    Args:
        run_s: rows to seconds of one run; needs at least 1 row.

    Returns:
        The largest of those sizes up to which each doubling paid; 1 where even two rows do not.
    """
    # Up to the first size that does not pay: beyond it memory and not speed would grow.
    sizes = sorted(run_s)
    cap = sizes[0]
    for size in sizes[1:]:
        if run_s[size] / size >= PAYS_BELOW * run_s[cap] / cap:
            break
        cap = size
    return cap


def saving_s(run_s: Mapping[int, float]) -> float:
    """Seconds that each further request in a run saves, from the smallest and the largest runs.

    Args:
        run_s: rows to seconds of one run; the fewest rows are those of one request.
    """
    fewest, most = min(run_s, default=1), max(run_s, default=1)
    if fewest == most:
        return 0.0
    requests = most / fewest
    return max(0.0, (requests * run_s[fewest] - run_s[most]) / (requests - 1))
