"""Whether everything that a bundle makes can cross the wire at every cut, before any of it is made.

What the manifest alone decides is refused when a bundle is exported, verified and served, so that
no picture is computed and then lost. The sizes that both sides of the wire keep stand
here, because a bundle must respect them; `wire.limits` has the others.
"""

from cascade.boundary import Context, Image, Tensor
from cascade.bundle.manifest import Manifest
from cascade.errors import ManifestError
from cascade.families import cost_of
from cascade.family import ComponentSpec

MAX_MESSAGE_BYTES = 8 << 20
"""Largest message in either direction: a raw 1024x1024 picture (3 MiB) with room to spare."""

MAX_RESOLUTION = 8192
"""Largest picture of a stage. As raw pixels it takes 192 MiB, in flight, in the store and, joined
from fragments, at the client; decoders refuse more than 9459."""

MAX_CONTEXT_TOKENS = 512

ENVELOPE_BYTES = 64 << 10
"""What a message holds beside a context or a latent."""

MAX_TENSOR_BYTES = MAX_MESSAGE_BYTES - ENVELOPE_BYTES
"""Of a latent: 4 channels of float32 up to 716x716, which a decoder makes 5728x5728 of."""


def check_wire_limits(manifest: Manifest) -> None:
    """Refuse a bundle that would not work at every cut.

    Raises:
        ManifestError: naming the component, the field and the limit.
    """
    for index, spec in enumerate(manifest.components):
        path = f"manifest.components[{index}]"
        if isinstance(spec.makes, Image):
            check_sizes(spec.name, spec.makes, path)
        if isinstance(spec.makes, Tensor):
            check_tensor_fits(spec.name, spec.makes, path)
        check_result_fits(spec, path)


def check_sizes(name: str, made: Image, path: str) -> None:
    """Refuse pictures that cannot be sent.

    Raises:
        ManifestError: naming the field under `path`.
    """
    if not 1 <= min(made.width, made.height) <= max(made.width, made.height) <= MAX_RESOLUTION:
        raise ManifestError(
            f"{path}.makes: {name} makes pictures of {made.width}x{made.height}, 1 to "
            f"{MAX_RESOLUTION} either way can be sent",
            field=f"{path}.makes",
        )


def check_tensor_fits(name: str, made: Tensor, path: str) -> None:
    """Refuse latents `[channels, height, width]` that no message holds.

    Raises:
        ManifestError: naming the field under `path` and the limit.
    """
    if made.size_bytes > MAX_TENSOR_BYTES:
        raise ManifestError(
            f"{path}.makes: {name} makes {made}, {made.size_bytes} bytes; at most "
            f"{MAX_TENSOR_BYTES} can be sent",
            field=f"{path}.makes",
        )


def check_result_fits(spec: ComponentSpec, path: str) -> None:
    """Refuse embeddings that cannot be sent.

    Raises:
        ManifestError: naming the field and the limit.
    """
    made = spec.makes
    if not isinstance(made, Context):
        return
    size_bytes = cost_of(spec).result_bytes
    # Two bytes a number: contexts travel in half precision.
    tokens = size_bytes // max(1, 2 * made.width)
    if tokens > MAX_CONTEXT_TOKENS:
        raise ManifestError(
            f"{path}.max_tokens: {spec.name} takes {tokens}, at most {MAX_CONTEXT_TOKENS} can be "
            "sent",
            field=f"{path}.max_tokens",
        )
    if size_bytes > MAX_MESSAGE_BYTES - ENVELOPE_BYTES:
        raise ManifestError(
            f"{path}.makes.width: {tokens} tokens of {made.width} take {size_bytes} bytes, a "
            f"message holds {MAX_MESSAGE_BYTES}",
            field=f"{path}.makes.width",
        )
