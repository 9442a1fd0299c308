"""The unconditional question: what stands in the place of the text for guidance.

Either the same embeddings with every token masked out, or embeddings of their own that the bundle
holds. Knows graph inputs; not guidance weights or networks.
"""

from collections.abc import Mapping

import numpy as np

from cascade.diffusion.spec import StoredContext
from cascade.errors import ManifestError
from cascade.graph_spec import GraphSpec
from cascade.numerics.length_buckets import bucket_length, pad_tokens
from cascade.types import Array, ContextF16


def read_stored_context(spec: StoredContext, data: bytes, width: int) -> ContextF16:
    """The null context from the bytes of its file.

    Args:
        spec: its entry in the manifest.
        data: the file.
        width: of the text encoder's embeddings.

    Returns:
        `[tokens, width]` float16, finite.

    Raises:
        ManifestError: the bytes are not `tokens * width` finite numbers.
    """
    if spec.tokens < 1 or len(data) != 2 * spec.tokens * width:
        raise ManifestError(
            f"{spec.file}: expected {spec.tokens} x {width} float16 numbers, got {len(data)} bytes"
        )
    context = np.frombuffer(data, "<f2").reshape(spec.tokens, width).astype(np.float16)
    if not np.isfinite(context).all():
        raise ManifestError(f"{spec.file}: it holds NaN or infinity")
    return context


def null_inputs(graph: GraphSpec, width: int, null: ContextF16 | None) -> dict[str, Array]:
    """The context of a request without words.

    Args:
        graph: has an input `context`.
        width: of the embeddings.
        null: as of `with_null_half`.

    Returns:
        `context`, `[1, length, width]`, and `context_mask`, `[1, length]`; both float32.
    """
    if null is not None:
        return {
            "context": null[None].astype(np.float32),
            "context_mask": np.ones((1, len(null)), np.float32),
        }
    (shape,) = [tensor.shape for tensor in graph.inputs if tensor.name == "context"]
    length = shape[-2] if isinstance(shape[-2], int) else bucket_length(1)
    return {
        "context": np.zeros((1, length, width), np.float32),
        "context_mask": np.zeros((1, length), np.float32),
    }


def with_other_half(
    conditioning: Mapping[str, Array], other: Mapping[str, Array]
) -> dict[str, Array]:
    """The conditioning of a batch of twice the size: the text's half, then another text's.

    Args:
        conditioning: graph inputs of one request, `[B, ...]` float32, B being 1.
        other: `context` `[B, L, W]` and `context_mask` `[B, L]` of the other text, float32.

    Returns:
        The same inputs, `[2 * B, ...]` float32; the shorter text is filled with masked-out zeros.
    """
    doubled = {key: np.concatenate([value, value]) for key, value in conditioning.items()}
    length = max(conditioning["context_mask"].shape[1], other["context_mask"].shape[1])
    for name in ("context", "context_mask"):
        halves = [pad_tokens(conditioning[name], length), pad_tokens(other[name], length)]
        doubled[name] = np.concatenate(halves)
    return doubled


def with_null_half(conditioning: Mapping[str, Array], null: ContextF16 | None) -> dict[str, Array]:
    """The conditioning of a batch of twice the size: the text's half, then the one without.

    Args:
        conditioning: graph inputs of one request, `[B, ...]` float32.
        null: the embeddings to ask with, `[tokens, width]`; None masks the text's own tokens out.

    Returns:
        The same inputs, `[2 * B, ...]` float32. A shorter context is filled with masked-out zeros.
    """
    doubled = {key: np.concatenate([value, value]) for key, value in conditioning.items()}
    if "context" not in conditioning:
        # Guided by vectors alone.
        return doubled
    mask = conditioning["context_mask"]
    if null is None:
        doubled["context_mask"] = np.concatenate([mask, np.zeros_like(mask)])
        return doubled
    other = np.repeat(null[None].astype(np.float32), len(mask), axis=0)
    length = max(mask.shape[1], other.shape[1])
    other_mask = np.ones(other.shape[:2], np.float32)
    halves = (
        (conditioning["context"], other, "context"),
        (mask, other_mask, "context_mask"),
    )
    for text, empty, name in halves:
        doubled[name] = np.concatenate([pad_tokens(text, length), pad_tokens(empty, length)])
    return doubled
