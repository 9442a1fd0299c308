"""Parity: is the exported graph still its original?

Compares a torch network with its graph on given inputs, and two whole cascades on the same
requests. Elsewhere: numerical validation of an exported model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.engine import Engine
from cascade.errors import ParityError
from cascade.events import StageFinished
from cascade.generate import generate
from cascade.graph_spec import ParityRecord
from cascade.request import FamilyOptions, GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.types import Array, ImageU8, Vector
from export.subjects import Subject, handoff_of
from stages.evaluation.metrics import psnr_db

TOLERANCE_ABS = 5e-3
"""Largest difference of one output value. Float32 sums in another order over some dozen layers give
1e-5 to 1e-4; super-resolution sees the residual enlarged by up to 1 /
`UNetConfig.residual_std` = 20 and reached 2e-3 in single values at the cleanest times, where v
hardly matters to the picture."""


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """Two cascades on the same requests.

    Attributes:
        psnr_db: worst PSNR per stage over the prompts, 8-bit pictures; infinite when identical.
        differing: share of 8-bit samples that differ at the last stage.
    """

    psnr_db: Mapping[str, float]
    differing: float


def compare_engines(
    original: Engine,
    exported: Engine,
    cases: Sequence[Mapping[str, Array]],
    output: str,
    *,
    tolerance_abs: float = TOLERANCE_ABS,
) -> ParityRecord:
    """Measure one output of one component.

    Args:
        original: the torch network.
        exported: runs the graph.
        cases: batches of inputs, by name.
        output: of any shape, the same of both.
        tolerance_abs: largest difference of one value, in the output's own unit.

    Raises:
        ParityError: a value is not finite, or further off than `tolerance_abs`.
    """
    worst, squares, count, peak = 0.0, 0.0, 0, 0.0
    for case in cases:
        reference = original.run(case)[output]
        value = exported.run(case)[output]
        finite = np.isfinite(value).all() and np.isfinite(reference).all()
        if value.shape != reference.shape or not finite:
            raise ParityError(f"{output}: shape {value.shape} or values that are not finite")
        # In double precision, so that the measure adds nothing of what it measures.
        difference = np.abs(value.astype(np.float64) - reference)
        worst = max(worst, float(difference.max()))
        squares += float((difference**2).sum())
        count += difference.size
        peak = max(peak, float(np.abs(reference).max()))
    # 200 dB for equal answers: JSON has no infinity, and the manifest is JSON.
    noise = max(squares / count, 1e-20)
    record = ParityRecord(
        max_abs_error=worst,
        # The range is -peak to peak, as a prediction has both signs.
        psnr_db=round(float(10 * np.log10((2 * peak) ** 2 / noise)), 1),
        tolerance_abs=tolerance_abs,
    )
    if worst > tolerance_abs:
        raise ParityError(
            f"{output}: max abs error {worst:.2e} is over the tolerance {tolerance_abs:.0e}"
        )
    return record


def compare_cascades(
    original: Sequence[Stage],
    exported: Sequence[Stage],
    prompts: Sequence[Subject],
    options: Mapping[str, FamilyOptions] | None = None,
    vectors: Mapping[str, Vector] | None = None,
) -> EndToEnd:
    """Run both cascades on the same prompts, seeds and noise and compare their pictures.

    Args:
        original: stages over the torch networks.
        exported: stages over the graphs.
        prompts: one run each, or what else the cascade starts from; a run's seed is its number.
        options: of some stages by name; the others take their defaults.
        vectors: what stages read beside the words, `[width]` float32 by name.
    """
    worst: dict[str, float] = {}
    differing = 0.0
    for seed, prompt in enumerate(prompts):
        start = replace(handoff_of(prompt), vectors=vectors or {})
        request = GenerateRequest(
            prompt=start.prompt, label=start.label, seed=seed, options=dict(options or {})
        )
        reference = pictures(original, request, start)
        result = pictures(exported, request, start)
        for name, image in result.items():
            worst[name] = min(worst.get(name, np.inf), psnr_db(image, reference[name]))
        last = list(result)[-1]
        differing = max(differing, float(np.mean(result[last] != reference[last])))
    return EndToEnd(worst, differing)


def pictures(
    stages: Sequence[Stage], request: GenerateRequest, start: Handoff | None = None
) -> dict[str, ImageU8]:
    """The picture `[H, W, 3]` uint8 of every stage by name, from the prompt where start is None."""
    return {
        event.stage: event.handoff.image
        for event in generate(stages, request, start)
        if isinstance(event, StageFinished) and event.handoff.image is not None
    }


def stage_picture(stage: Stage, start: Handoff, seed: int) -> ImageU8:
    """The picture `[H, W, 3]` uint8 that a stage makes with its defaults.

    Raises:
        ParityError: it makes none.
    """
    for event in stage.run(GenerateRequest(seed=seed), start):
        if isinstance(event, StageFinished) and event.handoff.image is not None:
            return event.handoff.image
    raise ParityError(f"{', '.join(stage.names)} made no picture")
