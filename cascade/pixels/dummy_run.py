"""A run of pixels by groups that means nothing: noise for its first pass.

Knows the record; what uses it tries, times or warms up engines.
"""

from collections.abc import Mapping

import numpy as np

from cascade.pixels.request_options import PixelOptions
from cascade.pixels.spec import PASS, PixelSpec
from cascade.pixels.weights import UNIT_SIXTEENTHS
from cascade.request import FamilyOptions, Handoff
from cascade.start_inputs import blank_start
from cascade.types import Array


class PixelDummyRun:
    """See `cascade.family.DummyRun`."""

    def axes(self, spec: PixelSpec, *, batch: int, tokens: int) -> dict[str, int]:
        """Rows and tokens."""
        del spec
        return {"batch": batch, "tokens": tokens}

    def rows(self, spec: PixelSpec) -> int:
        """Guidance doubles the rows."""
        return 1 if spec.guidance_16 == UNIT_SIXTEENTHS else 2

    def inputs(self, spec: PixelSpec, role: str, axes: Mapping[str, int]) -> dict[str, Array]:
        """Noise where pictures or features belong, red asked for at random pixels.

        Shapes and dtypes are the graph's.
        """
        rng = np.random.default_rng(0)
        most = {"canvas": 255, "low_res": 255, "features": 255, "targets": spec.makes.pixels - 1}
        inputs: dict[str, Array] = {}
        for tensor in spec.graphs[role].inputs:
            shape = tensor.shape_with(axes)
            values = rng.integers(0, most.get(tensor.name, 1), shape, endpoint=True)
            inputs[tensor.name] = values.astype(tensor.dtype)
        return inputs

    def start(self, spec: PixelSpec, *, tokens: int) -> Handoff:
        """Embeddings of zeros, and a white picture."""
        return blank_start(spec.graphs[PASS], spec.starts_from, tokens)

    def options(self, spec: PixelSpec) -> FamilyOptions:
        """The defaults: the number of passes is the order's."""
        del spec
        return PixelOptions()
