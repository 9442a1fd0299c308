"""Which of several measured ways to run a component is taken: the most exact that is not slower.

Pure. Knows milliseconds, precisions and what the exporter says of a file's pictures; not how any of
them was measured, nor what was asked for.
"""

from collections.abc import Mapping

from cascade.bundle.manifest import Component, Manifest
from cascade.diffusion.spec import DiffusionSpec
from cascade.engines.kinds import EngineKind
from cascade.precision import Precision
from cascade.tuning.records import Tuning

NEAR = 0.10
"""Slower than the fastest by less than this share is as fast: a machine drifts by as much."""
NEGLIGIBLE = 0.01
"""And so is what makes a whole request longer by less than this share."""
CLOSE_DB = 38.0
"""Worst picture of a file, against float32, below which it is taken only when asked for: what a
stage changes is carried through the stages after it."""
EXACTNESS = tuple(Precision)
"""The enumeration's order: the exact ones first."""


def preferred(
    times: Mapping[tuple[EngineKind, Precision], float], steps: int, request_ms: float
) -> tuple[EngineKind, Precision]:
    """The most exact precision that costs no time worth having, in its fastest engine.

    Args:
        times: milliseconds of one step, at least one.
        steps: of a request.
        request_ms: of a whole request, all components at their fastest; 0 where it is not known.
    """
    best = min(times.values())
    allowed = best + max(NEAR * best, NEGLIGIBLE * request_ms / steps)
    found = [pair for pair, step_ms in times.items() if step_ms <= allowed]
    return min(found, key=lambda pair: (EXACTNESS.index(pair[1]), times[pair]))


def request_ms(manifest: Manifest, tuning: Tuning) -> float:
    """Milliseconds of a request's engines at their fastest; what was never measured counts as 0."""
    fastest = ((c, min(tuning.usable(c.name).values(), default=0.0)) for c in manifest.components)
    return sum(default_steps(component) * step_ms for component, step_ms in fastest)


def default_steps(component: Component) -> int:
    """Runs of the engine for one picture, with the manifest's defaults."""
    return component.steps if isinstance(component, DiffusionSpec) else 1


def distant(component: Component) -> set[Precision]:
    """The precisions of which the exporter found pictures too far from float32 to take unasked."""
    return {v.precision for v in component.graph.variants if v.picture_db < CLOSE_DB}
