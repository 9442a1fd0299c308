"""What a stage's network is really shown: its inputs along true runs of the product's own sampler.

Guidance, thresholding, augmentation and every t of the schedule are in them because the stage
itself runs; super-resolution starts both from true pictures and from what the stage before it
painted. Knows stages and the data; not graphs or ranges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec
from cascade.diffusion.stage import DiffusionStage
from cascade.engine import Engine
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array, ContextF16, ImageU8
from stages.data.dataset import Dataset, box_average
from stages.evaluation.sampling import POSITIONS, run_stage
from stages.presets import StagePreset

CROP = 256
"""Side of what is kept of an evaluation, pixels, where the network takes any size."""

Case = dict[str, Array]


class RecordingEngine:
    """An engine that keeps every input it was given; see `cascade.engine.Engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.cases: list[Case] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The wrapped engine's answer."""
        self.cases.append({name: value.copy() for name, value in inputs.items()})
        return self._engine.run(inputs)

    def terminate(self) -> None:
        """End the wrapped engine's run."""
        self._engine.terminate()

    def close(self) -> None:
        """Leave the wrapped engine to its owner."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a stage is besides its entry and its graph."""

    position: int
    """Its place in the cascade: the noise's stage number."""
    null_context: ContextF16 | None = None
    """`[tokens, width]` of its unconditional text, where the bundle stores one."""

    def stage(self, spec: DiffusionSpec, engine: Engine) -> DiffusionStage:
        """The stage, run by an engine."""
        return DiffusionStage(spec, self.position, engine, null_context=self.null_context)


def reference_seat(spec: DiffusionSpec) -> Seat:
    """That of a stage of the reference cascade."""
    return Seat(POSITIONS[spec.name])


def trajectory_cases(
    spec: DiffusionSpec,
    engine: Engine,
    starts: Sequence[Handoff],
    *,
    limit: int,
    seat: Seat | None = None,
) -> list[Case]:
    """Graph inputs from whole runs, at most `limit`, spread evenly over all steps of all runs.

    Args:
        spec: the stage; steps and guidance are its defaults, the augmentation varies.
        engine: runs the float32 graph.
        starts: context and, for super-resolution, the image of each run.
        limit: so many evaluations are kept.
        seat: of the stage; None for one of the reference cascade.
    """
    recorder = RecordingEngine(engine)
    stage = (seat or reference_seat(spec)).stage(spec, recorder)
    for seed, start in enumerate(starts):
        options = {spec.name: DiffusionOptions(augmentation=augmentation(spec, seed, len(starts)))}
        run_stage(stage, GenerateRequest(seed=seed, options=options), start)
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


def true_starts(preset: StagePreset, data: Dataset, count: int, *, offset: float) -> list[Handoff]:
    """Contexts of the data, and the true small pictures, spread over concepts and styles.

    Args:
        preset: the stage.
        data: prepared data.
        count: how many.
        offset: 0 to 1, shifts which examples are taken, so that two uses share none.
    """
    usable = [
        i for i in range(len(data.examples)) if preset.resolution < 1024 or data.pictures_1024[i]
    ]
    picked = ((np.arange(count) + offset) * len(usable) / count).astype(int) % len(usable)
    starts = []
    for index in (usable[i] for i in picked):
        context = data.embeddings[data.examples[index].captions[0]].astype(np.float16)
        image: ImageU8 | None = None
        if preset.low_resolution is not None:
            large = data.picture(index, preset.resolution)
            image = box_average(large, preset.resolution // preset.low_resolution)
        starts.append(Handoff(context=context, image=image))
    return starts


def continued(start: Handoff, image: ImageU8) -> Handoff:
    """The start of the next stage: the same words, the picture painted so far."""
    return replace(start, image=image)
