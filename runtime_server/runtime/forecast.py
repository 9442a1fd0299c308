"""How long requests will take: from the times of their last steps and who is before them.

Functions of values, and a record of times that is told the time; neither threads nor clocks. Used
under the lock of the workers.
"""

from collections.abc import Iterable, Mapping, Sequence

from runtime_server.batching.measured_limits import MeasuredLimits
from runtime_server.batching.role_key import RoleKey
from runtime_server.batching.step_times import StepTimes

STALE_S = 30.0
"""Step times older than this, and those of the warm-up, count `STALE_SHARE` where they would refuse
somebody: a machine that was busy then may be idle now, and a server that refuses learns nothing."""
STALE_SHARE = 0.1

Steps = Mapping[int, int]
"""Position to steps."""


class Forecast:
    """Seconds of steps, as measured between them, and what follows for requests."""

    def __init__(self, limits: MeasuredLimits, positions: Iterable[int]) -> None:
        """Nothing measured yet.

        Args:
            limits: what is known of the engines' runs, for as long as no step was measured.
            positions: of the hosted components.
        """
        self._limits = limits
        self._positions = tuple(positions)
        self._times = StepTimes()
        self._host = StepTimes()
        self._noted_at = 0.0

    def note(self, key: RoleKey, seconds: float, now: float) -> None:
        """One step is done.

        Args:
            key: the engine that ran in it.
            seconds: that it took, without those that it waited for the device.
            now: the time.
        """
        self._times.add(key, 1, seconds)
        self._noted_at = now

    def note_host(self, position: int, seconds: float) -> None:
        """A component is done with a picture: its seconds per step beside the engines' runs."""
        self._host.add(RoleKey(position), 1, seconds)

    def host_step_s(self, position: int) -> float:
        """Mean of the host's last seconds per step of one component; 0 before the first picture."""
        return self._host.means(RoleKey(position)).get(1, 0.0)

    def measured_step_s(self, position: int) -> float:
        """Median of the last steps of one component; 0 before the first."""
        return self._times.seconds(self._slowest(position))

    def step_s(self, position: int) -> float:
        """Seconds of a step: of the last ones, else of the trial before the first; 0 unknown."""
        key = self._slowest(position)
        # Between steps there is host work, so a step is longer than the run that stands in for it.
        seen = self._times.seconds(key)
        return seen or min(self._limits.run_seconds(key).values(), default=0.0)

    def knows(self, steps: Steps) -> bool:
        """Whether every step of a request was measured."""
        return all(self.step_s(position) for position, n in steps.items() if n)

    def trust(self, now: float) -> float:
        """The share of a forecast by which somebody may be refused."""
        return 1.0 if now - self._noted_at <= STALE_S else STALE_SHARE

    def alone_s(self, steps: Steps) -> float:
        """Seconds of a request by itself: its forecast behind nobody, only cheaper.

        Every refusal asks it of everybody inside.
        """
        return sum(n * self.step_s(position) for position, n in steps.items())

    def through_s(self, own: Steps, ahead: Sequence[Steps]) -> float:
        """Seconds until a request is through behind these others; see `forecast_s`."""
        shared = {position: self._shared_runs(position) for position in self._positions}
        step_s = {position: self.step_s(position) for position in self._positions}
        return forecast_s(own, ahead, step_s, shared)

    def row_share(self, position: int) -> float:
        """A row's part of the largest run that rows share now, in runs of its own."""
        runs = self._shared_runs(position)
        return pace(max(runs, default=1), runs)

    def _shared_runs(self, position: int) -> dict[int, float]:
        """Rows to seconds of a run, as far as such runs are made now."""
        key = self._slowest(position)
        cap = self._limits.present[key].max_rows
        # Larger runs than are made now say nothing of the pace.
        return {rows: s for rows, s in self._limits.run_seconds(key).items() if rows <= cap}

    def _slowest(self, position: int) -> RoleKey:
        """The engine that a component's steps take longest in."""
        return max(self._limits.roles(position), key=self._times.seconds)


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
    # Summed over components: one device runs one at a time.
    for position in {p for steps in (own, *ahead) for p in steps}:
        visits = [steps[position] for steps in (own, *ahead) if steps.get(position)]
        share = pace(len(visits), shared.get(position, {}))
        total += sum(visits) * step_s.get(position, 0.0) * share
    return max(alone, total)


def pace(sharing: int, run_s: Mapping[int, float]) -> float:
    """A row's share of a run that so many share, in runs of its own; 1 is no gain.

    Args:
        sharing: requests that want the component, this one included.
        run_s: rows to seconds of a run, up to the component's cap; empty for runs of one row.
    """
    if not run_s:
        return 1.0
    fewest = min(run_s)
    alone = run_s[fewest] / fewest
    sizes = [rows for rows in run_s if rows <= sharing * fewest]
    return min([1.0, *(run_s[rows] / rows / alone for rows in sizes)]) if alone else 1.0
