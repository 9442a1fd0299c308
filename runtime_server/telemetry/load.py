"""What is inside a server at one moment, as values.

Knows what is counted; neither where it is read nor how it is shown.
"""

from dataclasses import dataclass

from cascade import __version__


@dataclass(frozen=True, kw_only=True, slots=True)
class StageLoad:
    """One hosted component."""

    name: str
    engine: str
    precision: str
    queued: int
    works: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaLoad:
    """One replica of an executor that has them."""

    number: int
    """Of its place, from 0."""
    ready: bool
    jobs: int
    """Sent to it and not ended."""
    backlog_s: float
    """Seconds of work left in them, each as if alone."""
    resident_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLoad:
    """The whole server. Counts are over all bundles in memory, names those of the present one."""

    ready: bool = False
    bundle_name: str = ""
    bundle_id: str = ""
    version: str = __version__
    """Of the software."""
    bundles: int = 0
    in_flight: int = 0
    running: int = 0
    backlog_s: float = 0.0
    in_flight_bytes: int = 0
    contexts: int = 0
    context_bytes: int = 0
    results: int = 0
    result_bytes: int = 0
    stages: tuple[StageLoad, ...] = ()
    replicas: tuple[ReplicaLoad, ...] = ()
    """Of the present bundle; none where the engines are in the server's process."""
    resident_bytes: int
