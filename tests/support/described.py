"""A described cascade as stages over its own torch networks, without an export.

What a bundle of it would compute: the exporter proves every graph equal to its network. For
comparisons with the library that a cascade comes from, by the hundred.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec
from cascade.diffusion.stage import DiffusionStage
from cascade.graph_spec import GraphSpec
from cascade.request import GenerateRequest, Handoff
from cascade.types import ContextF16, ImageU8
from export.components.component import ProvenGraph
from export.components.diffusion import stage_entry
from export.components.synthetic_cases import stage_inputs, stage_outputs
from export.description import CascadeDescription, StageDescription
from stages.evaluation.sampling import UNMEASURED, run_stage
from stages.evaluation.torch_engine import TorchEngine

SEED = 11


@dataclass(frozen=True, slots=True)
class CascadeStart:
    """What a cascade starts from."""

    context: ContextF16 | None = None
    """`[tokens, width]` float16."""
    image: ImageU8 | None = None
    """`[h, w, 3]` uint8."""


def entry_of(
    description: CascadeDescription, stage: StageDescription, null: ContextF16 | None
) -> tuple[DiffusionSpec, TorchEngine]:
    """A stage's entry as its bundle would have it, and its network behind the engine contract.

    Args:
        description: of the cascade.
        stage: of it.
        null: its null context, `[tokens, width]` float16, where it has one.
    """
    inputs, outputs = stage_inputs(stage, description.encoder), stage_outputs(stage)
    engine = TorchEngine(stage.network, *(output.name for output in outputs))
    graph = GraphSpec(
        file="none", inputs=inputs, outputs=outputs, storage="float32", parity=UNMEASURED
    )
    proven = ProvenGraph(
        spec=graph,
        files={},
        optimized=onnx.ModelProto(),
        provenance={},
        original=engine,
        exported=engine,  # type: ignore[arg-type]
        cases=(),
    )
    return stage_entry(stage, proven, null), engine


def described_pictures(
    description: CascadeDescription,
    start: CascadeStart,
    *,
    null: ContextF16 | None = None,
    steps: Mapping[str, int] | None = None,
    seed: int = SEED,
) -> dict[str, ImageU8]:
    """The picture `[H, W, 3]` uint8 of every stage by name.

    Args:
        description: of a cascade; its encoder is not asked.
        start: what the encoder would have made, and a picture where the first stage starts there.
        null: the null context of every stage, `[tokens, width]` float16, where there is one.
        steps: by stage name; the others take their defaults.
        seed: of the run.
    """
    first = 0 if description.encoder is None else 1
    image, found = start.image, {}
    for position, stage in enumerate(description.stages, start=first):
        assert isinstance(stage, StageDescription)
        spec, engine = entry_of(description, stage, null)
        opened = DiffusionStage(spec, position, engine, null_context=null)
        options = {n: DiffusionOptions(steps=k) for n, k in (steps or {}).items()}
        image = run_stage(
            opened,
            GenerateRequest(seed=seed, options=options),
            Handoff(context=start.context, image=image),
        )
        found[stage.name] = image
    return found


def one_hot(chosen: int, classes: int) -> ContextF16:
    """The context of a class, `[1, classes]` float16."""
    return np.eye(classes, dtype=np.float16)[None, chosen]


def picture_of(size: int, seed: int = 5) -> ImageU8:
    """Any picture, `[size, size, 3]` uint8."""
    return np.asarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3)), np.uint8)


def psnr_of(pairs: Sequence[tuple[ImageU8, ImageU8]]) -> float:
    """The worst PSNR of pairs of pictures, dB; 99 where all are the same to the byte."""
    worst = 99.0
    for found, wanted in pairs:
        error = float(((found.astype(np.float64) - wanted) ** 2).mean())
        worst = min(worst, 99.0 if error == 0 else float(10 * np.log10(255**2 / error)))
    return worst
