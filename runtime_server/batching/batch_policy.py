"""Which waiting rows the engine runs together next: one pure function of values and the time.

A row is one request inside one component; between two steps it asks for one run of the engine. The
server and `benchmarks/batching_policy.py` decide by the same function. Knows numbers; neither
threads, nor arrays, nor why a row is urgent.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

PAYS_BELOW = 0.9
"""Rows share a run only if two in one take less than this share of the time of two alone: what is
nearer to 1 than that is within the noise of measuring, and company delays the first to finish."""
PATIENCE = 0.25
"""A less urgent step is held back for a row that is expected within this share of its length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """One run of the engine that a row waits for."""

    number: int
    """In order of asking."""
    position: int
    """Its component."""
    due: float
    """When its request should be through, on the same clock as `since`."""
    rows: int
    """Samples along the batch axis: 2 where guidance asks with and without the text at once."""
    size_bytes: int
    """Of its inputs and outputs."""
    kind: Hashable
    """Asks of one component may share a run when these are equal: shapes and dtypes."""
    since: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedRun:
    """A row between two runs: its host work is under way, and then it asks again."""

    position: int
    due: float
    expected_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """What one run of one component may hold, and what sharing it saves."""

    max_rows: int
    max_bytes: int
    pads: bool = False
    """Whether contexts of unequal length may share a run."""
    step_s: float = 0.0
    """Seconds of a run of one ask; 0 before anything is known."""
    saving_s: float = 0.0
    """Seconds that each further ask in a run saves against a run of its own."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run these together now, the most urgent first."""

    asks: tuple[RunRequest, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Decide again when another row asks or leaves, at this time at the latest."""

    until: float


def decide(
    asks: Sequence[RunRequest],
    coming: Sequence[ExpectedRun],
    limits: Mapping[int, BatchLimits],
    *,
    free_since: float,
    now: float,
) -> Run | Wait | None:
    """What a free device does next.

    Earliest due first over all components of the device; then asks of the same kind join in that
    order, up to the component's caps. The device idles only

    1. for a more urgent row that is expected within a quarter of the step that would run instead;
    2. for rows that could join, at most as long as a joint run saves. So waiting in vain costs at
       most what sharing gains, and where sharing gains nothing nobody waits.

    Args:
        asks: who waits; an ask over the caps runs alone.
        coming: who is expected.
        limits: by position.
        free_since: when the device became free.
        now: the time.

    Returns:
        None when nobody asks.
    """
    if not asks:
        return None
    order = sorted(asks, key=urgency)
    head = order[0]
    together = compatible(order, limits[head.position])
    if coming:
        opened = max(head.since, free_since)
        until = batch_window(together, coming, limits[head.position], opened)
        if until > now:
            return Wait(until)
    return Run(together)


def urgency(ask: RunRequest) -> tuple[float, int]:
    """Sorts the earliest due first, and equals in the order of asking."""
    return ask.due, ask.number


def compatible(order: Sequence[RunRequest], limits: BatchLimits) -> tuple[RunRequest, ...]:
    """The first ask, and those after it that fit into its run."""
    head = order[0]
    taken, rows, size_bytes = [head], head.rows, head.size_bytes
    for ask in order[1:]:
        same = ask.position == head.position and ask.kind == head.kind
        fits = (
            rows + ask.rows <= limits.max_rows and size_bytes + ask.size_bytes <= limits.max_bytes
        )
        if same and fits:
            taken.append(ask)
            rows += ask.rows
            size_bytes += ask.size_bytes
    return tuple(taken)


def batch_window(
    together: Sequence[RunRequest],
    coming: Sequence[ExpectedRun],
    limits: BatchLimits,
    opened: float,
) -> float:
    """Until when the device should idle rather than run `together`; the past for not at all.

    Args:
        together: what would run now.
        coming: who is expected.
        limits: of that component.
        opened: since when it could have run.
    """
    head = together[0]
    hold = opened + PATIENCE * limits.step_s
    if any(row.due < head.due and row.expected_at <= hold for row in coming):
        return hold
    joined = opened + limits.saving_s
    room = limits.max_rows - sum(ask.rows for ask in together) >= head.rows
    near = (row.position == head.position and row.expected_at <= joined for row in coming)
    return joined if room and any(near) else opened


def row_cap(step_s: Mapping[int, float]) -> int:
    """How many rows should share a run, from what runs of 1, 2, 4, ... rows took.

    Args:
        step_s: rows to seconds of one run; needs at least 1 row.

    Returns:
        The largest of those sizes up to which each doubling paid; 1 where even two rows do not.
    """
    sizes = sorted(step_s)
    cap = sizes[0]
    for size in sizes[1:]:
        if step_s[size] / size >= PAYS_BELOW * step_s[cap] / cap:
            break
        cap = size
    return cap


def saving_s(step_s: Mapping[int, float]) -> float:
    """Seconds that each further ask in a run saves, from the smallest and the largest runs.

    Args:
        step_s: rows to seconds of one run; the fewest rows are those of one ask.
    """
    fewest, most = min(step_s, default=1), max(step_s, default=1)
    if fewest == most:
        return 0.0
    asks = most / fewest
    return max(0.0, (asks * step_s[fewest] - step_s[most]) / (asks - 1))
