"""Parts of a manifest, and manifests with other parts, for tests that change one thing."""

from collections.abc import Iterable
from dataclasses import replace

from cascade.boundary import BoundaryValue, Context, Image
from cascade.bundle.manifest import Manifest
from cascade.diffusion.family import diffusion_specs
from cascade.diffusion.spec import DiffusionSpec
from cascade.text.family import text_encoder_of
from cascade.text.spec import TextEncoderSpec


def stages_of(manifest: Manifest) -> tuple[DiffusionSpec, ...]:
    """The diffusion stages, in order."""
    return diffusion_specs(manifest.components)


def encoder_of(manifest: Manifest) -> TextEncoderSpec:
    """The text encoder."""
    return text_encoder_of(manifest.components)


def with_stages(manifest: Manifest, stages: Iterable[DiffusionSpec]) -> Manifest:
    """The same with other diffusion stages."""
    return replace(manifest, components=(encoder_of(manifest), *stages))


def with_encoder(manifest: Manifest, encoder: TextEncoderSpec) -> Manifest:
    """The same with another text encoder."""
    return replace(manifest, components=(encoder, *manifest.components[1:]))


def square(size: int) -> Image:
    """A picture as wide as it is high."""
    return Image(width=size, height=size)


def starts(low: int | None, width: int) -> tuple[BoundaryValue, ...]:
    """What a diffusion stage starts from.

    Args:
        low: size of the picture that it enlarges; None of a base stage.
        width: of the embeddings.
    """
    text = Context(width=width)
    return (text,) if low is None else (text, square(low))


def enlarging(spec: DiffusionSpec, low: int | None, size: int) -> DiffusionSpec:
    """The same stage between other sizes."""
    text = next(value for value in spec.starts_from if isinstance(value, Context))
    return replace(spec, starts_from=starts(low, text.width), makes=square(size))
