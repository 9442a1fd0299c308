"""Which of several measured ways to run a component is taken: the most exact that is not slower.

Pure. Knows milliseconds, precisions and what the exporter says of a file's pictures; not how any of
them was measured, nor what was asked for.
"""

import math
from collections.abc import Mapping

from cascade.bundle.manifest import Manifest
from cascade.engines.kinds import EngineKind
from cascade.families import cost_of
from cascade.family import ComponentSpec
from cascade.graph_spec import PICTURE_DB
from cascade.precision import Precision
from cascade.tuning.records import Tuning

NEAR = 0.10
"""Slower than the fastest by less than this share is as fast: a machine drifts by as much."""
NEGLIGIBLE = 0.01
"""And so is what makes a whole request longer by less than this share."""
CLOSE_DB = 38.0
"""Worst picture of a file, against float32, below which it is taken only when asked for: what a
stage changes is carried through the stages after it."""
CLOSE = {PICTURE_DB: CLOSE_DB}
"""By metric, the least value of what may be taken unasked; a metric that is not here never is."""
EXACTNESS = tuple(Precision)
"""The enumeration's order: the exact ones first."""


def preferred(
    times: Mapping[tuple[EngineKind, Precision], float], request_ms: float
) -> tuple[EngineKind, Precision]:
    """The most exact precision that costs no time worth having, in its fastest engine.

    Args:
        times: milliseconds of the component in one request, at least one.
        request_ms: of a whole request, all components at their fastest; 0 where it is not known.
    """
    best = min(times.values())
    allowed = best + max(NEAR * best, NEGLIGIBLE * request_ms)
    found = [pair for pair, spent_ms in times.items() if spent_ms <= allowed]
    return min(found, key=lambda pair: (EXACTNESS.index(pair[1]), times[pair]))


def request_ms(manifest: Manifest, tuning: Tuning) -> float:
    """Milliseconds of a request's engines at their fastest; what was never measured counts as 0."""
    return sum(
        min(tuning.usable(component.name, cost_of(component).runs).values(), default=0.0)
        for component in manifest.components
    )


def lossy_precisions(component: ComponentSpec) -> set[Precision]:
    """The precisions of which the exporter found pictures too far from float32 to take unasked."""
    return {
        variant.precision
        for graph in component.graphs.values()
        for variant in graph.variants
        if variant.quality.value < CLOSE.get(variant.quality.metric, math.inf)
    }
