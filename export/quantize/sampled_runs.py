"""A stage without its engine, and runs of it: what calibration and proof of int8 are made of.

Quantising another way than by the product's own sampler would calibrate on inputs that no run
shows the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.diffusion.spec import DiffusionSpec
from cascade.diffusion.stage import DiffusionStage
from cascade.engine import Engine
from cascade.errors import StageError
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.types import ContextF16, ImageU8
from export.description import RunStarts
from stages.evaluation.sampling import run_to_end


@dataclass(frozen=True, slots=True)
class StageBlueprint:
    """All that a stage is but its engine."""

    spec: DiffusionSpec
    position: int
    """Its place in the cascade: the noise's stage number."""
    null_context: ContextF16 | None = None
    """`[tokens, width]` float16 of its unconditional text, where the bundle stores one."""
    shown_by: Stage | None = None
    """The decoder behind a stage of latents: its picture is what the latent is judged by."""

    def open(self, engine: Engine) -> DiffusionStage:
        """The stage, run by an engine."""
        return DiffusionStage(self.spec, self.position, engine, null_context=self.null_context)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledRuns:
    """Runs of a stage's float32 graph."""

    blueprint: StageBlueprint
    engine: Engine
    """Runs the graph."""
    starts: RunStarts
    proof_images: tuple[ImageU8, ...]
    """The picture `[H, W, 3]` uint8 of every start of the proof, in order."""
    described: bool
    """Whether the description brought the starts: then no two share their words."""


def sample_images(
    blueprint: StageBlueprint, engine: Engine, starts: Sequence[Handoff]
) -> list[ImageU8]:
    """The stage's picture `[H, W, 3]` uint8 from every start; its seed is its number.

    Raises:
        StageError: the stage makes latents, and nothing shows them.
    """
    stage, images = blueprint.open(engine), []
    for number, start in enumerate(starts):
        request = GenerateRequest(seed=number)
        made = run_to_end(stage, request, start)
        if blueprint.shown_by is not None:
            made = run_to_end(blueprint.shown_by, request, made)
        if made.image is None:
            raise StageError(f"{blueprint.spec.name}: ended without a picture")
        images.append(made.image)
    return images
