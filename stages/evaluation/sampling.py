"""Pictures from a checkpoint with the product's own stage code and the torch network.

Knows checkpoints and stages; not how they were trained or will be exported.
"""

from cascade.diffusion.spec import DiffusionSpec
from cascade.diffusion.stage import DiffusionStage
from cascade.errors import StageError
from cascade.events import StageFinished
from cascade.graph_spec import GraphSpec, ParityRecord, TensorSpec
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.types import ImageU8
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.efficient_unet import EfficientUNet
from stages.reference import PRESETS, StagePreset, stage_spec

POSITIONS = {name: position for position, name in enumerate(PRESETS, start=1)}
"""Places in the cascade; 0 is the text encoder."""

UNMEASURED = ParityRecord(max_abs_error=0.0, psnr_db=0.0, tolerance_abs=0.0)


def graph_inputs(preset: StagePreset) -> tuple[TensorSpec, ...]:
    """The inputs of a stage's graph; only the last stage leaves its height and width open."""
    image = image_shape(preset)
    width = preset.unet.context_width
    shapes: list[tuple[str, tuple[int | str, ...]]] = [
        ("x_t", image),
        ("t", ("batch",)),
        ("context", ("batch", "tokens", width)),
        ("context_mask", ("batch", "tokens")),
    ]
    if preset.low_resolution is not None:
        shapes += [("low_res", image), ("aug_level", ("batch",))]
    if preset.unet.guided:
        shapes.append(("guidance", ("batch",)))
    return tuple(TensorSpec(name=n, dtype="float32", shape=s) for n, s in shapes)


def graph_outputs(preset: StagePreset) -> tuple[TensorSpec, ...]:
    """The one output of a stage's graph."""
    return (TensorSpec(name="prediction", dtype="float32", shape=image_shape(preset)),)


def image_shape(preset: StagePreset) -> tuple[int | str, ...]:
    """Axes of a batch of images: fixed where attention sees the whole picture, else free."""
    if any(block.attention == "self" for block in preset.unet.blocks):
        return ("batch", 3, preset.resolution, preset.resolution)
    return ("batch", 3, "height", "width")


def torch_spec(preset: StagePreset) -> DiffusionSpec:
    """The manifest entry of a stage whose network was not exported."""
    graph = GraphSpec(
        file="none",
        inputs=graph_inputs(preset),
        outputs=graph_outputs(preset),
        storage="float32",
        parity=UNMEASURED,
    )
    return stage_spec(preset, graph, {})


def torch_stage(preset: StagePreset, network: EfficientUNet) -> DiffusionStage:
    """A stage that runs the torch network."""
    position = POSITIONS[preset.name]
    return DiffusionStage(torch_spec(preset), position, TorchEngine(network, "prediction"))


def run_stage(stage: DiffusionStage, request: GenerateRequest, handoff: Handoff) -> ImageU8:
    """The stage's picture, `[H, W, 3]` uint8."""
    image = run_to_end(stage, request, handoff).image
    if image is None:
        raise StageError("the stage ended without a picture")
    return image


def run_to_end(stage: Stage, request: GenerateRequest, handoff: Handoff) -> Handoff:
    """What a stage hands on: a picture or a latent, and the context where it is passed on.

    Raises:
        StageError: it ended without either.
    """
    for event in stage.run(request, handoff):
        if isinstance(event, StageFinished):
            return event.handoff
    raise StageError("the stage ended without a result")
