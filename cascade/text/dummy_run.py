"""A text encoder's run that means nothing: token numbers that every vocabulary has.

Knows the record; what uses it tries, times or warms up engines.
"""

from collections.abc import Mapping

import numpy as np

from cascade.request import FamilyOptions, Handoff
from cascade.text.request_options import TextOptions
from cascade.text.spec import TextEncoderSpec
from cascade.types import Array


class TextDummyRun:
    """See `cascade.family.DummyRun`."""

    def axes(self, spec: TextEncoderSpec, *, batch: int, tokens: int) -> dict[str, int]:
        """Rows and tokens."""
        del spec
        return {"batch": batch, "tokens": tokens}

    def rows(self, spec: TextEncoderSpec) -> int:
        """One prompt at a time."""
        del spec
        return 1

    def inputs(self, spec: TextEncoderSpec, role: str, axes: Mapping[str, int]) -> dict[str, Array]:
        """Token numbers 0 and 1, which every vocabulary has; the mask is any number in [0, 1).

        Shapes and dtypes are the graph's.
        """
        rng = np.random.default_rng(0)
        inputs: dict[str, Array] = {}
        for tensor in spec.graphs[role].inputs:
            values = rng.random(tensor.shape_with(axes)) * (1 if tensor.dtype == "float32" else 2)
            inputs[tensor.name] = values.astype(tensor.dtype)
        return inputs

    def start(self, spec: TextEncoderSpec, *, tokens: int) -> Handoff:
        """The shortest prompt."""
        del spec, tokens
        return Handoff(prompt="a")

    def options(self, spec: TextEncoderSpec) -> FamilyOptions:
        """None."""
        del spec
        return TextOptions()
