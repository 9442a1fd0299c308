"""Inputs of several rows joined into one run of the engine, and its outputs cut apart again.

Every input has its batch axis first and is given per sample, so joining is concatenating. Inputs of
unequal length can be filled with zeros that a mask leaves out, where the engine makes the same of
them; a graph that takes no mask takes only equal lengths. Knows arrays and their axes; neither what
they mean nor who asks.
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from cascade.numerics.finite import is_finite
from cascade.numerics.length_buckets import pad_tokens
from cascade.types import Array
from runtime_server.batching.graph_axes import PADDED_AXIS, GraphAxes

Arrays = Mapping[str, Array]


def rows_of(inputs: Arrays) -> int:
    """Samples along the batch axis."""
    return max((len(value) for value in inputs.values()), default=0)


def batch_key(inputs: Arrays, axes: GraphAxes, *, allows_padding: bool) -> Hashable:
    """Equal for inputs that may be joined.

    Args:
        inputs: of one run request, batch axis first.
        axes: of the graph.
        allows_padding: whether inputs of unequal length may be.
    """
    # An optional input may be left out; then there is no mask to hide what would be added.
    free = axes.padded if allows_padding and axes.padded <= inputs.keys() else ()
    return tuple(
        (name, value.dtype.str, value.shape[PADDED_AXIS + (name in free) :])
        for name, value in sorted(inputs.items())
    )


def size_bytes_of(inputs: Arrays, axes: GraphAxes) -> int:
    """Of the inputs, and of the outputs to come."""
    return sum(value.nbytes for value in inputs.values()) + axes.output_bytes(inputs)


def joined(parts: Sequence[Arrays], axes: GraphAxes) -> dict[str, Array]:
    """The inputs of one run for all; they are of one `batch_key`."""
    whole = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        if name in axes.padded:
            length = max(value.shape[PADDED_AXIS] for value in values)
            values = [pad_tokens(value, length) for value in values]
        whole[name] = np.concatenate(values)
    return whole


def cut(outputs: Arrays, rows: Sequence[int]) -> list[dict[str, Array]]:
    """Each part's own outputs; views of the whole.

    Args:
        outputs: of a joint run, batch axis first.
        rows: samples of each part, in order.
    """
    # Views: a copy of every part would cost as much as the join did.
    ends = np.cumsum(rows).tolist()
    return [
        {name: value[end - count : end] for name, value in outputs.items()}
        for end, count in zip(ends, rows, strict=True)
    ]


def all_finite(outputs: Arrays) -> bool:
    """Whether no number is NaN or infinite."""
    return all(is_finite(value) for value in outputs.values())
