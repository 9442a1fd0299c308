"""How long the components after the cut would take on this machine: what a fallback must be left.

From what this client has run itself, else from what `cascade tune` measured. Knows seconds; neither
servers nor what is done when time runs short.
"""

import threading

from cascade.bundle.manifest import Component, Manifest
from cascade.diffusion.options import resolve_options
from cascade.diffusion.spec import DiffusionSpec
from cascade.errors import InvalidRequest
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


class LocalTimes:
    """Seconds of one step of each component here, as far as they are known."""

    def __init__(self, manifest: Manifest, engine_options: EngineOptions) -> None:
        """Nothing looked up yet.

        Args:
            manifest: of the bundle.
            engine_options: what would run it here.
        """
        self._manifest = manifest
        self._wish = engine_options
        self._lock = threading.Lock()
        self._ran: dict[str, float] = {}
        self._tuned: dict[str, tuple[float, float]] | None = None

    def note(self, name: str, request: GenerateRequest, seconds: float) -> None:
        """A component has run here."""
        component = self._manifest.components[self._manifest.position(name)]
        with self._lock:
            self._ran[name] = seconds / steps_of(component, request)

    def rest_s(self, request: GenerateRequest, positions: range) -> float | None:
        """Seconds that components take for a request, loading included; None if unknown."""
        total = 0.0
        for position in positions:
            component = self._manifest.components[position]
            step_s, load_s = self._of(component.name)
            if step_s is None:
                return None
            total += steps_of(component, request) * step_s + load_s
        return total

    def _of(self, name: str) -> tuple[float | None, float]:
        """Seconds of a step and of loading; one that has run is loaded."""
        with self._lock:
            if name in self._ran:
                return self._ran[name], 0.0
            if self._tuned is None:
                self._tuned = tuned_seconds(self._manifest, self._wish)
            return self._tuned.get(name, (None, 0.0))


def tuned_seconds(
    manifest: Manifest, engine_options: EngineOptions
) -> dict[str, tuple[float, float]]:
    """Seconds of a step and of loading by component, of the engines that would be taken here."""
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
    chosen = {(name, choice.kind, choice.precision) for name, choice in plan.choices.items()}
    return {
        m.component: (m.step_ms / 1000, m.load_s)
        for m in tuning.measurements
        if (m.component, m.kind, m.precision) in chosen and not m.failed
    }


def steps_of(component: Component, request: GenerateRequest) -> int:
    """Runs of the engine that a request takes of a component."""
    if not isinstance(component, DiffusionSpec):
        return 1
    return resolve_options(component, request.options.get(component.name)).steps


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
