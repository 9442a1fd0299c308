"""Capacity of a replica: pictures per second, memory, bytes per picture, from measured times.

Arithmetic on measured times: no clock, no connection, no bundle. A replica is one process with one
device: it runs one engine at a time, and rows of requests share its runs where that pays.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FULL = 0.7
"""Share of its time from which on waits grow: no replica, door or line is planned fuller."""
LINE_BYTES_S = 125e6
"""Of the line that a table is about: 1 Gbit/s."""
RunTimes = Mapping[int, float]
"""Rows to seconds of one run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaComponent:
    """What one component of a replica takes for a picture."""

    name: str
    engine: str
    precision: str
    source: str
    """Where its times come from: `announced` by a server, `tuned` here."""
    runs: Mapping[str, int]
    """Runs of its engines for one picture, by role."""
    run_s: Mapping[str, RunTimes]
    """By role; what is known."""
    rows: int = 1
    """Of one request in a run: 2 where guidance asks with and without the text."""
    max_rows: int = 1
    """That may share a run."""
    host_s: float = 0.0
    """Of the processor for a picture, beside the runs: sampling, quantising, encoding."""
    memory_bytes: int = 0
    """Weights and a run, as far as they can be told before it is opened."""

    @property
    def alone_s(self) -> float:
        """Engine seconds of a picture whose runs are shared with no other."""
        return sum(
            count * self.rows * row_s(self.run_s[role], self.rows, self.rows)
            for role, count in self.runs.items()
        )

    @property
    def shared_s(self) -> float:
        """Engine seconds of a picture whose runs are as full as is worth it."""
        most = max(self.rows, self.max_rows)
        return sum(
            count * self.rows * row_s(self.run_s[role], self.rows, most)
            for role, count in self.runs.items()
        )


def row_s(run_s: RunTimes, fewest: int, most: int) -> float:
    """Seconds of one row in the largest run of `fewest` to `most` rows.

    Args:
        run_s: what runs took; of no size between the two, the nearest one stands in.
        fewest: rows of one request.
        most: rows that may share a run.
    """
    fitting = [rows for rows in run_s if fewest <= rows <= most]
    nearest = min(run_s, key=lambda rows: abs(rows - fewest))
    rows = max(fitting, default=nearest)
    return run_s[rows] / rows


@dataclass(frozen=True, kw_only=True, slots=True)
class CapacityPlan:
    """What one replica can do."""

    replica: str
    """Its address; `this machine` where no server is named."""
    device: str
    cores: int
    components: tuple[ReplicaComponent, ...]
    memory_bytes: int
    memory_from: str
    """`measured` by the server, or `estimated`."""
    bytes_up: int
    bytes_down: int
    bytes_from: str
    """`measured` where pictures of this bundle were seen on the line, else `guess`."""

    @property
    def alone_s(self) -> float:
        """Seconds of one picture on an idle replica, without queue and line."""
        return sum(c.alone_s + c.host_s for c in self.components)

    @property
    def pictures_per_s(self) -> float:
        """With enough requests at once.

        On a processor both kinds of work share its cores: an engine takes all of them, the rest of
        a picture one, while engines of other pictures run. A card leaves the cores to the rest.
        """
        engine_s = sum(c.shared_s for c in self.components)
        host_s = sum(c.host_s for c in self.components) / max(1, self.cores)
        busy_s = engine_s + host_s if self.device == "CPU" else max(engine_s, host_s)
        return 1 / busy_s if busy_s else math.inf

    def replicas_for(self, rate_per_s: float) -> int:
        """Replicas of which none is fuller than `FULL` at so many pictures per second."""
        return max(1, math.ceil(rate_per_s / (FULL * self.pictures_per_s)))

    def lines_for(self, rate_per_s: float) -> int:
        """Lines of 1 Gbit/s of which none is fuller than `FULL`."""
        per_picture = max(self.bytes_up, self.bytes_down)
        return max(1, math.ceil(rate_per_s * per_picture / (FULL * LINE_BYTES_S)))

    def as_object(self, rates: Sequence[float] = ()) -> dict[str, Any]:
        """As JSON.

        Args:
            rates: pictures per second that replicas are counted for.
        """
        return {
            "replica": self.replica,
            "device": self.device,
            "cores": self.cores,
            "components": [component_object(c) for c in self.components],
            "alone_ms": round(1000 * self.alone_s, 2),
            "pictures_per_s": round(self.pictures_per_s, 4),
            "memory_bytes": self.memory_bytes,
            "memory_from": self.memory_from,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "bytes_from": self.bytes_from,
            "pictures_per_s_of_1_gbit": round(
                LINE_BYTES_S / max(1, self.bytes_up, self.bytes_down), 2
            ),
            "fleets": [
                {
                    "pictures_per_s": rate,
                    "replicas": self.replicas_for(rate),
                    "lines_of_1_gbit": self.lines_for(rate),
                }
                for rate in rates
            ],
        }


def component_object(component: ReplicaComponent) -> dict[str, Any]:
    """One component of a plan as JSON."""
    return {
        "name": component.name,
        "engine": component.engine,
        "precision": component.precision,
        "from": component.source,
        "runs": dict(component.runs),
        "run_ms": {
            role: {str(rows): round(1000 * s, 2) for rows, s in sorted(times.items())}
            for role, times in component.run_s.items()
        },
        "rows": component.rows,
        "max_rows": component.max_rows,
        "alone_ms": round(1000 * component.alone_s, 2),
        "shared_ms": round(1000 * component.shared_s, 2),
        "host_ms": round(1000 * component.host_s, 2),
        "memory_bytes": component.memory_bytes,
    }
