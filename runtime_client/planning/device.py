"""This machine as a place for a bundle's components: what can run here, and what was measured.

Asks the engine plan, the memory and the records of `cascade tune`. Knows no server.
"""

import time
from collections.abc import Collection
from contextlib import closing
from typing import Any, cast

from cascade.bundle.bundle import Bundle
from cascade.errors import EngineError, InvalidRequest, ManifestError
from cascade.families import cost_of, family_of
from cascade.family import ComponentSpec
from cascade.precision import Precision
from cascade.request import GenerateRequest
from cascade.stage import Stage
from cascade.tuning.dummy_inputs import dummy_handoff
from cascade.tuning.memory_needs import check_fits
from cascade.tuning.options import EngineOptions
from cascade.tuning.plan import plan_here
from runtime_client.local.local_times import tuned_seconds
from runtime_client.planning.facts import DeviceView

TOKENS = 8
"""Length of the made-up context: that of a short prompt."""


def device_view(bundle: Bundle, options: EngineOptions, loaded: Collection[int]) -> DeviceView:
    """What this machine can run of a bundle, and how fast as far as it was tuned.

    Args:
        bundle: an opened bundle; a component whose files are not there cannot run here.
        options: engine and precision that were asked for.
        loaded: positions of the components that are open.
    """
    components = bundle.manifest.components
    precisions = {}
    for at, spec in enumerate(components):
        found = precision_here(bundle, options, at, at in loaded)
        if found is not None:
            precisions[spec.name] = found
    tuned = tuned_seconds(bundle.manifest, options)
    sizes = {entry.name: entry.size_bytes for entry in bundle.manifest.files}
    return DeviceView(
        precisions=precisions,
        loaded=frozenset(components[at].name for at in loaded),
        tuned_s={name: times.run_s for name, times in tuned.items()},
        tuned_load_s={name: times.load_s for name, times in tuned.items()},
        file_bytes={spec.name: sum(sizes[f] for f in spec.files) for spec in components},
    )


def precision_here(
    bundle: Bundle, options: EngineOptions, position: int, is_open: object
) -> Precision | None:
    """What a component would be computed in here; None where it cannot run here."""
    if not bundle.has(position):
        return None
    try:
        plan = plan_here(bundle.manifest, options, (position,))
        if not is_open:
            check_fits(bundle, (position,), plan)
    except (InvalidRequest, EngineError, ManifestError):
        return None
    return plan.of(bundle.manifest.components[position].name).precision


def unit_seconds(stage: Stage, spec: ComponentSpec) -> float:
    """Seconds of a unit of a component's work here: of a made-up one, the second of two.

    Args:
        stage: the component, open.
        spec: its entry in the manifest.

    Raises:
        CascadeError: it cannot run.
    """
    handoff = dummy_handoff(spec, tokens=TOKENS)
    options = {spec.name: family_of(spec).dummy_run.options(spec)}
    request = GenerateRequest(prompt=handoff.prompt, label=handoff.label, options=options)
    seconds = 0.0
    # An engine does some of its work at its first run alone.
    for _ in range(2):
        begun = time.perf_counter()
        # Every stage is a generator; the protocol promises no more than an iterator.
        with closing(cast(Any, stage.run(request, handoff))) as events:
            for _event in events:
                pass
        seconds = time.perf_counter() - begun
    return seconds / cost_of(spec, request).units
