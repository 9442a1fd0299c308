"""When requests are due: schedules made before the run, from a seed, whatever the system does.

An open loop sends at these times even if nothing has come back, and latency counts from them: a
sender that waits for answers leaves out exactly the requests that would have waited longest
(coordinated omission). Pure; knows no clock.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cascade.errors import InvalidRequest
from cascade.system.bounded_files import read_setting

ArrivalKind = Literal["poisson", "constant", "gamma", "trace"]
ARRIVAL_KINDS: tuple[ArrivalKind, ...] = get_args(ArrivalKind)
MOST_PER_S = 10_000.0
MAX_TRACE_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrivals:
    """A process of arrivals."""

    kind: ArrivalKind = "poisson"
    rate_per_s: float = 1.0
    """Mean; a trace has its own."""
    shape: float = 1.0
    """Of gamma: 1 is Poisson, below it arrivals come in bursts, above it evenly."""
    seed: int = 0
    trace: Path | None = None
    """A file with a due time in seconds per line, ascending; `#` begins a comment."""

    def __post_init__(self) -> None:
        """Check every choice."""
        if self.kind not in ARRIVAL_KINDS:
            raise InvalidRequest(
                f"arrivals: expected {', '.join(ARRIVAL_KINDS)}, got {self.kind!r}",
                field="arrivals",
            )
        if not 0 < self.rate_per_s <= MOST_PER_S:
            raise InvalidRequest(
                f"rate: expected more than 0 and at most {MOST_PER_S:g} per second, got "
                f"{self.rate_per_s:g}",
                field="rate",
            )
        if not 0.01 <= self.shape <= 1000:
            raise InvalidRequest(f"shape: expected 0.01 to 1000, got {self.shape:g}", field="shape")
        if (self.kind == "trace") != (self.trace is not None):
            raise InvalidRequest("trace: name a file with --arrivals trace alone", field="trace")


def schedule(arrivals: Arrivals, count: int) -> NDArray[np.float64]:
    """Due times in seconds from the begin of the window, `[count]` float64, ascending.

    Args:
        arrivals: the process.
        count: of requests; a trace may hold fewer.
    """
    if arrivals.trace is not None:
        return read_trace(arrivals.trace)[:count]
    rng = np.random.Generator(np.random.PCG64(arrivals.seed))
    mean_s = 1 / arrivals.rate_per_s
    match arrivals.kind:
        case "constant":
            gaps = np.full(count, mean_s)
        case "gamma":
            gaps = rng.gamma(arrivals.shape, mean_s / arrivals.shape, count)
        case _:
            gaps = rng.exponential(mean_s, count)
    return np.cumsum(gaps)


def read_trace(path: Path) -> NDArray[np.float64]:
    """Due times of a trace file, `[requests]` float64.

    Raises:
        InvalidRequest: it cannot be read, or a line is no time at or after the one before.
    """
    times: list[float] = []
    text = read_setting(path, "trace", MAX_TRACE_BYTES).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        if not words:
            continue
        try:
            due = float(words)
        except ValueError:
            due = math.nan
        if not (times[-1] if times else 0.0) <= due < math.inf:
            raise InvalidRequest(
                f"trace: line {number} of {path.name}: expected seconds at or after the line "
                f"before, got {words[:40]!r}",
                field="trace",
            )
        times.append(due)
    if not times:
        raise InvalidRequest(f"trace: {path.name} holds no times", field="trace")
    return np.asarray(times, np.float64)


def digest(times: NDArray[np.float64]) -> str:
    """SHA-256 of a schedule, `[requests]` float64: two runs with one had the same arrivals."""
    return hashlib.sha256(np.asarray(times, "<f8").tobytes()).hexdigest()
