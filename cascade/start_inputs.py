"""What a component starts from as inputs of its graph: checked, and filled to a bucket's length.

Every family whose networks read texts and pictures asks here. Knows a graph and a handoff; no
family.
"""

from collections.abc import Iterable

import numpy as np

from cascade.boundary import BoundaryValue, Context, Image, Tensor, value_of
from cascade.errors import InvalidRequest
from cascade.graph_spec import GraphSpec
from cascade.numerics.finite import is_finite
from cascade.numerics.length_buckets import bucket_length, pad_tokens
from cascade.request import Handoff
from cascade.types import Array, ImageU8, Latent


def context_inputs(name: str, graph: GraphSpec, handoff: Handoff) -> dict[str, Array]:
    """The context as graph inputs, at the length of its bucket where the graph has a mask.

    Args:
        name: of the component, for errors.
        graph: has an input `context`.
        handoff: its context is `[tokens, width]`.

    Returns:
        `context`, `[1, length, width]`, and `context_mask`, `[1, length]` with 1 for real tokens;
        both float32.

    Raises:
        InvalidRequest: there is none, its shape does not fit the graph, or it holds NaN or
            infinity.
    """
    context = handoff.context
    if context is None:
        raise InvalidRequest(f"context: {name} needs text embeddings", field="context")
    tokens, width = next(i.shape[-2:] for i in graph.inputs if i.name == "context")
    fits = context.ndim == 2 and context.shape[1] == width
    if not fits or len(context) not in ([tokens] if isinstance(tokens, int) else range(1, 513)):
        expected = tokens if isinstance(tokens, int) else "1 to 512"
        raise InvalidRequest(
            f"context.shape: expected [{expected}, {width}], got {list(context.shape)}",
            field="context.shape",
        )
    if not is_finite(context):
        raise InvalidRequest(
            f"context.data: holds NaN or infinity; {name} needs finite text embeddings",
            field="context.data",
        )
    # Without a mask a network reads every row: to fill up would change the picture.
    masked = any(i.name == "context_mask" for i in graph.inputs)
    free = masked and not isinstance(tokens, int)
    length = bucket_length(len(context)) if free else len(context)
    return {
        "context": pad_tokens(context[None].astype(np.float32), length),
        "context_mask": pad_tokens(np.ones((1, len(context)), np.float32), length),
    }


def low_image(name: str, shape: tuple[int, int, int], handoff: Handoff) -> ImageU8:
    """The picture that a component starts from, uint8 `[height, width, 3]` of the declared shape.

    Raises:
        InvalidRequest: there is none, or its shape is another.
    """
    size = f"{shape[1]}x{shape[0]}"
    if handoff.image is None:
        raise InvalidRequest(f"image: {name} needs one of {size}", field="image")
    if handoff.image.shape != shape:
        raise InvalidRequest(
            f"image: {name} starts from {size} RGB, got {list(handoff.image.shape)}", field="image"
        )
    return handoff.image


def latent(name: str, declared: Tensor, handoff: Handoff) -> Latent:
    """The latent `[channels, height, width]` that a component starts from, as it is declared.

    Raises:
        InvalidRequest: there is none, its shape or dtype is another, or it holds NaN or infinity.
    """
    given = handoff.tensor
    if given is None:
        raise InvalidRequest(f"tensor: {name} needs {declared}", field="tensor")
    if given.shape != declared.shape or given.dtype.name != declared.dtype:
        raise InvalidRequest(
            f"tensor: {name} starts from {declared}, got {list(given.shape)} {given.dtype.name}",
            field="tensor",
        )
    if not is_finite(given):
        raise InvalidRequest(
            f"tensor.data: holds NaN or infinity; {name} needs finite numbers", field="tensor.data"
        )
    return given


def blank_start(graph: GraphSpec, starts_from: Iterable[BoundaryValue], tokens: int) -> Handoff:
    """What stands for any start of a component: embeddings of zeros, and a white picture.

    A latent is zeros too.

    Args:
        graph: has an input `context` where the component starts from one.
        starts_from: of the component.
        tokens: length of the context, where the graph leaves it open.
    """
    values = tuple(starts_from)
    text, low, numbers = (
        value_of(Context, values),
        value_of(Image, values),
        value_of(Tensor, values),
    )
    context, image, tensor = None, None, None
    if text is not None:
        (shape,) = [t.shape for t in graph.inputs if t.name == "context"]
        length = shape[-2] if isinstance(shape[-2], int) else tokens
        context = np.zeros((length, text.width), np.float16)
    if low is not None:
        image = np.full(low.shape, low.levels - 1, np.uint8)
    if numbers is not None:
        tensor = np.zeros(numbers.shape, numbers.dtype)
    return Handoff(context=context, image=image, tensor=tensor)
