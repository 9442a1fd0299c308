"""A folder of imagen-pytorch as a described cascade: the state dict of `Imagen` and its arguments.

Knows this folder; not how a bundle is written.
"""

from dataclasses import replace
from pathlib import Path
from typing import cast

from torch import Tensor

from cascade.diffusion.parametrization import Prediction
from cascade.diffusion.schedule import TableSpec
from cascade.diffusion.spec import (
    AugmentationSpec,
    EnlargeKind,
    GuidanceConvention,
    GuidanceSpec,
    ThresholdSpec,
)
from cascade.errors import UnsupportedModel
from export.adapters.imagen_arguments import (
    OBJECTIVES,
    THOUSANDTHS,
    ImagenArguments,
    ImagenStage,
    read_imagen,
)
from export.adapters.imagen_networks import ImagenNetwork, powers, table_of
from export.adapters.weights_folder import read_weights
from export.description import CascadeDescription, StageDescription, TextEncoderDescription
from export.layouts.imagen_unet import ImagenUNet
from export.layouts.state_dict import filled

PROJECTED: GuidanceConvention = "cond + (w - 1) orthogonal to prediction"
UNPROJECTED: GuidanceConvention = "uncond + w (cond - uncond)"
TABLE_STEPS = 1000
"""Times of a schedule, where the run's are among them."""


def describe_imagen(
    folder: Path, text_encoder: TextEncoderDescription | None
) -> CascadeDescription:
    """A cascade from a folder of imagen-pytorch.

    Args:
        folder: `model.safetensors`, the state dict of `Imagen`, and `arguments.json`.
        text_encoder: what its texts were encoded with; needed where it has words.

    Raises:
        UnsupportedModel: naming the file and the field.
    """
    arguments = read_imagen(folder)
    path, tensors = read_weights(folder)
    width = text_width(arguments, text_encoder)
    stages = []
    for number, stage in enumerate(arguments.stages):
        shape = stage.shape
        if arguments.has_words:
            shape = replace(shape, embedded=width)
        prefix = f"unets.{number}."
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        unet = filled(ImagenUNet(shape), own, path, prefix)
        stages.append(described_stage(arguments, stage, unet))
    refuse_left_over(path, tensors, len(stages))
    return CascadeDescription(
        stages=tuple(stages),
        licence="the model's own: see where its weights come from",
        provenance=f"imagen-pytorch folder {folder.name}",
        text_encoder=text_encoder if arguments.has_words else None,
    )


def refuse_left_over(path: Path, tensors: dict[str, Tensor], count: int) -> None:
    """Refuse weights of no U-Net that is described.

    Raises:
        UnsupportedModel: naming the weight.
    """
    known = tuple(f"unets.{number}." for number in range(count))
    for name in tensors:
        if not name.startswith(known):
            raise UnsupportedModel(
                f"{path}: {name} has no place among the {count} unets of the arguments",
                field=f"{path}:{name}",
            )


def text_width(arguments: ImagenArguments, encoder: TextEncoderDescription | None) -> int | None:
    """Width of the embeddings that the networks read; None without words.

    Raises:
        UnsupportedModel: there is no encoder, or one of another width.
    """
    if not arguments.has_words:
        if encoder is not None:
            raise UnsupportedModel(
                f"--text-encoder: {arguments.path} has condition_on_text false: leave it out",
                field=f"{arguments.path}:condition_on_text",
            )
        return None
    if encoder is None:
        raise UnsupportedModel(
            f"{arguments.path}: condition_on_text is True: give the T5 encoder that its texts were "
            "encoded with, --text-encoder FOLDER",
            field=f"{arguments.path}:condition_on_text",
        )
    if arguments.embedded not in (None, encoder.context_width):
        raise UnsupportedModel(
            f"{arguments.path}: text_embed_dim is {arguments.embedded}; supported: the text "
            f"encoder's {encoder.context_width}",
            field=f"{arguments.path}:text_embed_dim",
        )
    return encoder.context_width


def described_stage(
    arguments: ImagenArguments, stage: ImagenStage, unet: ImagenUNet
) -> StageDescription:
    """One U-Net as a stage."""
    # The library's times are i / timesteps; other numbers of steps find theirs in the same table.
    rows = stage.steps if TABLE_STEPS % stage.steps else TABLE_STEPS
    table, levels = table_of(stage.schedule, rows), table_of(arguments.noising, THOUSANDTHS)
    at_zero, *rest = powers(table)
    is_projected = arguments.is_projected and arguments.has_words
    convention: GuidanceConvention = PROJECTED if is_projected else UNPROJECTED
    guidance = GuidanceSpec(kind="constant", weight=stage.scale, convention=convention)
    noising = TableSpec(alpha_bar=powers(levels)[1:], spacing="trailing")
    return StageDescription(
        name="base" if stage.low is None else f"sr{stage.size}",
        network=ImagenNetwork(unet, table, levels).eval(),
        output_resolution=stage.size,
        input_resolution=stage.low,
        steps=stage.steps,
        schedule=TableSpec(alpha_bar=tuple(rest), spacing="trailing", at_zero=at_zero),
        prediction=cast("Prediction", OBJECTIVES[stage.objective]),
        sampler="ddpm_final_mean",
        guidance=guidance,
        threshold=ThresholdSpec(kind="dynamic", percentile=arguments.percentile)
        if stage.is_dynamic
        else ThresholdSpec(kind="static"),
        enlarge=cast("EnlargeKind", arguments.enlarge),
        augmentation=None
        if stage.low is None
        else AugmentationSpec(
            lowest=1 / THOUSANDTHS,
            highest=1.0,
            default=arguments.level / THOUSANDTHS,
            schedule=noising,
        ),
        uses_context=arguments.has_words,
        uses_mask=arguments.has_words,
        training={"parameters": float(sum(p.numel() for p in unet.parameters()))},
    )
