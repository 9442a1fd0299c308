"""How long the components after the cut would take on this machine: what a fallback must be left.

From what this client has run itself, else from what `cascade tune` measured. Knows seconds; neither
servers nor what is done when time runs short.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from cascade.bundle.manifest import Manifest
from cascade.cost import Cost
from cascade.errors import InvalidRequest
from cascade.families import cost_of
from cascade.request import GenerateRequest
from cascade.system.user_cache import user_cache_folder
from cascade.tuning.options import EngineOptions
from cascade.tuning.plan import plan_here
from cascade.tuning.records import read_tuning, tuning_key
from runtime_client.deadline import Deadline

MARGIN = 1.5
"""A machine that is busy, or hot, is slower than it was when it was measured."""
MORE_S = 1.0
"""For loading and for noticing that it is time."""
UNKNOWN_SHARE = 0.5
"""Part of the time that is left to a fallback of which nothing was measured."""


@dataclass(frozen=True, slots=True)
class TunedTimes:
    """What `cascade tune` measured of a component here."""

    run_s: Mapping[str, float]
    """Seconds of one run of each of its graphs, by role."""
    load_s: float


class LocalTimes:
    """Seconds of the work of each component here, as far as they are known."""

    def __init__(self, manifest: Manifest, engine_options: EngineOptions) -> None:
        """Nothing looked up yet.

        Args:
            manifest: of the bundle.
            engine_options: what would run it here.
        """
        self._manifest = manifest
        self._options = engine_options
        self._lock = threading.Lock()
        self._ran: dict[str, float] = {}
        self._tuned: dict[str, TunedTimes] | None = None

    def note(self, name: str, request: GenerateRequest, seconds: float) -> None:
        """A component has run here."""
        component = self._manifest.components[self._manifest.position(name)]
        with self._lock:
            # Per unit, as requests differ in steps; the last run counts alone, for it saw the
            # machine as it is.
            units = cost_of(component, request).units
        # None of a stage that hands on a picture of the caller's own.
        if units:
            self._ran[name] = seconds / units

    def rest_s(self, request: GenerateRequest, positions: range) -> float | None:
        """Seconds that components take for a request, loading included; None if unknown."""
        total = 0.0
        for position in positions:
            component = self._manifest.components[position]
            seconds = self._of(component.name, cost_of(component, request))
            if seconds is None:
                return None
            total += seconds
        return total

    def _of(self, name: str, cost: Cost) -> float | None:
        """Seconds of a component's work; one that has run is loaded."""
        with self._lock:
            if name in self._ran:
                return cost.units * self._ran[name]
            if self._tuned is None:
                self._tuned = tuned_seconds(self._manifest, self._options)
            found = self._tuned.get(name)
        if found is None or not set(cost.runs) <= set(found.run_s):
            return None
        return sum(n * found.run_s[role] for role, n in cost.runs.items()) + found.load_s


def tuned_seconds(manifest: Manifest, engine_options: EngineOptions) -> dict[str, TunedTimes]:
    """Times by component, of the engines that would be taken here."""
    cache = user_cache_folder()
    key = tuning_key(manifest.bundle_id, engine_options.threads)
    tuning = None if cache is None else read_tuning(cache / "tuning", key)
    if tuning is None:
        return {}
    try:
        plan = plan_here(manifest, engine_options)
    except InvalidRequest:
        # Nothing here runs it; the fallback would say so.
        return {}
    found: dict[str, TunedTimes] = {}
    for name, choice in plan.choices.items():
        measured = [
            m
            for m in tuning.measurements
            if (m.component, m.kind, m.precision) == (name, choice.kind, choice.precision)
            and not m.failed
        ]
        if measured:
            run_s = {m.role: m.step_ms / 1000 for m in measured}
            found[name] = TunedTimes(run_s, sum(m.load_s for m in measured))
    return found


def before_fallback(deadline: Deadline, rest_s: float | None) -> Deadline:
    """When a server must be done, so that the rest could still run here.

    Args:
        deadline: of the whole request.
        rest_s: what the rest takes here; None if unknown.

    Returns:
        The request's own deadline where the rest could not be done in time anyway.
    """
    left = deadline.remaining_s()
    reserve = UNKNOWN_SHARE * left if rest_s is None else MARGIN * rest_s + MORE_S
    return deadline.earlier(reserve) if reserve < left else deadline
