"""Whether everything that a bundle makes can cross the wire at every cut, before any of it is made.

What the manifest alone decides is refused when a bundle is exported, verified and served, so that
no picture is computed and then lost. The sizes that both sides of the wire keep stand
here, because a bundle must respect them; `wire.limits` has the others.
"""

from cascade.bundle.manifest import Manifest
from cascade.diffusion.request_options import MAX_STEPS
from cascade.diffusion.spec import DiffusionSpec
from cascade.errors import ManifestError

MAX_MESSAGE_BYTES = 8 << 20
"""Largest message in either direction: a raw 1024x1024 picture (3 MiB) with room to spare."""

MAX_RESOLUTION = 8192
"""Largest picture of a stage. As raw pixels it takes 192 MiB, in flight, in the store and, joined
from fragments, at the client; decoders refuse more than 9459."""

MAX_CONTEXT_TOKENS = 512

ENVELOPE_BYTES = 64 << 10
"""What a message holds beside a context."""


def check_wire_limits(manifest: Manifest) -> None:
    """Refuse a bundle that would not work at every cut.

    Raises:
        ManifestError: naming the component, the field and the limit.
    """
    check_context_fits(manifest)
    starts: dict[int | None, str] = {}
    for index, stage in enumerate(manifest.stages):
        path = f"manifest.stages[{index}]"
        check_sizes(stage, path)
        if not 1 <= stage.steps <= MAX_STEPS:
            raise ManifestError(
                f"{path}.steps: {stage.name} takes {stage.steps} by default, 1 to {MAX_STEPS} can "
                "be asked for",
                field=f"{path}.steps",
            )
        if stage.input_resolution in starts:
            raise ManifestError(
                f"{path}.input_resolution: {stage.name} starts from {stage.input_resolution} as "
                f"{starts[stage.input_resolution]} does: a server could not tell where to begin",
                field=f"{path}.input_resolution",
            )
        starts[stage.input_resolution] = stage.name


def check_sizes(stage: DiffusionSpec, path: str) -> None:
    """Refuse pictures that cannot be sent, or not be made from those before.

    Raises:
        ManifestError: naming the field under `path`.
    """
    size, before = stage.output_resolution, stage.input_resolution
    wrong = ""
    if not 1 <= size <= MAX_RESOLUTION:
        wrong = f"makes pictures of {size}, 1 to {MAX_RESOLUTION} can be sent"
    elif before is not None and size % before:
        wrong = f"enlarges {before} to {size}, expected a whole multiple"
    if wrong:
        raise ManifestError(
            f"{path}.output_resolution: {stage.name} {wrong}", field=f"{path}.output_resolution"
        )


def check_context_fits(manifest: Manifest) -> None:
    """Refuse a text encoder whose longest context cannot be sent.

    Raises:
        ManifestError: naming the field and the limit.
    """
    encoder = manifest.text_encoder
    if encoder.max_tokens > MAX_CONTEXT_TOKENS:
        raise ManifestError(
            f"manifest.text_encoder.max_tokens: {encoder.name} takes {encoder.max_tokens}, at most "
            f"{MAX_CONTEXT_TOKENS} can be sent",
            field="manifest.text_encoder.max_tokens",
        )
    size_bytes = 2 * encoder.max_tokens * encoder.context_width
    if size_bytes > MAX_MESSAGE_BYTES - ENVELOPE_BYTES:
        raise ManifestError(
            f"manifest.text_encoder.context_width: {encoder.max_tokens} tokens of "
            f"{encoder.context_width} take {size_bytes} bytes, a message holds {MAX_MESSAGE_BYTES}",
            field="manifest.text_encoder.context_width",
        )
