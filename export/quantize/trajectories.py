"""What a stage's network is really shown: its inputs along true runs of the product's own sampler.

Guidance, thresholding, augmentation and every t of the schedule are in them because the stage
itself runs. Elsewhere: collecting calibration data.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec
from cascade.engine import Engine
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array
from export.quantize.sampled_runs import StageBlueprint
from stages.evaluation.sampling import run_to_end

CROP = 256
"""Side of what is kept of an evaluation, pixels, where the network takes any size."""

Case = dict[str, Array]


class RecordingEngine:
    """An engine that keeps every input it was given; see `cascade.engine.Engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.cases: list[Case] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The wrapped engine's answer to inputs of the shapes that its graph declares."""
        self.cases.append({name: value.copy() for name, value in inputs.items()})
        return self._engine.run(inputs)

    def terminate(self) -> None:
        """End the wrapped engine's run."""
        self._engine.terminate()

    def close(self) -> None:
        """Leave the wrapped engine to its owner."""


def trajectory_cases(
    blueprint: StageBlueprint, engine: Engine, starts: Sequence[Handoff], *, limit: int
) -> list[Case]:
    """Graph inputs from whole runs, at most `limit`, spread evenly over all steps of all runs.

    Args:
        blueprint: the stage; steps and guidance are its defaults, the augmentation varies.
        engine: runs the float32 graph.
        starts: context and, for super-resolution, the image of each run.
        limit: so many evaluations are kept.

    Returns:
        Batches of the graph's inputs by name, float32; pictures cut to `CROP` where their size is
        free.
    """
    spec, recorder = blueprint.spec, RecordingEngine(engine)
    stage = blueprint.open(recorder)
    for seed, start in enumerate(starts):
        options = {spec.name: DiffusionOptions(augmentation=augmentation(spec, seed, len(starts)))}
        run_to_end(stage, GenerateRequest(seed=seed, options=options), start)
    count = len(recorder.cases)
    kept = np.unique(np.linspace(0, count - 1, min(limit, count)).round().astype(int))
    free = any(isinstance(axis, str) for axis in spec.graph.outputs[0].shape[2:])
    cases = [recorder.cases[i] for i in kept]
    return [cropped(case, n) for n, case in enumerate(cases)] if free else cases


def augmentation(spec: DiffusionSpec, number: int, count: int) -> float | None:
    """The default level for every other run, levels spread over the allowed range for the rest."""
    if spec.augmentation is None or number % 2 == 0:
        return None
    low, high = spec.augmentation.lowest, spec.augmentation.highest
    return low + (high - low) * number / max(1, count - 1)


def cropped(case: Case, number: int) -> Case:
    """A window of every image, at a place that differs from case to case."""
    rng = np.random.default_rng(number)
    height, width = case["x_t"].shape[2:]
    if min(height, width) <= CROP:
        return case
    # Pictures stand in the middle; their margins are flat and would teach nothing.
    top = int(rng.integers(height // 8, height - CROP - height // 8 + 1))
    left = int(rng.integers(width // 8, width - CROP - width // 8 + 1))
    return {
        name: value[:, :, top : top + CROP, left : left + CROP] if value.ndim == 4 else value
        for name, value in case.items()
    }
