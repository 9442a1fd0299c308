"""Proof that a network leaves out what its mask marks 0: texts are shown filled up to full lengths.

Knows engines and their inputs; not modules or files.
"""

from collections.abc import Mapping

import numpy as np

from cascade.engine import Engine
from cascade.errors import ParityError
from cascade.types import Array

TOLERANCE = 1e-3
"""Of the largest output: sums over another length round otherwise, no more."""
CONTENT = {"token_mask": "token_ids", "context_mask": "context"}
"""A mask's input, and the input whose tokens it marks."""


def prove_mask(
    name: str, engine: Engine, inputs: Mapping[str, Array], output: str, *, per_token: bool
) -> None:
    """Compare a text that ends with one whose rest is masked.

    Args:
        name: of the component, for the error.
        engine: runs the original network.
        inputs: one batch of its inputs, `token_mask` or `context_mask` `[B, L]` among them; of
            texts of one token nothing can be told.
        output: which output counts.
        per_token: whether the output has a row per token; those of the rest are nobody's.

    Raises:
        ParityError: what the mask marks 0 changes the answer.
    """
    mask = next((m for m in CONTENT if m in inputs), None)
    if mask is None or inputs[mask].shape[1] < 2:
        return
    kept = inputs[mask].shape[1] // 2
    whole, short = dict(inputs), dict(inputs)
    whole[mask] = inputs[mask].copy()
    whole[mask][:, kept:] = 0
    for each in (mask, CONTENT[mask]):
        short[each] = np.ascontiguousarray(inputs[each][:, :kept])
    found, expected = engine.run(whole)[output], engine.run(short)[output]
    found = found[:, :kept] if per_token else found
    error = float(np.abs(found - expected).max())
    if not error <= TOLERANCE * float(np.abs(expected).max()):
        raise ParityError(
            f"{name}: tokens whose {mask} is 0 change its {output} by {error:.1e}; texts are "
            "filled up to full lengths, so the network must leave them out",
            field=mask,
        )
