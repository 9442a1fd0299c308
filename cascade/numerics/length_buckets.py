"""Length buckets: texts padded to one of a few lengths; the mask leaves out what was added.

An engine prepares itself for every length that it meets. With a length for every prompt OpenVINO's
memory grew by 200 MiB in 255 prompts; with a dozen it is bounded, and texts of unequal length share
runs more often. Rounding decides the last bits of a picture: a sum over eight tokens is added up
in another order than one over seven. So it happens here, for every engine, on both sides of every
cut, and not in an engine. What crosses the wire stays as long as the text. Knows arrays; not words.
"""

import numpy as np

from cascade.types import Array

LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Tokens. Multiples of eight: the vectors of all processors divide them."""


def bucket_length(tokens: int, longest: int = LENGTHS[-1]) -> int:
    """The length at which a text is shown to an engine.

    Args:
        tokens: of the text, at least 1.
        longest: that the engine's graph can take.

    Returns:
        The next of `LENGTHS`, but `longest` at most; a text beyond both stays as it is.
    """
    fitting = next((length for length in LENGTHS if length >= tokens), tokens)
    return max(tokens, min(fitting, longest))


def pad_tokens(rows: Array, length: int) -> Array:
    """Rows of tokens, zeros behind them.

    Args:
        rows: `[B, tokens, ...]`, any dtype.
        length: at least `tokens`.

    Returns:
        `[B, length, ...]` of that dtype.
    """
    missing = [(0, 0)] * rows.ndim
    missing[1] = (0, length - rows.shape[1])
    return np.pad(rows, missing)
