"""Step times of a bundle's stages on this machine, as the simulation of policies takes them.

Measured with the server's own trial, and the host's share by a run of the stage. Knows stages; not
what is simulated.
"""

import time
from pathlib import Path

from benchmarks.lib.policy_simulation import StageTiming
from cascade.boundary import Image
from cascade.bundle.bundle import open_bundle
from cascade.families import cost_of
from cascade.graph_spec import NET
from cascade.request import GenerateRequest, Handoff
from cascade.stage import EngineStage
from cascade.stage_factory import open_stages
from cascade.tuning.dummy_inputs import dummy_handoff
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import plan_here
from runtime_server.batching.batch_calibration import measure_rows

TOKENS = 8


def measure_timings(
    folder: Path, *, first: int, threads: int = 0, last: int | None = None, max_rows: int = 0
) -> list[StageTiming]:
    """Timings of the diffusion stages from one position to another.

    Args:
        folder: of the bundle.
        first: position to begin with.
        threads: of one run; 0 takes one per core.
        last: position to end with; None is the cascade's end.
        max_rows: as an operator sets it; 0 lets the times decide.
    """
    bundle = open_bundle(folder)
    components = bundle.manifest.components
    positions = range(first, len(components) if last is None else last + 1)
    plan = plan_here(bundle.manifest, parse_engine_options("auto", "auto", threads), positions)
    found = []
    for position, stage in zip(positions, open_stages(bundle, positions, plan), strict=True):
        spec = components[position]
        if isinstance(spec.makes, Image):
            run_s = measure_rows(spec, stage.engines[NET], time.perf_counter)
            handoff = dummy_handoff(bundle.manifest.components[position], tokens=TOKENS)
            step_s = min(stage_seconds(stage, handoff) for _ in range(2)) / cost_of(spec).units
            found.append(
                StageTiming(
                    name=spec.name,
                    steps=cost_of(spec).units,
                    run_s=run_s,
                    host_s=max(0.0, step_s - run_s[1]),
                    max_rows=max_rows,
                )
            )
        stage.close()
    return found


def stage_seconds(stage: EngineStage, handoff: Handoff) -> float:
    """Seconds of a whole run of one stage."""
    begun = time.perf_counter()
    for _ in stage.run(GenerateRequest(), handoff):
        pass
    return time.perf_counter() - begun
