"""Choices for one component on the wire: a message per family, and what older clients say instead.

A new family adds its message to the oneof in `StageOptions` and a line to each of the two tables.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import StageError
from cascade.labels.request_options import LabelOptions
from cascade.latents.request_options import AutoencoderOptions
from cascade.pixels.request_options import PixelOptions
from cascade.request import FamilyOptions
from cascade.text.request_options import TextOptions
from protos.cascade.v1 import cascade_pb2 as pb


def chosen(options: FamilyOptions) -> dict[str, Any]:
    """The choices that were made; what is None stays unset, an explicit 0 does not."""
    return {name: value for name, value in asdict(options).items() if value is not None}


def options_message(options: FamilyOptions) -> pb.StageOptions:
    """The choices for one component.

    Raises:
        StageError: of a family without a message.
    """
    write = WRITERS.get(type(options))
    if write is None:
        raise StageError(f"{type(options).__name__} has no message of the wire")
    return write(options)


def read_options(message: pb.StageOptions) -> FamilyOptions:
    """The choices for one component; clients without families mean diffusion."""
    return READERS[message.WhichOneof("family") or "diffusion"](message)


def diffusion_message(options: FamilyOptions) -> pb.StageOptions:
    """The choices for a diffusion stage, said twice: older servers know no family."""
    values = chosen(options)
    return pb.StageOptions(**values, diffusion=pb.DiffusionOptions(**values))


def read_diffusion(message: pb.StageOptions) -> DiffusionOptions:
    """The choices for a diffusion stage."""
    # Clients from before families put the choices beside the oneof; both places are the same
    # numbers.
    said: Any = message.diffusion if message.HasField("diffusion") else message
    return DiffusionOptions(
        # HasField tells an explicit 0, which is refused with its name, from nothing asked.
        steps=said.steps if said.HasField("steps") else None,
        guidance=said.guidance if said.HasField("guidance") else None,
        augmentation=said.augmentation if said.HasField("augmentation") else None,
    )


def pixels_message(options: FamilyOptions) -> pb.StageOptions:
    """The choices for a stage of pixels by groups."""
    return pb.StageOptions(pixels=pb.PixelOptions(**chosen(options)))


def read_pixels(message: pb.StageOptions) -> PixelOptions:
    """The choices for a stage of pixels by groups."""
    said: Any = message.pixels
    names = ("temperature_16", "floor_16", "guidance_16", "augmentation")
    return PixelOptions(**{name: getattr(said, name) for name in names if said.HasField(name)})


WRITERS: Mapping[type, Callable[[FamilyOptions], pb.StageOptions]] = {
    DiffusionOptions: diffusion_message,
    PixelOptions: pixels_message,
    # Nothing can be chosen, so nothing is said.
    TextOptions: lambda _: pb.StageOptions(),
    LabelOptions: lambda _: pb.StageOptions(),
    AutoencoderOptions: lambda _: pb.StageOptions(),
}
READERS: Mapping[str, Callable[[pb.StageOptions], FamilyOptions]] = {
    "diffusion": read_diffusion,
    "pixels": read_pixels,
}
"""By the name of the field in the oneof."""
