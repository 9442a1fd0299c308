"""Latents between components: the numbers that a network made, rounded to the declared dtype.

A latent that stays on a machine is rounded as one that travels, so that a cut changes no bit. Knows
no network and no wire.
"""

import numpy as np

from cascade.boundary import Tensor
from cascade.errors import StageError
from cascade.numerics.finite import is_finite
from cascade.types import Batch, Latent


def as_latent(name: str, planes: Batch, declared: Tensor) -> Latent:
    """The first latent of a batch as it crosses a boundary.

    Args:
        name: of the component that made it, for the error.
        planes: `[B, C, H, W]` float32.
        declared: its shape `[C, H, W]` and dtype.

    Returns:
        `[C, H, W]` float32 or float16, in memory of its own.

    Raises:
        StageError: it is of another shape, or a number is not finite in that dtype.
    """
    if planes.shape[1:] != declared.shape:
        raise StageError(f"{name}: made {list(planes.shape[1:])}, expected {list(declared.shape)}")
    with np.errstate(over="ignore"):
        made = np.array(planes[0], declared.dtype, order="C")
    if not is_finite(made):
        raise StageError(
            f"{name}: its latent holds NaN or infinity as {declared.dtype}: the network "
            "overflowed; try another precision or engine",
            field=name,
        )
    return made
