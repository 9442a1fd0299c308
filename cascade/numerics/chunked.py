"""Large arrays in chunks, each small enough to stay near the processor.

Arithmetic on a 1024x1024 picture is bound by memory, not by the processor: a temporary array of
12 MB costs more than the sum that fills it. So a chain of operations runs piece by piece, and its
temporaries never leave the cache. No value depends on how an array was cut: everything here is
element by element. One thread: two were slower (docs/decisions/0013-host-share.md). Knows arrays;
not what they mean.
"""

from collections.abc import Iterator

import numpy as np

from cascade.types import Array, Batch

CHUNK = 1 << 18
"""Values worked on at a time, 1 MiB in float32: with fewer the calls cost more than the work, with
more the temporaries are as slow as the arrays."""


def chunks(size: int, chunk: int = CHUNK) -> Iterator[slice]:
    """Slices of at most `chunk` items that cover `range(size)` in order."""
    for begin in range(0, size, chunk):
        yield slice(begin, min(begin + chunk, size))


def weighted_sum(*terms: tuple[Array | float, Batch]) -> Batch:
    """`w_0 a_0 + w_1 a_1 + ...`, added from left to right, every product and sum in float32.

    Args:
        terms: weight and images each; a weight is one number or one per image `[B]`, images are
            `[B, ...]` float32 of one shape.

    Returns:
        A new array of that shape.
    """
    shape = terms[0][1].shape
    out = np.empty(shape, np.float32)
    weights = [np.broadcast_to(np.asarray(w, np.float32), (shape[0],)) for w, _ in terms]
    for index in range(shape[0]):
        lines = [images[index].reshape(-1) for _, images in terms]
        line_out = out[index].reshape(-1)
        scratch = np.empty(min(CHUNK, len(line_out)), np.float32)
        for part in chunks(len(line_out)):
            total = np.multiply(lines[0][part], weights[0][index], out=line_out[part])
            for weight, line in zip(weights[1:], lines[1:], strict=True):
                total += np.multiply(line[part], weight[index], out=scratch[: len(total)])
    return out
