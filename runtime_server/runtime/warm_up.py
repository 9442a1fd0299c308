"""One made-up step through every hosted component, before anybody may wait for one.

What an engine does only at its first run (memory, kernels chosen by shape) is done here, and a
graph that loads and cannot run is found here. Knows stages; not who serves them.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, cast

from cascade.bundle.manifest import Manifest
from cascade.errors import StageError
from cascade.events import StageFinished
from cascade.families import family_of
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.tuning.dummy_inputs import dummy_handoff

TOKENS = 8
"""Length of the made-up context: that of a short prompt."""


def warm_up(stage: Stage, manifest: Manifest) -> Mapping[str, float]:
    """Run a stage for one step, with the options that most requests have.

    Args:
        stage: at rest; others may be opened and warmed up beside it.
        manifest: of its bundle.

    Returns:
        Seconds of that step per component.

    Raises:
        CascadeError: the stage cannot run.
    """
    return {name: time_step(stage, manifest, name) for name in stage.names}


def time_step(stage: Stage, manifest: Manifest, name: str) -> float:
    """Seconds that one step of a stage took, its beginning and end included."""
    request, handoff = probe_of(manifest, name)
    begun = time.perf_counter()
    # Every stage is a generator; the protocol promises no more than an iterator.
    with closing(cast(Any, stage.run(request, handoff))) as events:
        if not any(isinstance(event, StageFinished) for event in events):
            raise StageError(f"{name} ended without a result")
    return time.perf_counter() - begun


def probe_of(manifest: Manifest, name: str) -> tuple[GenerateRequest, Handoff]:
    """The least work that shows whether a component works: request and what it starts from."""
    component = manifest.components[manifest.position(name)]
    handoff = dummy_handoff(component, tokens=TOKENS)
    options = {name: family_of(component).dummy_run.options(component)}
    request = GenerateRequest(prompt=handoff.prompt, label=handoff.label, options=options)
    return request, handoff
