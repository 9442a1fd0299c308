"""The vocabulary of shapes: one name per kind of array that this package passes around.

The names carry shape and dtype for the reader and for type checkers. They know no image format,
no network and no wire. (Plain `typing.Annotated`, so that neither the light client nor a bare
training machine needs a package for it: docs/decisions/0003-shape-vocabulary.md.)
"""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Any array; where it enters, its dtype and shape are checked."""

ImageU8 = Annotated[NDArray[np.uint8], "height width 3"]
"""A picture as it crosses a component boundary: RGB, 8 bit, channels last."""

Latent = Annotated[NDArray[np.floating[Any]], "channels height width"]
"""A latent as it crosses a component boundary: float32 or float16, as the manifest says."""

Vector = Annotated[NDArray[np.float32], "width"]
"""Numbers that condition a picture beside its context, as they cross every boundary."""

Flags = Annotated[NDArray[np.bool_], "height width"]
"""Whether something holds, for every pixel of a picture."""

PlaneU8 = Annotated[NDArray[np.uint8], "height width"]
"""One channel of a picture, 8 bit."""

Batch = Annotated[NDArray[np.float32], "batch 3 height width"]
"""Pictures inside a stage: planar RGB in [-1, 1] and beyond while noisy."""

PerSample = Annotated[NDArray[np.float32], "batch"]
"""One number per picture: a time, an augmentation level, a guidance weight."""

Times = Annotated[NDArray[np.float64], "..."]
"""Times in [0, 1], or functions of them, in double precision."""

ContextF16 = Annotated[NDArray[np.float16], "tokens width"]
"""Text embeddings of the real tokens as they cross a component boundary."""

TokenIds = Annotated[NDArray[np.int64], "tokens"]
"""Token numbers of one prompt."""

Time = Times | float | np.floating[Any]
"""One time or many."""

Words = Annotated[NDArray[np.uint32], "..."]
"""Random 32-bit words."""
